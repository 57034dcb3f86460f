"""What counts as a plant's silence: only that the broker has nothing more, never that we did not ask."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.store import footers
from tests.ingestion.hanging import Watched
from tests.ingestion.harness import produce, reading, settings_for
from tests.waiting import wait_for

IDLE = 100_000.0
"""Longer than any test: only the tests' own clock comes to it."""
OTHERS = (0, 2, 3, 4, 5, 6, 7)


@pytest.fixture
def start(broker, make_topic, topic, tmp_path: Path, monkeypatch):
    """(site, topic of eight partitions, `Watched`)."""
    site = topic("site")
    name = make_topic(8, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    settings = replace(
        settings,
        limits=replace(settings.limits, max_queued_bytes=6_000, commit_interval=0.02),
        event_time=replace(settings.event_time, idle_timeout=IDLE),
    )
    watched = Watched(settings, monkeypatch)
    yield site, name, watched
    watched.end()


def closed(folder: Path, site: str, partition: int) -> list[tuple[str, int]]:
    """(reason, rows) of a partition's windows without their addenda."""
    found = [f for _, f in footers(folder, site) if f.partition == partition]
    return [(f.reason, f.row_count) for f in found if f.kind == "base"]


def read_to_the_end(broker, name: str, watched: Watched) -> None:
    """A reading in every second of half a window in partition 1; the loop knows that there is no more, and has committed."""
    produce(broker, name, [(1, reading(s)) for s in range(30)])
    wait_for(lambda: watched.positions.get(1) == 30 and (1, 30) in watched.ended)
    rounds = watched.rounds
    wait_for(lambda: watched.rounds > rounds + 1)


@pytest.mark.parametrize("disk", ["hangs", "is slow"])
def test_a_partition_that_is_paused_is_not_silent(broker, start: tuple, tmp_path: Path, disk: str):
    site, name, watched = start
    read_to_the_end(broker, name, watched)
    # A burst of the other partitions pauses everything. A disk that hangs stops the loop in its next commit;
    # with one that is slow the loop goes round, and finds the paused partition without news for longer than the idle time-out.
    if disk == "hangs":
        watched.disk.clear()
    else:
        watched.slow = 2 * IDLE
    produce(broker, name, [(p, reading(s)) for s in range(100) for p in OTHERS])
    wait_for(lambda: "pause" in watched.events)
    produce(broker, name, [(1, reading(s)) for s in range(30, 100)])
    if disk == "hangs":
        watched.forward(2 * IDLE)
        watched.disk.set()
    wait_for(lambda: watched.positions.get(1) == 100)
    wait_for(lambda: bool(closed(tmp_path, site, 1)))
    assert watched.events[:2] == ["pause", "resume"]
    assert closed(tmp_path, site, 1)[0] == ("watermark", 60)


def test_a_loop_that_hangs_in_a_commit_hears_no_silence(broker, start: tuple, tmp_path: Path):
    site, name, watched = start
    read_to_the_end(broker, name, watched)
    watched.commits.clear()
    produce(broker, name, [(0, reading(0))])
    wait_for(lambda: "hangs" in watched.events)
    produce(broker, name, [(1, reading(s)) for s in range(30, 100)])
    # So that the client has it when the loop asks again.
    time.sleep(1)
    watched.forward(2 * IDLE)
    watched.commits.set()
    wait_for(lambda: watched.positions.get(1) == 100)
    wait_for(lambda: bool(closed(tmp_path, site, 1)))
    assert closed(tmp_path, site, 1)[0] == ("watermark", 60)


def test_silence_itself_closes_the_window(broker, start: tuple, tmp_path: Path):
    site, name, watched = start
    read_to_the_end(broker, name, watched)
    assert closed(tmp_path, site, 1) == []
    watched.forward(2 * IDLE)
    wait_for(lambda: closed(tmp_path, site, 1) == [("idle", 30)])
