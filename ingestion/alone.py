"""One process at a time for what a data folder can bear only once."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ingestion.errors import StorageError


@contextlib.contextmanager
def alone(data_dir: Path, work: str) -> Iterator[None]:
    """Hold the folder's lock for this work, of which the message speaks ("compaction"); a process that is killed holds it no longer.

    Raises:
      StorageError: another process holds it.
      OSError: the folder cannot be written.
    """
    folder = data_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / work, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"another {work} runs on {data_dir}; wait for it to end") from None
        yield
    finally:
        os.close(descriptor)
