"""Signals that the switching machines are made of (`benchmarks/switching_machines.py`): noise, lags, days, shifts and phases."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Rows = NDArray[np.float64]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]
HOUR, DAY = 3600.0, 86400.0
"""In seconds."""


def wander(random: np.random.Generator, rows: int, memory: float, deviation: float = 1.0) -> Rows:
    """Noise float64[rows] of first order that forgets within `memory` steps."""
    white = random.standard_normal(rows)
    white[0] = random.standard_normal()
    return deviation * remembering(white, memory)


def remembering(white: Rows, memory: float) -> Rows:
    """White noise of deviation 1 as noise of first order, of deviation 1 as well, that forgets within `memory` steps."""
    keep = np.exp(-1.0 / memory)
    noise = white * np.sqrt(1 - keep * keep)
    noise[0] = white[0]
    return np.asarray(lfilter([1.0], [1.0, -keep], noise))


def lag(wanted: Rows, memory: float, falling: float | None = None) -> Rows:
    """What answers to `wanted` with a lag of first order of `memory` steps, downwards of `falling` steps where that is another."""
    up = 1 - np.exp(-1.0 / memory)
    if falling is None:
        start = [-(up - 1.0) * wanted[0]]
        return np.asarray(lfilter([up], [1.0, up - 1.0], wanted, zi=start)[0])
    down = 1 - np.exp(-1.0 / falling)
    answer, value = np.empty(len(wanted)), float(wanted[0])
    for row, target in enumerate(wanted.tolist()):
        value += (up if target > value else down) * (target - value)
        answer[row] = value
    return answer


def ambient(random: np.random.Generator, seconds: Rows, size: float, mean: float) -> Rows:
    """Degrees of a hall that is `size` warmer than on average in the afternoon and wanders besides."""
    warmest = random.uniform(14, 16) * HOUR
    course = mean + size * np.cos(2 * np.pi * (seconds - warmest) / DAY)
    step = seconds[1] - seconds[0]
    return np.asarray(course + wander(random, len(seconds), 12 * HOUR / step, size * 0.35))


def shifts(
    random: np.random.Generator,
    seconds: Rows,
    hours: Iterable[tuple[float, float]],
    workdays: int = 5,
    jitter_minutes: float = 6.0,
) -> Mask:
    """Steps within `hours` (from, to) of the first `workdays` days of a week, give or take the jitter; second 0 is Monday 0:00."""
    within = np.zeros(len(seconds), np.bool_)
    for day in range(int(seconds[-1] // DAY) + 1):
        if day % 7 >= workdays:
            continue
        for begin, end in hours:
            first = day * DAY + begin * HOUR + random.normal(0, jitter_minutes * 60)
            last = day * DAY + end * HOUR + random.normal(0, jitter_minutes * 60)
            within |= (seconds >= first) & (seconds < last)
    return within


def pieces(rows: int, draw: Callable[[int], tuple[float, float]]) -> tuple[Rows, Numbers]:
    """Values float64[rows] that stay for a while, and which piece a step is of; `draw` gives steps and value of a piece by its number."""
    values, numbers = np.zeros(rows), np.zeros(rows, np.int64)
    at = number = 0
    while at < rows:
        drawn, value = draw(number)
        lasts = max(1, int(drawn))
        values[at : at + lasts], numbers[at : at + lasts] = value, number
        at, number = at + lasts, number + 1
    return values, numbers


def stretches(rows: int, first: int, draw: Callable[[], tuple[int, int]]) -> Mask:
    """Steps within stretches of which the first begins at `first`; `draw` gives the steps of one and those from its end to the next."""
    within, at = np.zeros(rows, np.bool_), first
    while at < rows:
        lasts, gap = draw()
        within[at : at + lasts] = True
        at += lasts + gap
    return within


def lay_phases(phase: Numbers, fraction: Rows, at: int, lengths: Iterable[int]) -> int:
    """Write phases 1, 2, ... of these lengths from step `at` on and how far each has come; gives the step behind them."""
    for number, lasts in enumerate(lengths, 1):
        end = min(at + lasts, len(phase))
        phase[at:end] = number
        fraction[at:end] = (np.arange(end - at) + 0.5) / lasts
        at = end
        if at >= len(phase):
            break
    return at


def age(running: Mask) -> Numbers:
    """Steps since it began to run, 1 at the first, 0 where it does not."""
    step = np.arange(len(running))
    stood = np.maximum.accumulate(np.where(~running, step, -1))
    return np.where(running, step - stood, 0)
