"""What tests wait for while other threads and processes work: a condition, and never a time after which it ought to hold."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

HANGS = 240.0
"""Seconds after which what has not come is not coming: many times what a slow and busy machine needs, and less than one test may take."""


def wait_for(condition: Callable[[], object]) -> None:
    """Return once the condition holds."""
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end, f"did not happen within {HANGS:.0f} s"
        time.sleep(0.05)


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that only waits for its parent to ask how it ended does not."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def paths(folder: Path) -> list[Path]:
    """All paths below a folder in which others work; `rglob` fails where one of its folders goes away meanwhile, as a data set's does when it is published."""
    return [Path(root, name) for root, folders, names in os.walk(folder) for name in (*folders, *names)]
