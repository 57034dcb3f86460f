"""Readings of a made machine as its sensors tell them: what is expected, what moves several sensors, each one's own noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.switching_signals import Mask, Rows, wander

Mate = tuple[str, float]
"""Another sensor that some faults of a sensor move too, and by how much of the fault's size, with its sign."""


@dataclass(frozen=True)
class Sensor:
    """A sensor and its readings before they are rounded, as three parts of them, float64[N] each.

    `expected`: what the machine does. `shared`: deviations that other sensors see too. `own`: its noise. `kind`: `temp`, `press`, `flow`,
    `elec`, `level`, `qual`, `vib` or `set`, which says what can go wrong. `active`: steps at which its part of the machine works, None
    where that is when the machine does. `sleeps`: it tells exactly 0 while the machine does not run.
    """

    name: str
    kind: str
    expected: Rows
    shared: Rows
    own: Rows
    resolution: float
    positive: bool
    active: Mask | None
    sleeps: bool
    mate: Mate | None

    @property
    def deviation(self) -> Rows:
        """What the readings differ from those expected by."""
        return self.shared + self.own

    @property
    def raw(self) -> Rows:
        """Readings before they are rounded."""
        return self.expected + self.shared + self.own


class Plant:
    """A machine to be: its clock, its random numbers and the sensors that it has so far. Training steps come first, the test's behind them."""

    def __init__(
        self, seed: int, tag: int, train: int, test: int, step_seconds: float, start_hour: float = 0.0
    ) -> None:
        self.random = np.random.default_rng([seed, tag, 1])
        self.fault_random = np.random.default_rng([seed, tag, 2])
        self.train, self.rows, self.step_seconds = train, train + test, float(step_seconds)
        self.seconds = start_hour * 3600.0 + np.arange(self.rows) * self.step_seconds
        self.sensors: list[Sensor] = []

    def steps(self, seconds: float) -> float:
        """How many steps that many seconds are."""
        return seconds / self.step_seconds

    def add(
        self,
        name: str,
        kind: str,
        expected: Rows | float,
        noise: Rows | float,
        shared: Rows | float = 0.0,
        resolution: float = 0.0,
        *,
        signed: bool = False,
        active: Mask | None = None,
        sleeps: bool = False,
        mate: Mate | None = None,
    ) -> None:
        """One more sensor, with own noise of that deviation: mostly white, of normal or heavy tails, and some that lasts a few steps.

        `signed`: it can tell values below zero, as all of temperature do.
        """
        random, rows = self.random, self.rows
        normal = random.random() < 0.6
        white = random.standard_normal(rows) if normal else random.standard_t(7, rows) * np.sqrt(5 / 7)
        own = 0.85 * white + 0.53 * wander(random, rows, random.uniform(4, 25))
        parts = np.full(rows, expected, np.float64), np.full(rows, shared, np.float64), own * noise
        positive = kind != "temp" and not signed
        self.sensors.append(Sensor(name, kind, *parts, resolution, positive, active, sleeps, mate))


def told(sensors: list[Sensor], raw: Rows, awake: Mask) -> Rows:
    """Readings float64[N, F] of raw ones: not below zero where a sensor cannot, in steps of its resolution, 0 where it sleeps and is not `awake` bool[N, F]."""
    readings = raw.copy()
    for column, sensor in enumerate(sensors):
        values = readings[:, column]
        if sensor.positive:
            values = np.clip(values, 0.0, None)
        if sensor.resolution:
            values = np.round(np.round(values / sensor.resolution) * sensor.resolution, 9)
        if sensor.sleeps:
            values = np.where(awake[:, column], values, 0.0)
        readings[:, column] = values
    return readings
