import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingestion.audit import audit
from ingestion.consumer import ingest
from ingestion.errors import StorageError
from tests.ingestion.harness import on_disk, produce, reading, settings_for
from tests.waiting import HANGS

# A limit on file size refuses writes with EFBIG exactly as a full disk does with ENOSPC, and needs no rights.
RUN = """
import resource, signal, sys
from pathlib import Path
from ingestion.consumer import ingest
from ingestion.errors import StorageError
from tests.ingestion.harness import settings_for
class Broker: bootstrap = sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    ingest(settings_for(Broker, sys.argv[2], Path(sys.argv[3])), until="end")
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_disk_without_room_is_one_clear_error_and_the_next_run_loses_nothing(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    produce(broker, make_topic(1, f"iiot.{site}.telemetry.v1"), [reading(s, seq=s) for s in range(200)])
    done = subprocess.run(
        [sys.executable, "-c", RUN, broker.bootstrap, site, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 6, done.stderr
    assert "cannot be written" in done.stdout and "free space" in done.stdout
    assert not list(tmp_path.glob("windows/*/*/*/*.parquet"))
    all_is_there(broker, site, tmp_path, 200)


def all_is_there(broker, site: str, folder: Path, count: int) -> None:
    settings = settings_for(broker, site, folder, close_open=True)
    assert ingest(settings, until="end").sites[site].balanced
    assert on_disk(folder) == {(0, offset): 1 for offset in range(count)}
    assert audit(settings).clean


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of 128 KB at `folder`; False where mounting is not permitted, and the folder is an ordinary one."""
    folder.mkdir()
    mounted = run("mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder))
    try:
        yield mounted
    finally:
        if mounted:
            run("umount", "-l", str(folder))


def run(*command: str) -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, timeout=HANGS).returncode == 0
    return False


def test_a_disk_that_fills_up_or_turns_read_only_in_the_middle_keeps_what_it_has(
    broker, make_topic, topic, tmp_path: Path
):
    site, disk = topic("site"), tmp_path / "disk"
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [reading(s, seq=s) for s in range(6000)])
    settings = settings_for(broker, site, disk)
    with small_disk(disk) as mounted:
        if not mounted:
            # As far as one can go without rights: the folder's place is taken in the middle of the run.
            blocked = disk / "windows"
            blocked.write_text("")
            with pytest.raises(StorageError, match="check the data folder"):
                ingest(settings, until="end")
            blocked.unlink()
            all_is_there(broker, site, disk, 6000)
            return
        with pytest.raises(StorageError, match="No space left on device; free space"):
            ingest(settings, until="end")
        kept = on_disk(disk)
        assert 0 < len(kept) < 6000 and set(kept.values()) == {1}
        assert run("mount", "-o", "remount,size=16m,ro", str(disk))
        with pytest.raises(StorageError, match="Read-only file system"):
            ingest(settings, until="end")
        assert on_disk(disk) == kept
        assert run("mount", "-o", "remount,rw", str(disk))
        all_is_there(broker, site, disk, 6000)
