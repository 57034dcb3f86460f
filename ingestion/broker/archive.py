"""Kafka's classes as the JVM keeps them in memory, in a file that later starts map: a start costs half the processor time.

The first start on a machine lists the classes it loads, the second one makes the archive of them (5 s, once), all later ones use it. The JVM
itself looks whether an archive is of its version, its jars and its flags, and starts without one that is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

DUMP_SECONDS = 60
_LIST = "classes.txt"
_KEPT = 3
"""Archives of 65 MB that are kept: one for each Java that was used last."""


def archive_options(home: Path, jvm: list[str], folder: Path, on_message: Callable[[str], None]) -> list[str]:
    """Options for a JVM that starts Kafka: to use the archive, or to list its classes in `folder`, or none.

    `jvm` is the command without class to start; `home` the folder of the jars, in which list and archive lie. Nothing here stops a start: a home
    that cannot be written, a disk that is full or a Java that makes no archive only leave it as slow as it is.
    """
    with contextlib.suppress(OSError):
        archive = home / f"classes-{_identity(Path(jvm[0]))}.jsa"
        if not archive.exists():
            if not (home / _LIST).exists():
                return [f"-XX:DumpLoadedClassList={folder / _LIST}"]
            _make(archive, jvm, on_message)
        # An empty one says that this Java makes none.
        if archive.exists() and archive.stat().st_size > 0:
            return [f"-XX:SharedArchiveFile={archive}"]
    return []


def keep_list(home: Path, folder: Path) -> None:
    """Take over what a JVM that serves by now has listed in `folder`, if it was asked to."""
    listed = folder / _LIST
    with contextlib.suppress(OSError):
        text = listed.read_text()
        listed.unlink()
        new = home / f"{_LIST}.{os.getpid()}"
        # The JVM goes on writing; its last line may be a half.
        new.write_text(text[: text.rfind("\n") + 1])
        new.replace(home / _LIST)


def _identity(java: Path) -> str:
    """The same for copies of one Java in several environments."""
    found = java.resolve().stat()
    return f"{found.st_size:x}-{found.st_mtime_ns:x}"


def _make(archive: Path, jvm: list[str], on_message: Callable[[str], None]) -> None:
    """Make the archive, unless another process is just doing it."""
    new = archive.with_suffix(".new")
    with (archive.parent / "archive.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if archive.exists():
            return
        on_message("preparing faster starts of the broker, once (5 s)")
        options = [
            "-Xshare:dump",
            f"-XX:SharedClassListFile={archive.parent / _LIST}",
            f"-XX:SharedArchiveFile={new}",
        ]
        # The JVM holds the lock too: if we are killed, nobody else writes the same file before it has ended.
        try:
            done = subprocess.run(
                [*jvm, *options],
                capture_output=True,
                timeout=DUMP_SECONDS,
                check=False,
                pass_fds=(lock.fileno(),),
            )
            made = done.returncode == 0 and new.exists()
        except subprocess.TimeoutExpired:
            made = False
        if not made:
            new.write_bytes(b"")
        new.replace(archive)
        by_age = sorted(archive.parent.glob("classes-*.jsa"), key=lambda path: path.stat().st_mtime)
        for old in by_age[:-_KEPT]:
            old.unlink()
