"""Taking a batch apart and putting what became of its parts together again."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from ingestion.decode.readings import Piece
from ingestion.records import Decoded, RecordBatch, empty_readings


def part_of(batch: RecordBatch, indices: np.ndarray) -> RecordBatch:
    """The records at these positions (int64[M], ascending) as a batch of their own."""
    if len(indices) == len(batch.values):
        return batch
    chosen = indices.tolist()
    return RecordBatch(
        batch.site,
        batch.topic,
        batch.partition,
        batch.offsets[indices],
        batch.timestamps[indices],
        [batch.keys[i] for i in chosen],
        [batch.values[i] for i in chosen],
        batch.next_offset,
    )


def usable(batch: RecordBatch, limit: int) -> np.ndarray:
    """bool[N]: values that are there and not longer than `limit`."""
    try:
        sizes = np.fromiter(map(len, batch.values), np.int64, len(batch.values))  # type: ignore[arg-type]
    except TypeError:
        sizes = np.array([len(value or b"") for value in batch.values], dtype=np.int64)
    return (sizes > 0) & (sizes <= limit)


def unite(pieces: Iterable[Piece]) -> Decoded:
    """One outcome in offset order."""
    pieces = list(pieces)
    if len(pieces) == 1:
        only = pieces[0]
        return Decoded(only.readings, sorted(only.rejects, key=lambda r: r.index), only.counts)
    counts: Counter[str] = sum((piece.counts for piece in pieces), Counter())
    rejects = sorted((r for piece in pieces for r in piece.rejects), key=lambda r: r.index)
    tables = [piece.readings for piece in pieces if piece.readings.num_rows]
    if not tables:
        return Decoded(empty_readings(), rejects, counts)
    readings = pa.concat_tables(tables, promote_options="default")
    order = np.argsort(readings.column("offset").to_numpy(), kind="stable")
    return Decoded(readings.take(pa.array(order)), rejects, counts)
