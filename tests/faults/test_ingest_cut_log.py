"""A log that lost its newest records and grew again beyond our position: never read as if it were the one that went on."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from ingestion.audit import audit
from ingestion.broker import EmbeddedBroker
from ingestion.consumer import ingest
from ingestion.errors import ContinuityError
from tests.conftest import create_topic, unique_name
from tests.faults.test_ingest_log import forget_group, running
from tests.ingestion.harness import committed, on_disk, produce, reading, rows, settings_for
from tests.waiting import HANGS, wait_for


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker whose files these tests may change."""
    with EmbeddedBroker.start(tmp_path_factory.mktemp("owned")) as running:
        yield running


@pytest.fixture
def site(owned: EmbeddedBroker) -> str:
    name = unique_name("cut")
    create_topic(owned.bootstrap, f"iiot.{name}.telemetry.v1")
    return name


def cut(broker: EmbeddedBroker, topic: str, earlier: Path | None) -> None:
    """Let the broker come up with an earlier state of a partition's log, or none, as after the loss of a volume."""
    broker.stop()
    data = broker.data_dir / "data"
    log = data / f"{topic}-0"
    for path in log.iterdir():
        if path.name != "partition.metadata":
            path.unlink()
    if earlier is not None:
        shutil.copytree(earlier, log, dirs_exist_ok=True)
    for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint", ".kafka_cleanshutdown"):
        (data / name).unlink(missing_ok=True)
    broker.restart()


def copied(broker: EmbeddedBroker, topic: str, to: Path) -> Path:
    """The partition's log as it is now."""
    broker.stop()
    shutil.copytree(broker.data_dir / "data" / f"{topic}-0", to)
    broker.restart()
    return to


@pytest.mark.parametrize("whole", [True, False])
def test_a_log_that_was_cut_and_grew_beyond_our_position_stops_until_the_gap_is_accepted(
    owned, site: str, tmp_path: Path, whole: bool
):
    name, settings = f"iiot.{site}.telemetry.v1", settings_for(owned, site, tmp_path / "data")
    produce(owned, name, [reading(s) for s in range(150)])
    earlier = None if whole else copied(owned, name, tmp_path / "log")
    produce(owned, name, [reading(s) for s in range(150, 200)])
    ingest(settings, until="end")
    before = rows(settings.data_dir)
    cut(owned, name, earlier)
    produce(owned, name, [reading(s) for s in range(1000, 1300)])
    with pytest.raises(ContinuityError, match=r"offset 199 lies another record.*below 200 .*--accept-gap"):
        ingest(settings, until="end")
    assert rows(settings.data_dir) == before
    ingest(replace(settings, accept_gap=True, close_open=True), until="end")
    after = rows(settings.data_dir)
    assert before.items() <= after.items() and len(after) > len(before)
    produce(owned, name, [reading(s) for s in range(1300, 1400)])
    end = 400 if whole else 550
    ingest(replace(settings, close_open=True), until="end")
    kept = on_disk(settings.data_dir)
    assert set(kept) == {(0, o) for o in range(end)} and set(kept.values()) == {1}


def test_files_alone_show_that_the_log_is_another(owned, site: str, tmp_path: Path):
    name, settings = f"iiot.{site}.telemetry.v1", settings_for(owned, site, tmp_path)
    produce(owned, name, [reading(s) for s in range(200)])
    ingest(settings, until="end")
    forget_group(owned, settings.group_id)
    cut(owned, name, None)
    produce(owned, name, [reading(s) for s in range(300)])
    with pytest.raises(ContinuityError, match="offset 185 lies another record"):
        ingest(settings, until="end")


def test_a_log_that_is_cut_under_a_running_process_is_named(owned, site: str, tmp_path: Path):
    name, settings = f"iiot.{site}.telemetry.v1", settings_for(owned, site, tmp_path)
    produce(owned, name, [reading(s) for s in range(200)])
    with running(settings) as raised:
        wait_for(lambda: len(on_disk(tmp_path)) == 180)
        wait_for(lambda: committed(owned, settings.group_id, name) == 180)
        cut(owned, name, None)
        produce(owned, name, [reading(s) for s in range(1000, 1300)])
        wait_for(lambda: bool(raised))
    # It looks while the log is still shorter than what was read, or when it has grown beyond that: two lines, both with what to do.
    assert isinstance(raised[0], ContinuityError)
    assert re.search(
        r"the log was cut( and written again,.* --accept-gap|; restore it or start)", str(raised[0])
    )
    assert on_disk(tmp_path) == Counter((0, o) for o in range(180))


def test_a_leader_that_changes_and_a_transaction_that_ends_under_it_are_no_cut(
    owned, site: str, tmp_path: Path
):
    name, settings = f"iiot.{site}.telemetry.v1", settings_for(owned, site, tmp_path)
    produce(owned, name, [reading(s) for s in range(100)])
    producer = Producer({"bootstrap.servers": owned.bootstrap, "transactional.id": site})
    producer.init_transactions(HANGS)
    producer.begin_transaction()
    producer.produce(name, reading(100), partition=0)
    producer.flush(HANGS)
    ingest(settings, until="end")
    owned.kill()
    owned.restart()
    producer.abort_transaction(HANGS)
    ingest(settings, until="end")
    produce(owned, name, [reading(s) for s in range(100, 200)])
    ingest(settings, until="end")
    owned.restart()
    assert ingest(replace(settings, close_open=True), until="end").sites[site].balanced
    assert on_disk(tmp_path) == Counter((0, o) for o in [*range(100), *range(102, 202)])
    assert audit(settings).clean


def test_what_an_earlier_version_left_is_read_on(owned, site: str, tmp_path: Path):
    name, settings = f"iiot.{site}.telemetry.v1", settings_for(owned, site, tmp_path)
    produce(owned, name, [reading(s) for s in range(200)])
    ingest(settings, until="end")
    for path in tmp_path.rglob("*.parquet"):
        file = pq.ParquetFile(path)
        footer = json.loads(file.metadata.metadata[b"fedplant"])
        assert footer.pop("last_read")[0] == footer["position_at_close"] - 1
        table = file.read().replace_schema_metadata()
        with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(
                {"fedplant": json.dumps({**footer, "format_version": 1}, separators=(",", ":"))}
            )
    consumer = Consumer({"bootstrap.servers": owned.bootstrap, "group.id": settings.group_id})
    (at,) = consumer.committed([TopicPartition(name, 0)], timeout=60)
    note = json.loads(at.metadata)
    assert note.pop("r")[0] == 199
    consumer.commit(offsets=[TopicPartition(name, 0, at.offset, json.dumps(note))], asynchronous=False)
    consumer.close()
    assert ingest(replace(settings, close_open=True), until="end").sites[site].kept == 20
    assert on_disk(tmp_path) == Counter((0, o) for o in range(200))
