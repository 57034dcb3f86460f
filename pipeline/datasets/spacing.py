"""How far apart the readings of a sensor are: what the grid's step is taken from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.datasets.tables import by_asset, column_values, sensor_names, time_ns

_SAMPLE_ROWS = 50_000


def infer_step_ns(tables: Iterable[pa.Table]) -> int | None:
    """Median spacing of a sensor's distinct event times, in ns, to three significant digits.

    See `Spacings`. None if no sensor has two distinct times.
    """
    spacings = Spacings()
    for table in tables:
        if not spacings.add(table):
            break
    return spacings.median_ns()


class Spacings:
    """Event times of every sensor of every asset, of the first rows of a site.

    Each sensor counts by itself: sensors that report one after the other, each in a message of its own, give their period and not the
    pause between two of them. One that reports more often counts more.
    """

    def __init__(self, rows: int = _SAMPLE_ROWS) -> None:
        """Looks at the first `rows` rows, to the end of the table they lie in."""
        self._left = rows
        self._times: dict[tuple[str, str], list[NDArray[np.int64]]] = {}

    def add(self, table: pa.Table) -> bool:
        """Take the next readings of the site; False once enough was seen."""
        if self._left <= 0:
            return False
        for asset, part in by_asset(table):
            at = time_ns(part)
            for name in sensor_names(part.column_names):
                spoke = ~np.isnan(column_values(part, name))
                # Sensors that came in the same rows share one array.
                self._times.setdefault((asset, name), []).append(at if spoke.all() else at[spoke])
        self._left -= table.num_rows
        return self._left > 0

    def median_ns(self) -> int | None:
        """The median over all sensors' spacings: it ignores lost readings and bursts, and jitter vanishes in the rounding."""
        alike = Counter(tuple(id(part) for part in parts) for parts in self._times.values())
        spacings, weights = [], []
        for parts in self._times.values():
            many = alike.pop(tuple(id(part) for part in parts), 0)
            if many:
                spacing = np.diff(np.unique(np.concatenate(parts)))
                spacings.append(spacing)
                weights.append(np.full(len(spacing), many))
        every = np.concatenate([*spacings, np.empty(0, np.int64)])
        if len(every) == 0:
            return None
        order = np.argsort(every, kind="stable")
        reached = np.cumsum(np.concatenate(weights)[order])
        # The mean of the two in the middle, as for any median of an even number.
        low, high = (
            every[order[np.searchsorted(reached, reached[-1] * 0.5, side)]] for side in ("left", "right")
        )
        return max(1, int(float(f"{(low + high) / 2:.3g}")))
