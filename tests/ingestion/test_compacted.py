"""Compacted files without a broker: what counts, what a late publisher may do, and what ten thousand windows cost at start."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ingestion.compacted import look, mark_of, start_of
from ingestion.compaction import compact
from ingestion.errors import StorageError
from ingestion.eventtime import NS
from ingestion.store import Identity, PartitionStore, TakenOver, stamp
from ingestion.windowfiles import footers, read_site
from ingestion.windowing import Closed, Rules, Windows
from tests.measuring import processor_seconds

LENGTH, FIRST = 60 * NS, 1_700_000_040 * NS
IDENTITY = Identity("plant", "cluster", "topic", "id", 0)


def store(folder: Path) -> PartitionStore:
    return PartitionStore(folder, IDENTITY, LENGTH).scan()


def closed(windows: int, rows: int = 3, first: int = 0) -> list[Closed]:
    """Windows of a steady stream: one row every `60 / rows` seconds."""
    size = windows * rows + 1
    offsets = np.arange(first, first + size)
    times = FIRST + offsets * (LENGTH // rows)
    table = pa.table(
        {
            "offset": pa.array(offsets, pa.int64()),
            "event_time": pa.array(times).cast(pa.timestamp("ns", tz="UTC")),
            "asset": pa.array(["a"] * size),
            "seq": pa.array(offsets, pa.int64()),
            "quality": pa.nulls(size, pa.int16()),
            "t": pa.array(offsets * 0.5),
        }
    )
    return Windows(Rules(LENGTH, 0, 10**18), first).push(table, first + size).closed


def offsets(folder: Path) -> list[int]:
    return [o for table in read_site(folder, "plant") for o in table.column("offset").to_pylist()]


def test_a_publisher_that_slept_through_a_compaction_publishes_nothing_twice(tmp_path: Path) -> None:
    windows = closed(100)
    sleeper = store(tmp_path)
    store(tmp_path).publish(windows)
    compact(tmp_path, ["plant"], period=600, older_than=600)
    before, known = offsets(tmp_path), [footer for _, footer in footers(tmp_path, "plant")]
    with pytest.raises(TakenOver):
        sleeper.publish(windows[:3])
    # Even if it looked away between looking at the mark and linking: a name that is stood for is nobody's.
    sleeper._mark = mark_of(sleeper.folder)
    assert sleeper.publish(windows[:3])[0].path.exists()
    assert offsets(tmp_path) == before == list(range(300))
    assert [footer for _, footer in footers(tmp_path, "plant")] == known
    assert len(look(sleeper.folder).superseded) == 3
    compact(tmp_path, ["plant"], period=600, older_than=600)
    assert not look(sleeper.folder).superseded and offsets(tmp_path) == before


def test_a_late_row_of_a_compacted_window_is_an_addendum_without_its_duplicate(tmp_path: Path) -> None:
    windows = closed(60)
    store(tmp_path).publish(windows)
    compact(tmp_path, ["plant"], period=600, older_than=600)
    again = store(tmp_path)
    assert again.handled[windows[2].start] == windows[2].position_at_close
    late = Closed(windows[2].start, windows[2].pieces, 3, 900, 903, 0, "late")
    (done,) = again.publish([late])
    assert (done.kind, done.rows, done.duplicates) == ("addendum", 0, 3)


def test_two_compactions_at_once_are_refused(tmp_path: Path) -> None:
    store(tmp_path).publish(closed(3))

    def meanwhile(_done: int, _total: int, _name: str) -> None:
        with pytest.raises(StorageError, match="another compaction runs"):
            compact(tmp_path, ["plant"])

    compact(tmp_path, ["plant"], progress=meanwhile)


@pytest.mark.parametrize("ns", [FIRST, FIRST + 123, FIRST + 500_000_000, 0])
def test_a_files_name_tells_its_start(ns: int) -> None:
    assert start_of(f"{stamp(ns)}_{stamp(ns + LENGTH)}.parquet") == ns


def test_two_thousand_windows_are_scanned_for_what_a_look_at_each_costs(tmp_path: Path) -> None:
    """Usually four times what it costs to read the files and do nothing with them."""
    store(tmp_path).publish(closed(2_000, rows=1))
    paths = list(tmp_path.glob("windows/*/*/p*/*.parquet"))
    allowed = 20 * processor_seconds(lambda: [path.read_bytes() for path in paths])

    def scan() -> None:
        assert len(store(tmp_path).footers) == 2_000

    assert processor_seconds(scan) < allowed
    report = compact(tmp_path, ["plant"], period=86_400, older_than=3600).to_dict()
    assert report["files_before"] == 2_000 and report["files_after"] < 1_000
    assert processor_seconds(scan) < allowed
    assert offsets(tmp_path) == list(range(2_000))
