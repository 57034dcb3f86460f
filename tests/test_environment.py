"""The pinned environment: an override hides a conflict until something is imported, so everything is."""

import importlib
import re
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
IMPORT_NAMES = {
    "tensorflow-cpu": "tensorflow",
    "tensorflow-federated": "tensorflow_federated",
    "kafka-python": "kafka",
    "python-snappy": "snappy",
    "lz4": "lz4.frame",
    "protobuf": "google.protobuf",
}


def dependencies():
    for requirement in PROJECT["project"]["dependencies"]:
        requirement, _, marker = requirement.partition(";")
        if "python_version < '3.11'" in marker and sys.version_info >= (3, 11):
            continue
        yield re.match(r"[A-Za-z0-9-]+", requirement).group()


@pytest.mark.parametrize("name", list(dependencies()))
def test_every_dependency_imports_beside_the_others(name):
    importlib.import_module(IMPORT_NAMES.get(name, name.replace("-", "_")))


def test_installed_versions_are_the_pinned_ones():
    # Asked of the environment's own folder: setuptools, once imported, adds its private copies to the path.
    folder = sysconfig.get_path("purelib")
    found = {
        d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions(path=[folder])
    }
    wrong = {}
    for pin in PROJECT["tool"]["uv"]["constraint-dependencies"]:
        requirement, _, marker = pin.partition(";")
        if marker and ("< '3.11'" in marker) == (sys.version_info >= (3, 11)):
            continue
        name, version = requirement.strip().split("==")
        if found.get(name, version) != version:
            wrong[name] = found[name]
    assert len(found) > 50
    assert wrong == {}


def test_no_lock_file_that_records_where_packages_came_from_is_kept():
    assert "uv.lock" in (Path(__file__).parents[1] / ".gitignore").read_text().splitlines()


def test_a_wheel_brings_the_machines_of_the_demo_where_the_demo_looks_for_them():
    from pipeline.jobs import demo

    (source, target), *others = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].items()
    root = Path(demo.__file__).parents[2]
    assert not others
    assert tuple(place.relative_to(root) for place in demo.PLACES) == (Path(source), Path(target))
    assert len(list((root / source).glob("*.parquet"))) == 4
