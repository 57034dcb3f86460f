"""Bringing many new files to stable storage at the price of few."""

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Below this many files the pages of everybody else on the file system cost more than syncing one by one.
_TOGETHER_FROM = 4


class Batch:
    """Files written and not yet synced."""

    def __init__(self, together: bool) -> None:
        self._together = together
        self.open: list[int] = []

    def write(self, path: str, content: bytes) -> None:
        """Create `path` exclusively with this content. Raises OSError."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        if not self._together:
            self.open.append(descriptor)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            if self._together:
                os.close(descriptor)


@contextmanager
def synced(folder: Path, files: int) -> Iterator[Batch]:
    """Whatever is written through the batch is on stable storage when the block ends without an exception. Raises OSError.

    Many files share one `syncfs`: a journalling file system otherwise commits once a file. The folder is opened first, so that
    write errors from then on are reported to it (Linux 5.8 and later; older kernels get one `fsync` a file).
    """
    together = files >= _TOGETHER_FROM and _SYNCFS is not None
    batch = Batch(together)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield batch
        if together:
            assert _SYNCFS is not None
            if _SYNCFS(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(folder))
        for file in batch.open:
            os.fsync(file)
    finally:
        os.close(descriptor)
        for file in batch.open:
            os.close(file)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _syncfs() -> "ctypes._NamedFuncPointer | None":
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    if version is None or (int(version[1]), int(version[2])) < (5, 8):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


_SYNCFS = _syncfs()
