"""What may happen to the log itself while or before it is read."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from ingestion.audit import audit
from ingestion.consumer import ingest
from ingestion.errors import ContinuityError
from pipeline.cli.main import run
from tests.ingestion.hanging import Watched
from tests.ingestion.harness import delete_before, letters, on_disk, produce, reading, settings_for
from tests.waiting import HANGS, wait_for


def forget_group(broker, group: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_consumer_groups([group])[group].result(HANGS)


def test_retention_that_passed_the_position_stops_until_the_gap_is_accepted(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    produce(broker, name, [reading(s) for s in range(100)])
    ingest(settings, until="end")
    produce(broker, name, [reading(s) for s in range(100, 300)])
    delete_before(broker, name, 150)
    with pytest.raises(ContinuityError, match="offsets 60 to 149 were removed by retention"):
        ingest(settings, until="end")
    counts = ingest(replace(settings, accept_gap=True, close_open=True), until="end").sites[site]
    assert (counts.kept, counts.balanced) == (150, True)
    assert on_disk(tmp_path) == Counter((0, o) for o in [*range(60), *range(150, 300)])
    assert audit(settings).clean


def test_retention_that_passes_a_running_process_is_named(
    broker, make_topic, topic, tmp_path: Path, monkeypatch
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    settings = replace(settings, limits=replace(settings.limits, max_queued_bytes=5_000))
    watched = Watched(settings, monkeypatch)
    try:
        watched.disk.clear()
        produce(broker, name, [reading(s) for s in range(200)])
        wait_for(lambda: "pause" in watched.events)
        produce(broker, name, [reading(s) for s in range(200, 400)])
        delete_before(broker, name, 300)
        watched.disk.set()
        wait_for(lambda: bool(watched.raised))
    finally:
        watched.end()
    assert isinstance(watched.raised[0], ContinuityError)
    assert "to 299 were removed by retention" in str(watched.raised[0])


def test_lost_group_offsets_and_retention_together_are_no_silent_gap(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    produce(broker, name, [reading(s) for s in range(200)])
    ingest(settings, until="end")
    forget_group(broker, settings.group_id)
    assert ingest(settings, until="end").sites[site].already_handled == 180
    forget_group(broker, settings.group_id)
    delete_before(broker, name, 190)
    with pytest.raises(ContinuityError, match="no committed offset and retention removed"):
        ingest(settings, until="end")
    ingest(replace(settings, accept_gap=True, close_open=True), until="end")
    assert on_disk(tmp_path) == Counter((0, o) for o in [*range(180), *range(190, 200)])


def test_the_operators_answers_are_options_of_the_command(broker, make_topic, topic, tmp_path: Path, capfd):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    config = tmp_path / "c.toml"
    config.write_text(
        f'[project]\ndata_dir = "{tmp_path}/data"\n[kafka]\nbootstrap = "{broker.bootstrap}"\n'
        f'[ingestion]\ngroup = "g-{site}"\nwindow = "60s"\n[[sites]]\nname = "{site}"\n'
    )
    command = ["ingest", str(config), "--json"]

    def kept(*answer: str) -> int:
        capfd.readouterr()
        assert run([*command, *answer]) == 0
        found = json.loads(capfd.readouterr().out)["sites"][site]
        return int(found["kept"])

    produce(broker, name, [reading(s) for s in range(100)])
    assert kept() == 60
    produce(broker, name, [reading(s) for s in range(100, 200)])
    delete_before(broker, name, 150)
    assert run(command) == 7 and "--accept-gap" in capfd.readouterr().err
    assert kept("--accept-gap") == 30
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([name])[name].result(HANGS)
    wait_for(lambda: name not in admin.list_topics(timeout=60).topics)
    make_topic(1, name)
    produce(broker, name, [reading(s) for s in range(100)])
    assert run(command) == 7 and "--new-topic" in capfd.readouterr().err
    assert kept("--new-topic") == 60
    assert kept() == 0


@contextmanager
def running(settings) -> Iterator[list[BaseException]]:
    """An ingestion without an end in a thread; what it raises lands in the list."""
    stop, raised = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            ingest(settings, until=None, stop=stop)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        stop.set()
        thread.join(HANGS)


def test_a_topic_created_again_under_a_running_process_is_named(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    settings = replace(settings, limits=replace(settings.limits, metadata_interval=0.5, commit_interval=0.2))
    produce(broker, name, [reading(s) for s in range(100)])
    with running(settings) as raised:
        wait_for(lambda: len(on_disk(tmp_path)) == 60)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.delete_topics([name])[name].result(HANGS)
        wait_for(lambda: name not in admin.list_topics(timeout=60).topics)
        make_topic(1, name)
        produce(broker, name, [reading(s) for s in range(300)])
        wait_for(lambda: bool(raised))
    assert isinstance(raised[0], ContinuityError)
    assert len(on_disk(tmp_path)) == 60
    counts = ingest(replace(settings, new_topic=True, close_open=True), until="end").sites[site]
    assert (counts.kept, counts.balanced) == (300, True)
    again = ingest(replace(settings, close_open=True), until="end").sites[site]
    assert (again.kept, again.balanced) == (0, True)


def test_compaction_leaves_gaps_that_are_no_loss(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    name = make_topic(
        1,
        f"iiot.{site}.telemetry.v1",
        {
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0.0001",
            "segment.ms": "100",
            "min.compaction.lag.ms": "0",
            "max.compaction.lag.ms": "100",
        },
    )
    settings = settings_for(broker, site, tmp_path, close_open=True)
    produce(broker, name, [reading(s, seq=s) for s in range(50)])
    ingest(settings, until="end")
    produce(broker, name, [reading(s, seq=s) for s in range(50, 150)])
    for second in range(150, 400):
        # Every message has the same key; a new segment makes the older ones ready to be compacted.
        produce(broker, name, [reading(second, seq=second)])
        time.sleep(0.1)
        if len(log_of(broker, name)) < second - 20:
            break
    else:
        raise AssertionError("the broker did not compact")
    before = log_of(broker, name)
    counts = ingest(settings, until="end").sites[site]
    assert counts.balanced
    # The broker goes on compacting meanwhile: what is still there after the run was there for it.
    found, first = {offset for _, offset in on_disk(tmp_path)}, {*range(50)}
    assert first | set(log_of(broker, name)) <= found <= first | set(before)
    report = audit(settings)
    assert report.clean and report.partitions[0].waiting == 0


def log_of(broker, name: str) -> list[int]:
    """Offsets that hold a record."""
    return [record.offset for record in letters(broker, name)]
