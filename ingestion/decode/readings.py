"""The last step that all decoders share: resolve times, refuse implausible ones, name the asset, build the table."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion import eventtime
from ingestion.decode.columns import Columns
from ingestion.decode.rows import Row
from ingestion.eventtime import NS, Times
from ingestion.records import BASE_FIELDS, EVENT_TIME, RecordBatch, Reject
from ingestion.settings import DecodeRules, EventTimeRules
from ingestion.tasks import heed


@dataclass(frozen=True)
class Piece:
    """Part of a batch's readings, with the messages in it that had to be refused and the counts."""

    readings: pa.Table
    rejects: list[Reject]
    counts: Counter[str]


def from_columns(
    found: Columns, indices: np.ndarray, batch: RecordBatch, rules: EventTimeRules, decode: DecodeRules
) -> Piece:
    """Readings of columnar messages; `indices` int64[M] are the messages' positions in the batch."""
    parent = indices[found.parent]
    counts = Counter(found.counts)
    if found.ignored:
        counts["ignored_field"] += found.ignored
    times = _times(found.time, parent, batch, rules, counts)
    sensors: dict[str, pa.Array] = {}
    for name, array in found.sensors.items():
        if decode.sensors and name not in decode.sensors:
            counts["unknown_sensor"] += len(array) - array.null_count
            continue
        sensors[name] = _finite(array, counts)
    asset = _assets(found.asset, parent, batch)
    quality = found.quality
    if quality is not None:
        try:
            quality = pc.cast(quality, pa.int16())
        except pa.ArrowInvalid:
            inside = pc.and_(pc.greater_equal(quality, -(2**15)), pc.less(quality, 2**15))
            counts["bad_quality"] += int(pc.sum(pc.invert(inside)).as_py() or 0)
            quality = pc.cast(pc.if_else(inside, quality, pa.scalar(None, quality.type)), pa.int16())
    return _build(parent, times, asset, found.seq, quality, sensors, batch, rules, counts)


def from_rows(rows: list[Row], parent: np.ndarray, batch: RecordBatch, rules: EventTimeRules) -> Piece:
    """Readings of messages read one by one; `parent` int64[R] is each row's message position in the batch."""
    counts: Counter[str] = Counter()
    times = _times_of_rows(rows, parent, batch, rules, counts)
    sensors = sensor_columns(rows)
    asset = _assets(pa.array([row.asset for row in rows], pa.string()), parent, batch)
    seq = pa.array([row.seq for row in rows], pa.int64())
    quality = pa.array([row.quality for row in rows], pa.int16())
    return _build(parent, times, asset, seq, quality, sensors, batch, rules, counts)


def _times_of_rows(
    rows: list[Row], parent: np.ndarray, batch: RecordBatch, rules: EventTimeRules, counts: Counter[str]
) -> Times:
    raw = [row.time for row in rows]
    if raw and all(type(time) is int and -(2**63) <= time < 2**63 for time in raw):
        return eventtime.from_numbers(np.array(raw, dtype=np.int64), rules)
    ns = np.zeros(len(rows), dtype=np.int64)
    bad = np.zeros(len(rows), dtype=bool)
    for i, sent in enumerate(raw):
        heed()
        if sent is None:
            ns[i] = batch.timestamps[parent[i]] * 1_000_000
            bad[i] = batch.timestamps[parent[i]] < 0
            counts["unknown_time"] += 1
        else:
            time = eventtime.one_time(sent, rules, counts)
            ns[i], bad[i] = time or 0, time is None
    return Times(ns, bad, Counter())


def sensor_columns(rows: list[Row]) -> dict[str, pa.Array]:
    """A float64[R] column for every sensor that any row names, in order of appearance."""
    size = len(rows)
    cells: dict[str, tuple[list[int], list[float]]] = {}
    for at, row in enumerate(rows):
        for name, value in row.sensors.items():
            cell = cells.get(name)
            if cell is None:
                cell = cells[name] = ([], [])
            if value is not None:
                cell[0].append(at)
                cell[1].append(value)
    sensors = {}
    for name, (places, values) in cells.items():
        column, missing = np.zeros(size), np.ones(size, dtype=bool)
        column[places] = values
        missing[places] = False
        sensors[name] = pa.array(column, mask=missing)
    return sensors


