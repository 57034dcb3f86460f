"""What a result was made with: versions, hardware, configuration, seeds; lies beside every result."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from typing import Any

from pipeline.config.schema import Config

_CLIENT = "confluent-kafka"
_PACKAGES = (
    "fedplant",
    "tensorflow-federated",
    "tensorflow-cpu",
    "kafka-python",
    _CLIENT,
    "pyarrow",
    "pandas",
    "numpy",
    "pydantic",
)


def versions() -> dict[str, str]:
    """Versions of FedPlant, Python and the packages that decide a result; `absent` where one is missing."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return {"python": platform.python_version(), **found}


def hardware() -> dict[str, Any]:
    """The machine's architecture, usable cores and memory in bytes; no name or address of it."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def run_id(snapshot: str, config: Config) -> str:
    """The name of a training: equal readings and equal settings give the same, so a repeated job finds its own result."""
    settings = json.dumps(config.fingerprint_fields(), sort_keys=True, default=str)
    # The reading client decides no result; runs of releases that did not name it keep their name.
    made_with = sorted((package, version) for package, version in versions().items() if package != _CLIENT)
    text = f"{snapshot}\n{config.project.name}\n{settings}\n{made_with}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def manifest(config: Config, snapshot: str | None, sensors: list[str], step_seconds: float) -> dict[str, Any]:
    """Everything that is needed to make the result again, JSON-safe."""
    return {
        "configuration": config.model_dump(mode="json", exclude={"kafka"}),
        "snapshot": snapshot,
        "sensors": sensors,
        "step_seconds": step_seconds,
        "seeds": {"training": config.training.seed},
        "versions": versions(),
        "hardware": hardware(),
    }
