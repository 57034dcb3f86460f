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

    Two rows are the same reading if asset, event time, sequence number and the sensors that have a value agree (a gateway may number
    a scan and send each of its sensors alone); without a sequence number, all their values must agree too, since narrow messages of
    one moment differ only there. Columns without a value are left out.
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


@dataclass(frozen=True)
class TidiedMany:
    """Windows behind each other: window i is rows `bounds[i]` to `bounds[i + 1]` of `rows`, sorted within; the lists have one
    entry a window: sensor columns with a value, base columns without one, whether a column has both, what was dropped."""

    rows: pa.Table
    bounds: list[int]
    sensors: list[tuple[str, ...]]
    silent: list[tuple[str, ...]]
    gappy: list[bool]
    duplicate_rows: list[int]
    duplicate_ranges: list[list[list[int]]]

    def schema_names(self, window: int) -> list[str]:
        """Columns of one window's file."""
        return [f.name for f in BASE_FIELDS] + list(self.sensors[window])


def tidy_many(rows: pa.Table, counts: np.ndarray) -> TidiedMany:
    """As `tidy` for many windows without earlier rows; `counts` int64[W], at least 1, says how many rows each has in `rows`."""
    window = np.repeat(np.arange(len(counts)), counts)
    duplicate = _duplicates(rows)
    offsets = rows.column("offset").to_numpy()
    times = rows.column("event_time").cast(pa.int64()).to_numpy()
    order = np.lexsort((offsets, times, window))
    if duplicate.any():
        order = order[~duplicate[order]]
    if len(order) < rows.num_rows or (order[1:] < order[:-1]).any():
        kept = rows.take(pa.array(order)).combine_chunks()
    else:
        kept = rows.combine_chunks()
    bounds = np.searchsorted(window[order], np.arange(len(counts) + 1))
    sizes = np.diff(bounds)
    names = sorted(n for n in kept.column_names if n not in RESERVED)
    empty, gappy = {}, np.zeros(len(counts), dtype=bool)
    for name in (*names, "seq", "quality"):
        column = kept.column(name)
        if column.null_count:
            valid = np.add.reduceat(column.is_valid().to_numpy().astype(np.int64), bounds[:-1])
            empty[name] = valid == 0
            gappy |= (valid > 0) & (valid < sizes)
    lost = [offsets[at:end][duplicate[at:end]] for at, end in _spans(counts)] if duplicate.any() else None
    return TidiedMany(
        kept,
        bounds.tolist(),
        _chosen(names, empty, len(counts), keep_empty=False),
        _chosen(["seq", "quality"], empty, len(counts), keep_empty=True),
        gappy.tolist(),
        [len(part) for part in lost] if lost else [0] * len(counts),
        [_ranges(np.unique(part)) for part in lost] if lost else [[] for _ in counts],
    )


def _spans(counts: np.ndarray) -> list[tuple[int, int]]:
    ends = np.cumsum(counts).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _chosen(
    names: list[str], empty: dict[str, np.ndarray], windows: int, keep_empty: bool
) -> list[tuple[str, ...]]:
    """For every window the names whose column is empty there, or those whose column is not."""
    never = np.zeros(windows, dtype=bool)
    table = np.array([empty.get(name, never) == keep_empty for name in names]).reshape(len(names), windows)
    patterns, which = np.unique(table.T, axis=0, return_inverse=True)
    chosen = [tuple(n for n, use in zip(names, row, strict=True) if use) for row in patterns]
    return [chosen[i] for i in which.reshape(-1).tolist()]


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
    for numbered in (True, False):
        pairs = np.flatnonzero(same & (has_seq[order[1:]] == numbered))
        if len(pairs):
            members = np.unique(np.concatenate((order[pairs], order[pairs + 1])))
            duplicate[members[_repeats(rows.take(pa.array(members)), numbered)]] = True
    return duplicate


def _repeats(rows: pa.Table, numbered: bool) -> np.ndarray:
    """bool[N]: rows that agree with an earlier one in every column but `offset`, nulls included; of numbered rows only in
    number and in which sensors have a value."""
    keys = [
        rows.column("event_time").cast(pa.int64()).to_numpy(),
        pc.dictionary_encode(rows.column("asset").combine_chunks()).indices.to_numpy(),
    ]
    if numbered:
        keys.append(rows.column("seq").to_numpy())
    for name in rows.column_names:
        if name in RESERVED and (numbered or name in ("offset", "event_time", "asset")):
            continue
        column = rows.column(name)
        if column.null_count == rows.num_rows:
            continue
        if column.null_count:
            keys.append(column.is_null().to_numpy())
            column = column.fill_null(0)
        if not numbered:
            # Adding zero makes -0.0 and 0.0 the same value.
            keys.append(column.to_numpy() + 0)
    order = np.lexsort((np.arange(rows.num_rows), *keys))
    same = np.ones(rows.num_rows - 1, dtype=bool)
    for key in keys:
        arranged = key[order]
        same &= arranged[1:] == arranged[:-1]
    repeated = np.zeros(rows.num_rows, dtype=bool)
    repeated[order[1:][same]] = True
    return repeated


def _ranges(offsets: np.ndarray) -> list[list[int]]:
    if len(offsets) == 0:
        return []
    parts = np.split(offsets, np.flatnonzero(np.diff(offsets) > 1) + 1)
    return [[int(part[0]), int(part[-1])] for part in parts]
