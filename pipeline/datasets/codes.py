"""Codes that loggers and historians write where they have no reading: -9999, 32767, 999.9. They are told, never left out by themselves.

A code sets its sensor's scale, so that nothing of the sensor is ever seen again. Leaving it out here would not help: live
scoring sees the values as they are sent, and one real reading lost in silence is worse than a remark. The cure is the sensor's valid range,
which holds for learning and for live scoring alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np
from numpy.typing import NDArray

from models.scaling import as_float32, middle

_FAR = 1.0
"""Widths of the middle 99 % that a repeated code lies beyond everything else: a display or a counter that ends at 9999 comes near it by itself."""
_ONCE = 30.0
"""The same of a code that occurs once. One -9999 among two weeks of minutes took a tenth of the AUC-PR of servers."""


@dataclass(frozen=True)
class Code:
    """A value of `sensor` that looks like a code: `count` of the sensor's `values`. `limit`, in the sensor's unit, lies half way to
    the readings: the least valid value if the code is below them, else the largest."""

    sensor: str
    value: float
    count: int
    values: int
    limit: float

    @property
    def below(self) -> bool:
        """Whether the code is less than every reading."""
        return self.value < self.limit


def codes_of(sensors: Sequence[str], runs: Sequence[NDArray[np.float64]]) -> tuple[Code, ...]:
    """What looks like a code in all raw runs float64[N_i, F] together, by sensor in their order and by value.

    It is a value known for it (`CODES`, as exact as float32), beyond all other readings by the width of their middle 99 %, and there
    twice; or once, but thirty widths away. Where all is code there is nothing to tell it by.
    """
    found: list[Code] = []
    for at in np.flatnonzero(_ends_at_code(runs, len(sensors))):
        column = np.concatenate([run[:, at] for run in runs])
        column = column[np.isfinite(column)]
        coded = np.isin(as_float32(column), CODES)
        readings = np.sort(column[~coded])
        if len(readings) == 0:
            continue
        low, high = middle(readings)
        for value, count in zip(*np.unique(column[coded], return_counts=True), strict=True):
            if readings[0] <= value <= readings[-1]:
                continue
            edge = readings[0] if value < readings[0] else readings[-1]
            if abs(value - edge) >= (_FAR if count > 1 else _ONCE) * (high - low):
                limit = _half_way(float(edge), float(value))
                found.append(Code(sensors[at], float(value), int(count), len(column), limit))
    return tuple(found)


def _ends_at_code(runs: Sequence[NDArray[np.float64]], sensors: int) -> NDArray[np.bool_]:
    """Which sensors' largest or least value is a known code, bool[F]: hardly any, and the others need not be sorted."""
    top, bottom = np.full(sensors, -np.inf), np.full(sensors, np.inf)
    for run in runs:
        known = np.isfinite(run)
        top = np.maximum(top, np.where(known, run, -np.inf).max(axis=0, initial=-np.inf))
        bottom = np.minimum(bottom, np.where(known, run, np.inf).min(axis=0, initial=np.inf))
    return np.isin(as_float32(top), CODES) | np.isin(as_float32(bottom), CODES)


def _half_way(edge: float, value: float) -> float:
    """Between the two and as round as can be."""
    middle = (edge + value) / 2
    if middle == 0:
        return 0.0
    size = floor(log10(abs(middle)))
    for digits in range(size, size - 15, -1):
        rounded = round(middle, -digits)
        if min(edge, value) < rounded < max(edge, value):
            return float(rounded)
    return middle


def _known() -> NDArray[np.float32]:
    """Nines, with or without a fraction; the ends of whole numbers of 16, 24 and 32 bits, also in tenths and hundredths."""
    nines = [10.0**digits - 1 for digits in range(3, 10)]
    fractions = (0.0, 0.9, 0.99, 0.999)
    values = [sign * (whole + part) for whole in nines for part in fractions for sign in (1, -1)]
    values += [-(99 + part) for part in fractions] + [-(whole + 0.25) for whole in nines[:4]]
    for bits in (16, 24, 32):
        for part in (1, 10, 100):
            values += [-(2.0 ** (bits - 1)) / part, (2.0 ** (bits - 1) - 1) / part, (2.0**bits - 1) / part]
    return np.unique(as_float32(np.array(values)))


CODES = _known()
"""float32, sorted."""
