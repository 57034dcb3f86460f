"""Signals that the held-out machines share (`benchmarks/held_out_machines.py`), besides those of `benchmarks/switching_signals.py`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.switching_plant import Plant
from benchmarks.switching_signals import DAY, HOUR, Mask, Numbers, Rows, lag, lay_phases, remembering


def heavy(random: np.random.Generator, rows: int, scale: float, freedom: float = 3.0) -> Rows:
    """White noise float64[rows] of heavy tails, never beyond 8 times its scale."""
    return np.asarray(scale * np.clip(random.standard_t(freedom, rows), -8, 8))


def cycles(
    rows: int, draw: Callable[[int], tuple[int, list[int]]], before: int = 0
) -> tuple[Numbers, Rows, Numbers]:
    """Phase 1, 2, ... of a cycle or 0 where it waits, how far that has come 0..1, and the cycle's number, each [rows].

    `draw`: by a cycle's number the steps it waits before its phases, and the steps of those.
    """
    phase, cycle, done = np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.zeros(rows)
    at, number = before, 0
    while at < rows:
        waits, lengths = draw(number)
        begin, at = at, lay_phases(phase, done, at + waits, lengths)
        cycle[begin:] = number
        number += 1
    return phase, done, cycle


def fresh(plant: Plant, lasts: tuple[float, float] = (0.12, 0.3)) -> Mask:
    """One stretch of the test, of that share of it, in which something is new."""
    test = plant.rows - plant.train
    steps = int(test * plant.random.uniform(*lasts))
    begin = plant.train + int(plant.random.integers(test // 10, test - steps))
    return (np.arange(plant.rows) >= begin) & (np.arange(plant.rows) < begin + steps)


def worn(plant: Plant, life: float) -> Rows:
    """Wear float64[rows] that grows to 1 within about `life` steps, when the part is replaced and it is 0 again."""
    wear, at = np.zeros(plant.rows), -int(plant.random.uniform(0, 0.75 * life))
    while at < plant.rows:
        steps = int(life * plant.random.uniform(0.8, 1.2))
        course = np.arange(steps) / life
        shown = slice(max(at, 0), min(at + steps, plant.rows))
        wear[shown] = course[shown.start - at : shown.stop - at]
        at += steps
    return wear


def per_cycle(random: np.random.Generator, cycle: Numbers, memory: float) -> Rows:
    """What differs from cycle to cycle and stays within one, float64[rows], of deviation 1."""
    return np.asarray(remembering(random.standard_normal(int(cycle.max()) + 1), memory)[cycle])


def bump(plant: Plant, hour: float, width: float) -> Rows:
    """A rise to 1 at that hour of every day, of so many hours."""
    away = (plant.seconds / HOUR - hour + 12) % 24 - 12
    return np.exp(-0.5 * (away / width) ** 2)


def weekday(plant: Plant) -> Rows:
    """1 on the first five days of a week, smoothed over the night."""
    return lag(((plant.seconds // DAY) % 7 < 5) * 1.0, plant.steps(1.5 * HOUR))
