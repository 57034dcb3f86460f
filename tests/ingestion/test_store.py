"""What a published window says of itself, and what becomes of the second process that publishes it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.eventtime import NS
from ingestion.footer import fingerprint
from ingestion.records import BASE_FIELDS, Imprint, readings_schema
from ingestion.store import Identity, PartitionStore, TakenOver
from ingestion.windowfiles import machines_heard
from ingestion.windowing import Closed, Rules, Windows
from pipeline.datasets.leaveout import Period
from pipeline.datasets.untouched import Ingested
from tests.ingestion.harness import START_MS, rows

IDENTITY = Identity("plant", "cluster-1", "topic", "id-1", 3)
RULES = Rules(60 * NS, 5 * NS, 600 * NS)
START = START_MS * 1_000_000


def readings(offsets: list[int], seconds: list[float]) -> pa.Table:
    times = pa.array([START + int(s * NS) for s in seconds], pa.int64()).cast(BASE_FIELDS[1].type)
    size = len(offsets)
    numbers = pa.nulls(size, pa.int64()), pa.nulls(size, pa.int16())
    columns = [pa.array(offsets, pa.int64()), times, pa.array(["m"] * size), *numbers, np.arange(size) / 2]
    return pa.table(columns, schema=readings_schema(["offset", "event_time", "asset", "seq", "quality", "t"]))


def store(folder: Path) -> PartitionStore:
    return PartitionStore(folder, IDENTITY, RULES.length).scan()


def closed(windows: Windows | None = None) -> list[Closed]:
    windows = windows or Windows(RULES, 10)
    return windows.push(readings([10, 12, 12, 13, 15], [2, 1, 1, 40, 70]), 16).closed


def test_who_was_heard_when_is_found_by_window_and_instant(tmp_path: Path):
    """Readings of `m` at 1, 1, 2 and 40 s."""
    store(tmp_path).publish(closed())

    def heard(begin: float, end: float) -> list[set[str]]:
        return list(machines_heard(tmp_path, "plant", START + int(begin * NS), START + int(end * NS)))

    assert heard(0, 1) == heard(41, 60) == heard(3, 40) == [set()]
    assert heard(2, 3) == heard(40, 41) == heard(-1e6, 1e6) == [{"m"}]
    assert heard(60, 1e6) == heard(-60, 0) == []
    span = Period(START + 3 * NS, START + 40 * NS)
    ingested = Ingested(tmp_path, ["plant", "silent"], None)
    assert list(ingested.untouched([span])) == [(span, ["plant"])]
    for touched in (
        replace(ingested, held_ns=2 * NS),
        replace(ingested, patience=-1.0),
        replace(ingested, sites=["silent"]),
    ):
        assert list(touched.untouched([span])) == []


def test_a_footer_says_everything_that_a_restart_an_audit_and_a_reader_ask(tmp_path: Path):
    windows, files = Windows(RULES, 10), store(tmp_path)
    known = [replace(window, last_read=Imprint(15, 4, 1000, 77)) for window in closed(windows)]
    first = files.publish(known)[0].path
    late = windows.push(readings([20, 21], [50, 131]), 22).closed
    (second,) = (done.path for done in files.publish(late) if done.kind == "addendum")
    said = [json.loads(pq.ParquetFile(p).metadata.metadata[b"fedplant"]) for p in (first, second)]
    assert said[0] == {
        "format_version": 2,
        "site": "plant",
        "cluster_id": "cluster-1",
        "topic": "topic",
        "topic_id": "id-1",
        "partition": 3,
        "window_start_ns": START,
        "window_end_ns": START + 60 * NS,
        "first_offset": 10,
        "last_offset": 13,
        "row_count": 4,
        "position_at_close": 16,
        "watermark_ns": START + 65 * NS,
        "schema_fingerprint": fingerprint(pq.read_schema(first).remove_metadata()),
        "reason": "watermark",
        "kind": "base",
        "duplicate_count": 0,
        "duplicate_offsets": [],
        "last_read": [15, 4, 1000, 77],
    }
    assert said[1].keys() == said[0].keys()
    assert {
        n: said[1][n] for n in ("kind", "reason", "first_offset", "last_offset", "position_at_close")
    } == {
        "kind": "addendum",
        "reason": "late",
        "first_offset": 20,
        "last_offset": 20,
        "position_at_close": 22,
    }
    assert second.name == first.name.replace(".parquet", ".add-20.parquet")


def test_the_first_publisher_wins_and_one_that_decided_the_same_adopts_its_file(tmp_path: Path):
    first, zombie = store(tmp_path), store(tmp_path)
    assert [done.adopted for done in first.publish(closed())] == [False]
    before = rows(tmp_path)
    assert [done.adopted for done in zombie.publish(closed())] == [True]
    assert rows(tmp_path) == before and zombie.handled == first.handled


def test_a_publisher_that_decided_otherwise_is_told_and_changes_nothing(tmp_path: Path):
    first, zombie = store(tmp_path), store(tmp_path)
    first.publish(closed())
    before = rows(tmp_path)
    other = [replace(window, position_at_close=14) for window in closed()]
    with pytest.raises(TakenOver):
        zombie.publish(other)
    assert rows(tmp_path) == before and not list(tmp_path.rglob(".tmp-*"))
