"""Where values and times stand on a chart: the level axis, tick marks, and how numbers and times are written."""

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BELOW = 0.4
_STEPS_S = (
    1,
    5,
    15,
    60,
    300,
    900,
    3600,
    10_800,
    21_600,
    43_200,
    86_400,
    172_800,
    604_800,
    1_209_600,
    2_592_000,
    7_776_000,
    31_536_000,
)


@dataclass(frozen=True)
class LevelScale:
    """Height of a level, 0 (bottom) to 1 (top).

    With `relative` the lower two fifths hold 0 to the threshold evenly and the rest is logarithmic up to `top` times
    the threshold, so that normal operation stays readable beside an incident a hundred times above it.
    Otherwise the axis is even from `bottom` to `top`.
    """

    top: float
    relative: bool = True
    bottom: float = 0.0

    @classmethod
    def covering(cls, high: NDArray[np.float64], low: NDArray[np.float64], relative: bool) -> "LevelScale":
        """A scale that holds all values of an envelope."""
        finite = np.concatenate([high[np.isfinite(high)], low[np.isfinite(low)], [1.0] if relative else []])
        peak = float(finite.max(initial=0.0 if finite.size == 0 else -math.inf))
        if relative:
            return cls(max(3.0, peak * 1.15))
        floor = float(finite.min(initial=0.0 if finite.size == 0 else math.inf))
        return cls(peak if peak > floor else floor + 1.0, False, floor)

    def height(self, value: NDArray[Any]) -> NDArray[np.float64]:
        """Heights of values, NaN kept, others clipped to [0, 1]."""
        value = np.asarray(value, np.float64)
        if not self.relative:
            return np.clip((value - self.bottom) / (self.top - self.bottom), 0, 1)
        safe = np.where(value > 1, value, 1.0)
        above = _BELOW + (1 - _BELOW) * np.log(safe) / math.log(self.top)
        return np.clip(np.where(value > 1, above, _BELOW * value), 0, 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and texts of the marks, bottom up."""
        if not self.relative:
            even = np.linspace(self.bottom, self.top, 4)
            return [(float(self.height(np.array(v))), number(float(v))) for v in even]
        values = [0.0, 0.5, 1.0]
        decade = [2.0, 5.0, 10.0] if self.top <= 60 else [3.0, 10.0, 30.0]
        factor = 1.0
        while decade[0] * factor < self.top and len(values) < 9:
            values += [d * factor for d in decade if d * factor <= self.top]
            factor *= 10 if self.top <= 60 else 100
            decade = [d for d in decade if d > 1.5]
        return [(float(self.height(np.array(v))), f"{v:g}") for v in dict.fromkeys(values)]


def even_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most + 1` round numbers in `[low, high]`, evenly spaced by 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(1, most) or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    return [
        round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def time_ticks(start_ns: int, end_ns: int, most: int = 8) -> list[tuple[int, str]]:
    """At most `most` round UTC instants in `[start_ns, end_ns]` with their texts."""
    span = max(1e-9, (end_ns - start_ns) / 1e9)
    step = next((s for s in _STEPS_S if span / s <= most), math.ceil(span / most))
    first = math.ceil(start_ns / 1e9 / step) * step
    marks = []
    for second in range(int(first), int(end_ns // 10**9) + 1, int(step)):
        moment = _moment(second * 10**9)
        marks.append((second * 10**9, moment.strftime("%d %b" if step >= 86_400 else "%d %b %H:%M")))
    return marks


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns // 10**9, timezone.utc)


def instant(time_ns: int) -> str:
    """`2026-03-01 10:00:05`, UTC; seconds are left out when they are zero."""
    moment = _moment(time_ns)
    return moment.strftime("%Y-%m-%d %H:%M" if moment.second == 0 else "%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """A length of time in the two largest units that matter: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{round(whole / 60)} min"
    if whole < 172_800:
        hours, minutes = divmod(round(whole / 60), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(whole / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with `digits` significant digits, but no digit before the point lost, and thin grouping; a dash if it is not known.

    >>> number(113.4, 2), number(1.26, 2), number(None)
    ('113', '1.3', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")
    if abs(value) >= 10**digits:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """A share as a percentage; a dash if it is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.0f} %" if value == 0 or value >= 0.095 else f"{100 * value:.2g} %"
