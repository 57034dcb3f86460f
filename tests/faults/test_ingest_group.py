import re
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ingestion.consumer
from ingestion.audit import audit
from ingestion.consumer import ingest
from ingestion.decode.rows import Row, rows_of
from tests.faults.test_ingest_workers import shares
from tests.ingestion.harness import letters, on_disk, origin, produce, reading, settings_for, start_process
from tests.waiting import HANGS, wait_for


def messages(first: int, last: int) -> list[tuple[int, bytes]]:
    """One reading a second, turn by turn in two partitions, every 20th poison."""
    return [(s % 2, b"poison" if s % 20 == 9 else reading(s, f"m{s % 3}", seq=s)) for s in range(first, last)]


def everything_once(broker, site: str, folder: Path, sent) -> None:
    """Every offset has one place, by the audit and by counting files and letters."""
    at = [0, 0]
    good: Counter[tuple[int, int]] = Counter()
    bad: Counter[tuple[int, int]] = Counter()
    for partition, value in sent:
        (bad if value == b"poison" else good)[partition, at[partition]] += 1
        at[partition] += 1
    dead = Counter(origin(r) for r in letters(broker, f"iiot.{site}.dlq"))
    assert (on_disk(folder), dead) == (good, bad)
    report = audit(settings_for(broker, site, folder))
    assert report.clean and not sum(p.waiting for p in report.partitions)


def files(folder: Path) -> int:
    return len(list(folder.glob("windows/*/*/*/*.parquet")))


def live(broker, site: str, folder: Path) -> subprocess.Popen[str]:
    return start_process(broker, site, folder, close=False, follow=True)


def test_a_process_stopped_beyond_its_session_wakes_as_a_zombie_and_doubles_nothing(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")
    produce(broker, name, messages(0, 250))
    first = live(broker, site, tmp_path)
    wait_for(lambda: files(tmp_path) >= 4)
    first.send_signal(signal.SIGSTOP)
    second = live(broker, site, tmp_path)
    try:
        produce(broker, name, messages(250, 600))
        wait_for(lambda: files(tmp_path) >= 16)
        first.send_signal(signal.SIGCONT)
        produce(broker, name, messages(600, 900))
        wait_for(lambda: files(tmp_path) >= 26)
    finally:
        first.send_signal(signal.SIGCONT)
        for process in (first, second):
            process.terminate()
    for process in (first, second):
        _, said = process.communicate(timeout=HANGS)
        assert process.returncode == 0, said
    counts = ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site]
    assert counts.balanced
    everything_once(broker, site, tmp_path, messages(0, 900))


def test_members_join_leave_and_crash_with_open_windows(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")
    group = f"g-{site}"
    produce(broker, name, messages(0, 250))
    first = live(broker, site, tmp_path)
    wait_for(lambda: shares(broker, group) == [2])
    joining = live(broker, site, tmp_path)
    wait_for(lambda: shares(broker, group) == [1, 1])
    produce(broker, name, messages(250, 500))
    wait_for(lambda: files(tmp_path) >= 12)
    joining.kill()
    joining.communicate(timeout=HANGS)
    wait_for(lambda: shares(broker, group) == [2])
    produce(broker, name, messages(500, 700))
    another = live(broker, site, tmp_path)
    wait_for(lambda: shares(broker, group) == [1, 1])
    first.terminate()
    _, said = first.communicate(timeout=HANGS)
    assert first.returncode == 0, said
    produce(broker, name, messages(700, 900))
    wait_for(lambda: files(tmp_path) >= 26)
    another.terminate()
    another.communicate(timeout=HANGS)
    assert ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site].balanced
    everything_once(broker, site, tmp_path, messages(0, 900))


def test_partitions_added_to_a_running_topic_are_read_from_their_start(
    broker, make_topic, topic, tmp_path: Path
):
    from confluent_kafka.admin import AdminClient, NewPartitions

    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path, close_open=True)
    settings = replace(settings, limits=replace(settings.limits, metadata_interval=1.0))
    produce(broker, name, [reading(s) for s in range(100)])
    stop, box = threading.Event(), SimpleNamespace(report=None)
    thread = threading.Thread(target=lambda: setattr(box, "report", ingest(settings, until=None, stop=stop)))
    thread.start()
    try:
        wait_for(lambda: files(tmp_path) >= 1)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_partitions([NewPartitions(name, 2)])[name].result(HANGS)
        produce(broker, name, [(s % 2, reading(s)) for s in range(100, 300)])
        wait_for(lambda: len(list(tmp_path.glob("windows/*/*/p1/*.parquet"))) >= 1)
    finally:
        stop.set()
        thread.join(HANGS)
    assert box.report.sites[site].balanced
    ingest(settings, until="end")
    assert on_disk(tmp_path) == Counter([*((0, o) for o in range(200)), *((1, o) for o in range(100))])
    assert audit(settings).clean


def test_a_terminated_process_ends_in_time_with_code_zero_and_no_half_written_window(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")
    sent = messages(0, 3000)
    produce(broker, name, sent)
    process = live(broker, site, tmp_path)
    wait_for(lambda: files(tmp_path) >= 1)
    began = time.monotonic()
    process.terminate()
    _, said = process.communicate(timeout=HANGS)
    # Ten are promised; a machine with other work may take longer, but not the half minute of a client that waits for its broker.
    assert time.monotonic() - began < 25 and process.returncode == 0, said
    assert not list(tmp_path.glob("windows/*/*/*/.tmp-*"))
    assert ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site].balanced
    everything_once(broker, site, tmp_path, sent)


@pytest.mark.parametrize("read", [1, 700, 3000])
def test_who_is_asked_to_end_amid_a_batch_that_takes_long_leaves_it_off_and_every_offset_has_one_place(
    broker, make_topic, topic, tmp_path: Path, monkeypatch, read: int
):
    """A sensor that is a number and text turn by turn is read one by one; so a batch can take half a minute."""
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")

    def spelled(second: int) -> bytes:
        sent = reading(second)
        return sent if second % 4 < 2 else re.sub(rb'"temperature": ([\d.]+)', rb'"temperature": "\1"', sent)

    sent = [(s % 2, b"poison" if s % 500 == 9 else spelled(s)) for s in range(6000)]
    produce(broker, name, sent)
    stop, told, seen = threading.Event(), threading.Event(), 0

    class Told(ingestion.consumer.Worker):
        def _stop(self, failure: BaseException | None = None) -> None:
            super()._stop(failure)
            told.set()

    def counted(*given: Any) -> list[Row]:
        nonlocal seen
        seen += 1
        if seen == read:
            stop.set()
            # Until the loop hears of it and the worker of the loop.
            assert told.wait(HANGS)
        return rows_of(*given)

    monkeypatch.setattr("ingestion.decode.flat.rows_of", counted)
    monkeypatch.setattr(ingestion.consumer, "Worker", Told)
    settings = settings_for(broker, site, tmp_path, close_open=True)
    assert ingest(settings, until=None, stop=stop).sites[site].balanced
    # Not one message more, and not to the batch's end.
    assert seen == read
    monkeypatch.undo()
    assert audit(settings).clean
    assert ingest(settings, until="end").sites[site].balanced
    everything_once(broker, site, tmp_path, sent)
