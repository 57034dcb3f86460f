import json
import signal
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from ingestion.audit import audit
from ingestion.consumer import ingest
from ingestion.errors import StorageError
from ingestion.store import footers
from tests.ingestion.harness import (
    letters,
    on_disk,
    origin,
    produce,
    reading,
    rows,
    settings_for,
    start_process,
)
from tests.waiting import HANGS, wait_for

MESSAGES = [(s % 2, b"poison" if s % 25 == 3 else reading(s, f"m{s % 3}", seq=s)) for s in range(600)]
STEPS = (
    "before_commit",
    "after_commit",
    "letters_sent",
    "temp_written:2",
    "letters_confirmed",
    "temp_synced",
    "linked:3",
    "folder_synced",
    "temp_removed",
)
SPAN = 200  # seconds of readings before each kill: three windows of both partitions


def places(messages) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
    """(partition, offset) of good and of poisonous messages."""
    good: Counter[tuple[int, int]] = Counter()
    bad: Counter[tuple[int, int]] = Counter()
    at = [0, 0]
    for partition, value in messages:
        (bad if value == b"poison" else good)[partition, at[partition]] += 1
        at[partition] += 1
    return good, bad


def test_a_kill_at_every_step_leaves_every_offset_in_exactly_one_place(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path, close_open=True)
    sent = []
    for turn, step in enumerate(STEPS):
        clean = step.endswith("_commit")  # without letters, offsets are committed by the consumer itself
        seconds = range(turn * SPAN, (turn + 1) * SPAN)
        more = [
            (s % 2, b"poison" if s % 25 == 3 and not clean else reading(s, f"m{s % 3}", seq=s))
            for s in seconds
        ]
        produce(broker, name, more)
        sent += more
        killed = start_process(broker, site, tmp_path, crash_at=step, close=turn % 2 == 0)
        _, said = killed.communicate(timeout=HANGS)
        assert killed.returncode == -signal.SIGKILL, (step, said)
        assert audit(settings).clean, step
    counts = ingest(settings, until="end").sites[site]
    assert counts.balanced and counts.left_open == 0
    dead = Counter(origin(r) for r in letters(broker, f"iiot.{site}.dlq"))
    good, bad = places(sent)
    assert (on_disk(tmp_path), dead) == (good, bad)
    assert not list(tmp_path.glob("windows/*/*/*/.tmp-*"))
    report = audit(settings)
    assert report.clean and sum(p.waiting for p in report.partitions) == 0
    assert (sum(p.kept for p in report.partitions), sum(p.dead for p in report.partitions)) == (
        len(good),
        len(bad),
    )


def test_a_kill_in_the_middle_of_a_live_run_loses_and_doubles_nothing(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")
    produce(broker, name, MESSAGES[:300])
    process = start_process(broker, site, tmp_path, close=False)
    wait_for(lambda: list(tmp_path.glob("windows/*/*/*/*.parquet")) or process.poll() is not None)
    process.kill()
    process.communicate(timeout=HANGS)
    produce(broker, name, MESSAGES[300:])
    assert ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site].balanced
    dead = Counter(origin(r) for r in letters(broker, f"iiot.{site}.dlq"))
    assert (on_disk(tmp_path), dead) == places(MESSAGES)
    assert audit(settings_for(broker, site, tmp_path)).clean


def test_a_truncated_window_is_set_aside_and_rebuilt_from_the_topic(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [reading(s) for s in range(200)])
    ingest(settings_for(broker, site, tmp_path), until="end")
    before = rows(tmp_path)
    victim = tmp_path / sorted(before)[1]
    victim.write_bytes(victim.read_bytes()[:100])
    (victim.parent / ".tmp-1-left").write_bytes(b"half")
    counts = ingest(settings_for(broker, site, tmp_path), until="end").sites[site]
    assert (counts.damaged_files, counts.kept, counts.already_handled, counts.balanced) == (1, 60, 120, True)
    assert rows(tmp_path) == before
    assert not list(tmp_path.glob("windows/*/*/*/.tmp-*")) and len(list(victim.parent.glob("damaged/*"))) == 1


@pytest.mark.parametrize("step", ["temp_written", "before_commit"])
def test_a_kill_after_a_window_was_set_aside_does_not_forget_it(
    broker, make_topic, topic, tmp_path: Path, step: str
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [reading(s) for s in range(200)])
    settings = settings_for(broker, site, tmp_path)
    ingest(settings, until="end")
    before = rows(tmp_path)
    (tmp_path / sorted(before)[1]).write_bytes(b"")
    killed = start_process(broker, site, tmp_path, crash_at=step, close=False)
    _, said = killed.communicate(timeout=HANGS)
    assert killed.returncode == -signal.SIGKILL, said
    counts = ingest(settings, until="end").sites[site]
    assert counts.balanced and rows(tmp_path) == before
    assert ingest(settings, until="end").sites[site].already_handled == 0


def test_a_folder_that_cannot_be_written_is_one_clear_error_and_changes_nothing(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [reading(s) for s in range(200)])
    blocked = tmp_path / "windows"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="check the data folder"):
        ingest(settings_for(broker, site, tmp_path), until="end")
    blocked.unlink()
    assert ingest(settings_for(broker, site, tmp_path), until="end").sites[site].kept == 180


def test_silence_closes_windows_and_what_comes_later_is_an_addendum(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    rules = type(settings.event_time)(**{**settings.event_time.__dict__, "idle_timeout": 1.0})
    live = type(settings)(**{**settings.__dict__, "event_time": rules})
    produce(broker, name, [reading(s) for s in range(30)])
    stop, box = threading.Event(), SimpleNamespace(report=None)
    thread = threading.Thread(target=lambda: setattr(box, "report", ingest(live, until=None, stop=stop)))
    thread.start()
    try:
        wait_for(lambda: [f.reason for _, f in footers(tmp_path, site)] == ["idle"])
        produce(broker, name, [reading(s) for s in range(30, 40)])
        wait_for(lambda: sum(f.row_count for _, f in footers(tmp_path, site)) == 40)
    finally:
        stop.set()
        thread.join(HANGS)
    assert {f.kind for _, f in footers(tmp_path, site)} == {"addendum", "base"}
    counts = box.report.sites[site]
    assert (counts.kept, counts.late, counts.windows, counts.balanced) == (30, 10, 1, True)
    assert on_disk(tmp_path) == Counter({(0, o): 1 for o in range(40)})
    assert json.dumps(box.report.to_dict())