def _times(
    raw: pa.Array | None, parent: np.ndarray, batch: RecordBatch, rules: EventTimeRules, counts: Counter[str]
) -> Times:
    record_ns = batch.timestamps[parent] * 1_000_000
    if raw is None:
        counts["unknown_time"] += len(parent)
        return Times(record_ns, record_ns < 0, Counter())
    missing = raw.is_null().to_numpy(zero_copy_only=False) if raw.null_count else None
    if pa.types.is_string(raw.type):
        times = eventtime.from_text(raw, rules)
    else:
        filled = raw.fill_null(0) if raw.null_count else raw
        times = eventtime.from_numbers(filled.to_numpy(zero_copy_only=False), rules)
    counts.update(times.counts)
    if missing is None:
        return times
    counts["unknown_time"] += int(missing.sum())
    return Times(
        np.where(missing, record_ns, times.ns), np.where(missing, record_ns < 0, times.bad), Counter()
    )


def _finite(array: pa.Array, counts: Counter[str]) -> pa.Array:
    values = array.to_numpy(zero_copy_only=False)
    if np.isfinite(values).all():
        return array
    wrong = pc.invert(pc.is_finite(array)).fill_null(False)
    number = int(pc.sum(wrong).as_py() or 0)
    if number == 0:
        return array
    counts["non_finite"] += number
    return pc.if_else(wrong, pa.scalar(None, pa.float64()), array)


def _assets(asset: pa.Array | None, parent: np.ndarray, batch: RecordBatch) -> pa.Array:
    if (
        asset is not None
        and asset.null_count == 0
        and (len(asset) == 0 or pc.min(pc.binary_length(asset)).as_py())
    ):
        return asset
    known = asset.to_pylist() if asset is not None else [None] * len(parent)
    return pa.array(
        [a or _key(batch.keys[i]) or batch.site for a, i in zip(known, parent, strict=True)], pa.string()
    )


def _key(key: bytes | None) -> str | None:
    if not key or len(key) > 256:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def _build(
    parent: np.ndarray,
    times: Times,
    asset: pa.Array,
    seq: pa.Array | None,
    quality: pa.Array | None,
    sensors: dict[str, pa.Array],
    batch: RecordBatch,
    rules: EventTimeRules,
    counts: Counter[str],
) -> Piece:
    size = len(parent)
    columns = [
        pa.array(batch.offsets[parent]),
        pa.array(times.ns).cast(EVENT_TIME),
        asset,
        pa.nulls(size, pa.int64()) if seq is None else seq,
        pa.nulls(size, pa.int16()) if quality is None else quality,
        *sensors.values(),
    ]
    schema = pa.schema([*BASE_FIELDS, *(pa.field(name, pa.float64()) for name in sensors)])
    readings = pa.Table.from_arrays(columns, schema=schema)
    rejects = _refused_times(parent, times, batch, rules)
    if rejects:
        gone = np.isin(parent, [reject.index for reject in rejects])
        readings = readings.filter(pa.array(~gone))
    return Piece(readings, rejects, counts)


def _refused_times(
    parent: np.ndarray, times: Times, batch: RecordBatch, rules: EventTimeRules
) -> list[Reject]:
    record_ns = batch.timestamps[parent] * 1_000_000
    limit = record_ns + int(rules.max_future_skew * NS)
    future = (times.ns > limit) & (record_ns >= 0) & ~times.bad
    if not times.bad.any() and not future.any():
        return []
    rejects: dict[int, Reject] = {}
    for row in np.flatnonzero(times.bad | future):
        index = int(parent[row])
        if index in rejects:
            continue
        if times.bad[row]:
            text = f"no plausible time: expected s, ms, us or ns since 1970 or ISO 8601 with offset, from {rules.earliest_year} on"
            rejects[index] = Reject(index, "bad_timestamp", text)
        else:
            ahead = (int(times.ns[row]) - int(record_ns[row])) / NS
            text = f"{ahead:.0f} s ahead of the record's own time, more than max_future_skew = {rules.max_future_skew:.0f} s"
            rejects[index] = Reject(index, "future_timestamp", text, stage="event_time")
    return [rejects[index] for index in sorted(rejects)]
