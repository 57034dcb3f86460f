"""What a benchmark's result was made with; part of every result, so that it can be told which code and which call a figure is of."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.manifest import hardware, versions

_ROOT = Path(__file__).resolve().parents[1]


def made_with(called: Sequence[str] = sys.argv, *, beside: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`command`, `code`, `data` where the call names a folder of it, `versions`, with those of peers `beside`, and `machine`, JSON-safe."""
    found: dict[str, Any] = {"command": command(called), "code": _CODE}
    if "--data" in called[:-1]:
        found["data"] = digest(Path(called[called.index("--data") + 1]))
    return {**found, "versions": {**versions(), **(beside or {})}, "machine": hardware()}


def command(called: Sequence[str]) -> str:
    """The call without what is of this machine alone: folders are `DIR`."""
    script, *given = called
    shown = ["DIR" if "/" in each or Path(each).exists() else each for each in given]
    return " ".join(["python", f"benchmarks/{Path(script).name}", *shown])


def code(root: Path) -> str | None:
    """The commit of the checkout at `root`, with `-dirty` behind it if a file was changed; None where there is no checkout."""
    asked = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


_CODE = code(_ROOT)
"""When a run begins: it may be long, and the checkout another one at its end."""


def digest(folder: Path) -> str:
    """Of the names and sizes of all files in a folder: tells another edition of the data, not a changed reading."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    listed = "\n".join(f"{each.relative_to(folder).as_posix()} {each.stat().st_size}" for each in files)
    return hashlib.sha256(listed.encode()).hexdigest()[:12]
