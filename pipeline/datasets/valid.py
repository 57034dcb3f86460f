"""Valid ranges of sensors, held to readings that were ingested before the range was set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.datasets.tables import column_values


@dataclass(frozen=True)
class Valid:
    """The least and the largest valid value of a sensor at a site, by the name and in the unit that are kept; None is no bound."""

    site: str
    sensor: str
    least: float | None
    largest: float | None


def within(table: pa.Table, limits: Mapping[str, Valid], out: Counter[str]) -> pa.Table:
    """The readings table with null for values outside the `limits` of their sensors; `out` is increased by their number."""
    for name in set(table.column_names) & set(limits):
        valid, values = limits[name], column_values(table, name)
        low = -np.inf if valid.least is None else valid.least
        high = np.inf if valid.largest is None else valid.largest
        wrong = (values < low) | (values > high)
        if wrong.any():
            out[name] += int(wrong.sum())
            kept = pa.array(values, pa.float64(), mask=wrong | np.isnan(values))
            table = table.set_column(table.column_names.index(name), name, kept)
    return table
