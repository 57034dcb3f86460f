"""What counts as a plant's silence: only that the broker has nothing more, never that we did not ask."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.store import footers
from tests.faults.test_ingest_kill import wait_for
from tests.ingestion.hanging import Watched
from tests.ingestion.harness import produce, reading, settings_for

IDLE = 1.0


@pytest.fixture
def start(broker, make_topic, topic, tmp_path: Path, monkeypatch):
    """`start()` gives (site, topic of two partitions, `Watched`)."""
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    settings = replace(
        settings,
        limits=replace(settings.limits, max_queued_bytes=60_000, commit_interval=0.02),
        event_time=replace(settings.event_time, idle_timeout=IDLE),
    )
    watched = Watched(settings, monkeypatch)
    yield site, name, watched
    watched.end()


def closed(folder: Path, site: str, partition: int) -> list[tuple[str, int]]:
    """(reason, rows) of a partition's windows without their addenda."""
    found = [f for _, f in footers(folder, site) if f.partition == partition]
    return [(f.reason, f.row_count) for f in found if f.kind == "base"]


def test_a_partition_that_is_paused_is_not_silent(broker, start: Callable, tmp_path: Path):
    site, name, watched = start
    # A reading in the window of the minute; its partition is read to the end.
    produce(broker, name, [(1, reading(s)) for s in range(30)])
    wait_for(lambda: watched.positions.get(1) == 30)
    # The other partition's burst meets a disk that hangs: everything is paused.
    watched.disk.clear()
    produce(
        broker,
        name,
        [(0, reading(s)) for s in range(100)] + [(0, reading(100 + s / 50)) for s in range(2_000)],
    )
    wait_for(lambda: "pause" in watched.events)
    produce(broker, name, [(1, reading(s)) for s in range(30, 100)])
    time.sleep(2 * IDLE)
    watched.disk.set()
    wait_for(lambda: watched.positions.get(1) == 100)
    wait_for(lambda: bool(closed(tmp_path, site, 1)))
    assert watched.events[:2] == ["pause", "resume"]
    assert closed(tmp_path, site, 1)[0] == ("watermark", 60)


def test_a_loop_that_hangs_in_a_commit_hears_no_silence(broker, start: Callable, tmp_path: Path):
    site, name, watched = start
    produce(broker, name, [(1, reading(s)) for s in range(30)])
    wait_for(lambda: watched.positions.get(1) == 30)
    watched.commits.clear()
    produce(broker, name, [(0, reading(0))])
    wait_for(lambda: "hangs" in watched.events)
    produce(broker, name, [(1, reading(s)) for s in range(30, 100)])
    time.sleep(2 * IDLE)
    watched.commits.set()
    wait_for(lambda: watched.positions.get(1) == 100)
    wait_for(lambda: bool(closed(tmp_path, site, 1)))
    assert closed(tmp_path, site, 1)[0] == ("watermark", 60)


def test_silence_itself_closes_the_window(broker, start: Callable, tmp_path: Path):
    site, name, _ = start
    produce(broker, name, [(1, reading(s)) for s in range(30)])
    wait_for(lambda: closed(tmp_path, site, 1) == [("idle", 30)])
