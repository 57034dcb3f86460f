"""The rows of one window as they go to disk: without duplicates, sorted, columns in a stable order. Pure."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.records import BASE_FIELDS, RESERVED


@dataclass(frozen=True)
class Tidied:
    """Rows sorted by (event_time, offset), plus what was dropped: row count and inclusive offset ranges."""

    rows: pa.Table
    duplicate_rows: int
    duplicate_ranges: list[list[int]]


def tidy(rows: pa.Table, earlier: pa.Table | None = None) -> Tidied:
    """Keep the first of each reading; `earlier` rows of the same window count as kept already.

    Two rows are the same reading if asset, event time and sequence number agree; without a sequence number, all their
    values must agree too, since narrow messages of one moment differ only there. Columns without a value are left out.
    """
    known = 0
    if earlier is not None:
        known = earlier.num_rows
        rows = pa.concat_tables([earlier, rows], promote_options="default")
    duplicate = _duplicates(rows)
    offsets = rows.column("offset").to_numpy()
    new = np.arange(rows.num_rows) >= known
    lost = offsets[duplicate & new]
    keep = np.flatnonzero(new & ~duplicate)
    times = rows.column("event_time").cast(pa.int64()).to_numpy()
    order = keep[np.lexsort((offsets[keep], times[keep]))]
    kept = rows.take(pa.array(order))
    sensors = sorted(
        n for n in kept.column_names if n not in RESERVED and kept.column(n).null_count < kept.num_rows
    )
    return Tidied(kept.select([f.name for f in BASE_FIELDS] + sensors), len(lost), _ranges(np.unique(lost)))


def _duplicates(rows: pa.Table) -> np.ndarray:
    """bool[N]: rows that repeat an earlier one (order of the table is order of arrival)."""
    size = rows.num_rows
    duplicate = np.zeros(size, dtype=bool)
    if size < 2:
        return duplicate
    times = rows.column("event_time").cast(pa.int64()).to_numpy()
    asset = pc.dictionary_encode(rows.column("asset").combine_chunks()).indices.to_numpy()
    has_seq = rows.column("seq").is_valid().to_numpy()
    seq = rows.column("seq").fill_null(0).to_numpy()
    order = np.lexsort((np.arange(size), seq, has_seq, asset, times))
    same = np.ones(size - 1, dtype=bool)
    for key in (times, asset, has_seq, seq):
        sorted_key = key[order]
        same &= sorted_key[1:] == sorted_key[:-1]
    if not same.any():
        return duplicate
    later = order[1:][same]
    duplicate[later[has_seq[later]]] = True
    open_runs = np.flatnonzero(same & ~has_seq[order[1:]])
    if len(open_runs):
        members = np.unique(np.concatenate((order[open_runs], order[open_runs + 1])))
        seen: set[tuple[object, ...]] = set()
        part = rows.take(pa.array(members)).drop_columns(["offset"])
        for row, values in zip(
            members, zip(*(c.to_pylist() for c in part.columns), strict=True), strict=True
        ):
            if values in seen:
                duplicate[row] = True
            seen.add(values)
    return duplicate


def _ranges(offsets: np.ndarray) -> list[list[int]]:
    if len(offsets) == 0:
        return []
    parts = np.split(offsets, np.flatnonzero(np.diff(offsets) > 1) + 1)
    return [[int(part[0]), int(part[-1])] for part in parts]
