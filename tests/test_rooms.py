"""Which room may import which: read from the source, so that no import has to run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "ingestion": {"models", "pipeline", "tensorflow", "tensorflow_federated", "keras"},
    "models": {"ingestion", "pipeline", "kafka", "tensorflow_federated"},
    "pipeline": {"tests", "benchmarks"},
}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_a_room_imports_only_what_it_may_know(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    found = {(str(path.relative_to(ROOT)), name) for path in files for name in imported(path)}
    assert {entry for entry in found if entry[1] in FORBIDDEN[room]} == set()


def test_only_the_federation_imports_tensorflow_federated():
    users = {
        path.relative_to(ROOT).parts[:2]
        for room in FORBIDDEN
        for path in (ROOT / room).rglob("*.py")
        if "tensorflow_federated" in set(imported(path))
    }
    assert users <= {("pipeline", "federation")}


def test_only_the_command_line_starts_jobs():
    def modules(path: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module

    users = {
        path.relative_to(ROOT / "pipeline").parts[0]
        for path in (ROOT / "pipeline").rglob("*.py")
        if any(name == "pipeline.jobs" or name.startswith("pipeline.jobs.") for name in modules(path))
    }
    assert users == {"cli", "jobs"}
