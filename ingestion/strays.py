"""Rows of an export whose time lies years from all others, as a clock writes before it is set. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAST = 100
"""Of fewer rows nobody can say what is usual."""
_SHARE = 1000
"""At most one row in so many (and one in any case) is stray; more are a stretch of their own, whatever they are."""
_FAR = 3
"""A stray row is further from the others than so many times what they span."""


def without_strays(times_ns: NDArray[np.int64]) -> slice:
    """Which of ascending times int64[N] belong together; what lies before and behind them is stray.

    >>> without_strays(np.array([0, *range(10**6, 10**6 + 200)]))
    slice(1, 201, None)
    """
    rows = len(times_ns)
    few = max(1, rows // _SHARE)
    core = int(times_ns[rows - 1 - few] - times_ns[few]) if rows >= _LEAST else 0
    if core <= 0:
        return slice(0, rows)
    far = np.flatnonzero(np.diff(times_ns) > _FAR * core)
    first = max((int(at) + 1 for at in far if at < few), default=0)
    last = min((int(at) + 1 for at in far if at >= rows - 1 - few), default=rows)
    return slice(first, last)
