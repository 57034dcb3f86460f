"""Long series made small without losing a peak: the lowest and highest value of each of many equal spans of time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Envelope:
    """Extremes of a series over `len(low)` equal spans of `[start_ns, end_ns]`; NaN where a span holds no value.

    `low` and `high` are float64[B]. Times are ns since 1970 UTC, `end_ns` is the last value's own time.
    """

    start_ns: int
    end_ns: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def envelope(time_ns: NDArray[np.int64], value: NDArray[Any], most: int) -> Envelope:
    """The extremes of `value` float[N] over at most `most` spans; `time_ns` int64[N] increasing, N >= 1.

    With fewer values than `most` every value has a span of its own, so nothing is merged at all.
    """
    start, end = int(time_ns[0]), int(time_ns[-1])
    count = _spans(time_ns, most)
    low, high = np.full(count, np.nan), np.full(count, np.nan)
    finite = np.isfinite(value)
    if finite.any():
        kept = np.asarray(value, np.float64)[finite]
        width = max(1.0, (end - start) / max(1, count - 1))
        bucket = np.rint((time_ns[finite] - start) / width).astype(np.int64).clip(0, count - 1)
        first = np.flatnonzero(np.r_[True, np.diff(bucket) > 0])
        low[bucket[first]] = np.minimum.reduceat(kept, first)
        high[bucket[first]] = np.maximum.reduceat(kept, first)
    return Envelope(start, end, low, high)


def _spans(time_ns: NDArray[np.int64], most: int) -> int:
    if len(time_ns) < 2 or time_ns[-1] == time_ns[0]:
        return 1
    step = max(1.0, float(np.median(np.diff(time_ns))))
    return int(min(most, round((int(time_ns[-1]) - int(time_ns[0])) / step) + 1))


def coarser(source: Envelope, most: int) -> Envelope:
    """The same extremes over at most `most` spans."""
    count = len(source.low)
    if count <= most:
        return source
    first = (np.arange(most) * count) // most
    low, high = (
        np.where(np.isnan(source.low), np.inf, source.low),
        np.where(np.isnan(source.high), -np.inf, source.high),
    )
    low, high = np.minimum.reduceat(low, first), np.maximum.reduceat(high, first)
    return Envelope(
        source.start_ns,
        source.end_ns,
        np.where(np.isinf(low), np.nan, low),
        np.where(np.isinf(high), np.nan, high),
    )
