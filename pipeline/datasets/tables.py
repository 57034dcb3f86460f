"""Readings tables (`docs/architecture.md`): made from a site file's frame, and taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ingestion.records import RESERVED

SMALLEST = float(np.finfo(np.float32).tiny)
"""What is nearer to 0 is 0 to a detector, which computes in float32: what is learned from must be so too, or every step is an alarm."""


def sensor_names(columns: Iterable[str]) -> tuple[str, ...]:
    """Sensors among the columns of a readings table, sorted."""
    return tuple(sorted(set(columns) - set(RESERVED)))


def tables_from_frame(
    frame: pd.DataFrame, sensors: Sequence[str], site: str, rows: int = 100_000
) -> Iterator[pa.Table]:
    """Give a site file's frame (`timestamp`, optional `asset`, sensors) as readings tables in time order."""
    time = pd.to_datetime(frame["timestamp"], utc=True)
    order = np.argsort(time.to_numpy(), kind="stable")
    for first in range(0, len(order), rows):
        part = order[first : first + rows]
        asset = frame["asset"].iloc[part].astype(str).to_list() if "asset" in frame else [site] * len(part)
        nanoseconds = time.iloc[part].dt.tz_localize(None).to_numpy().astype("datetime64[ns]")
        columns = {
            "event_time": pa.array(nanoseconds, pa.timestamp("ns")).cast(pa.timestamp("ns", "UTC")),
            "asset": pa.array(asset, pa.string()),
        }
        for name in sensors:
            columns[name] = pa.array(frame[name].iloc[part].to_numpy(np.float64), pa.float64())
        yield pa.table(columns)


def time_ns(table: pa.Table) -> NDArray[np.int64]:
    """Event times, ns since 1970 UTC."""
    return table.column("event_time").cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()


def column_values(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A sensor's values; NaN for null and whatever is not finite, 0 for what TensorFlow rounds to it (`SMALLEST`)."""
    values = np.array(table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    values[~np.isfinite(values)] = np.nan
    values[np.abs(values) < SMALLEST] = 0.0
    return values


def by_asset(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Each asset with its rows, in their order."""
    if table.num_rows == 0:
        return
    encoded = table.column("asset").combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    names = encoded.dictionary.to_pylist()
    if len(names) == 1:
        yield names[0], table
        return
    for code, name in enumerate(names):
        yield name, table.take(pa.array(np.flatnonzero(codes == code)))
