"""Machines of kinds that factories have and the public sets lack, made from a seed: readings in which nothing is wrong.

Each maker gives raw rows float64[N, F], training first. What they share: a few common drivers that wander and return, which all
sensors follow in their own units, and noise. Sizes and speeds were set once, before any detector saw them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Rows = NDArray[np.float64]
_SENSORS = 10
_DAY = 144
"""Steps of ten minutes in a day."""


@dataclass(frozen=True)
class Kind:
    """A kind of machine: what it is like, how many rows it trains on and is judged on, and how its readings are made."""

    says: str
    make: Callable[[np.random.Generator, int, int], Rows]
    train: int = 5000
    test: int = 5000
    step_seconds: float = 60.0


def wandering(random: np.random.Generator, rows: int, count: int, memory: float = 50.0) -> Rows:
    """Independent signals [rows, count] of variance 1 that forget within `memory` steps."""
    keep = np.exp(-1.0 / memory)
    noise = random.normal(size=(rows + int(10 * memory), count)) * np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1.0, -keep], noise, axis=0)[int(10 * memory) :])


def following(random: np.random.Generator, drivers: Rows, sensors: int, noise: float = 0.3) -> Rows:
    """Sensors [rows, sensors] that follow the drivers, each in its own mixture, unit and offset."""
    mixture = random.normal(size=(drivers.shape[1], sensors))
    mixture /= np.linalg.norm(mixture, axis=0)
    values = drivers @ mixture + noise * random.normal(size=(len(drivers), sensors))
    unit = 10.0 ** random.uniform(-1, 3, sensors)
    return np.asarray((values + random.uniform(3, 10, sensors)) * unit)


def ordinary(random: np.random.Generator, train: int, test: int, sensors: int = _SENSORS) -> Rows:
    """Three drivers and noise; the others are this with one thing changed."""
    return following(random, wandering(random, train + test, min(3, sensors)), sensors)


def _levels(random: np.random.Generator, rows: int, count: int, usual: float, levels: int = 4) -> Rows:
    """`count` set points [rows, count] that jump between `levels` values after some `usual` steps."""
    found = np.empty((rows, count))
    for column in range(count):
        values, at = random.uniform(-1.7, 1.7, levels), 0
        while at < rows:
            stays = int(random.exponential(usual)) + 5
            found[at : at + stays, column] = random.choice(values)
            at += stays
    return found


def _lagging(values: Rows, memory: float) -> Rows:
    """What answers to values with a lag of first order."""
    keep = np.exp(-1.0 / memory)
    return np.asarray(lfilter([1 - keep], [1.0, -keep], values, axis=0, zi=keep * values[:1])[0])


def _batches(random: np.random.Generator, train: int, test: int) -> Rows:
    """Three recipes of five phases; each phase has its set points, lasts a little longer or shorter each time, and is answered with a lag."""
    recipes = [(random.integers(10, 40, 5), random.normal(size=(5, _SENSORS))) for _ in range(3)]
    parts, rows = [], 0
    while rows < train + test:
        lengths, points = recipes[int(random.integers(3))]
        for length, point in zip(lengths, points, strict=True):
            lasts = max(3, int(length * random.uniform(0.85, 1.15)))
            parts.append(np.tile(point, (lasts, 1)))
            rows += lasts
    wanted = np.concatenate(parts)[: train + test]
    return (_lagging(wanted, 4.0) + 0.1 * random.normal(size=wanted.shape)) * 10.0 + 100.0


def _working_hours(rows: int) -> NDArray[np.bool_]:
    at = np.arange(rows)
    hour, day = at % _DAY * 24 / _DAY, at // _DAY % 7
    return np.asarray((hour >= 6) & (hour < 22) & (day < 5))


def _off(value: float) -> Callable[[np.random.Generator, int, int], Rows]:
    def make(random: np.random.Generator, train: int, test: int) -> Rows:
        on = _working_hours(train + test)[:, None]
        return np.where(on, ordinary(random, train, test), value)

    return make


def _counters(random: np.random.Generator, train: int, test: int) -> Rows:
    """Seven ordinary sensors, an hour meter, and two totalisers of flows that begin anew at 10,000."""
    values = ordinary(random, train, test, 7)
    flows = np.exp(0.3 * wandering(random, len(values), 2) + 0.2 * random.normal(size=(len(values), 2)))
    hours = np.arange(len(values))[:, None] / 60.0 + 4000.0
    return np.hstack([values, hours, np.cumsum(flows * [5.0, 17.0], axis=0) % 10_000.0])


def _set_points(random: np.random.Generator, train: int, test: int) -> Rows:
    """Three set points and seven sensors that follow them with a lag and drivers besides."""
    points = _levels(random, train + test, 3, 200.0)
    drivers = np.hstack([_lagging(points, 8.0), 0.5 * wandering(random, train + test, 2)])
    return np.hstack([points, following(random, drivers, _SENSORS - 3, 0.15)])


def _seasons(random: np.random.Generator, train: int, test: int) -> Rows:
    """Days and weeks, to each sensor in its own size and phase."""
    at = np.arange(train + test)[:, None] / _DAY
    first, second = random.uniform(0, 2 * np.pi, (2, _SENSORS))
    day = np.sin(2 * np.pi * at + first) + 0.4 * np.sin(4 * np.pi * at + second)
    week = random.uniform(0.2, 0.8, _SENSORS) * np.sin(2 * np.pi * at / 7 + second)
    own = following(random, wandering(random, train + test, 3), _SENSORS)
    return own + (day + week) * own.std(axis=0)


def _heavy_tails(random: np.random.Generator, train: int, test: int) -> Rows:
    """Vibration: log-normal, of a common load and by itself."""
    load = wandering(random, train + test, 2)
    mixture = random.uniform(0.2, 0.6, (2, _SENSORS))
    return np.exp(load @ mixture + 0.6 * random.normal(size=(train + test, _SENSORS)))


def _quantised(random: np.random.Generator, train: int, test: int) -> Rows:
    """Half of the sensors in steps of one standard deviation, the others in steps of a half."""
    values = ordinary(random, train, test)
    step = values.std(axis=0) * np.where(np.arange(_SENSORS) % 2, 1.0, 0.5)
    return np.asarray(np.round(values / step) * step)


def _sparse(random: np.random.Generator, train: int, test: int) -> Rows:
    """Nine cells of ten are missing, at random."""
    values = ordinary(random, train, test)
    return np.where(random.random(values.shape) < 0.1, values, np.nan)


def _slow_reports(random: np.random.Generator, train: int, test: int) -> Rows:
    """Half of the sensors report every twentieth step and are held in between, as the data sets of a run hold them."""
    values = ordinary(random, train, test)
    held = values[np.arange(len(values)) // 20 * 20]
    return np.where(np.arange(_SENSORS) % 2, held, values)


def _wakes(random: np.random.Generator, train: int, test: int) -> Rows:
    """One sensor stands at 0 until a quarter of the test is over, then works as the others do."""
    values = ordinary(random, train, test)
    values[: train + test // 4, 0] = 0.0
    return values


def _twins(random: np.random.Generator, train: int, test: int) -> Rows:
    """Five sensors, each measured twice: copies to a thousandth of their deviation."""
    values = ordinary(random, train, test, _SENSORS // 2)
    copies = values + 1e-3 * values.std(axis=0) * random.normal(size=values.shape)
    return np.hstack([values, copies * 1.8 + 32.0])


def _year(random: np.random.Generator, train: int, test: int) -> Rows:
    """A season that training saw a part of: every sensor goes up or down by two deviations through the test."""
    values = ordinary(random, train, test)
    course = np.sin(np.linspace(-0.5, 1.0, len(values)) * np.pi / 2)[:, None]
    return values + 2.0 * course * values.std(axis=0) * random.choice([-1.0, 1.0], _SENSORS)


def _mostly_idle(random: np.random.Generator, train: int, test: int) -> Rows:
    """Valves and motors: nearly always at 0, now and then at work for a while, besides five ordinary sensors."""
    values = ordinary(random, train, test, 5)
    works = _levels(random, len(values), 5, 30.0, 20)
    works = np.where(works > 1.3, works, 0.0)
    return np.hstack([values, works * 50.0])


def _at_once(random: np.random.Generator, states: Rows) -> Rows:
    """Sensors that take the state's values at once, each with noise of a hundredth to a tenth of what they differ by."""
    spread = states.std(axis=0) * 10.0 ** random.uniform(-2, -1, states.shape[1])
    return np.asarray((states + spread * random.normal(size=states.shape) + 5.0) * 20.0)


def _shifts(random: np.random.Generator, train: int, test: int) -> Rows:
    """On from six to ten, off at night, at steps of 30 s; all sensors follow the one switch."""
    hour = np.arange(train + test) / 120.0 % 24.0
    on = ((hour >= 6.0) & (hour < 22.0)).astype(np.float64)[:, None]
    return _at_once(random, on * random.uniform(1.0, 3.0, _SENSORS) * random.choice([-1.0, 1.0], _SENSORS))


def _products(random: np.random.Generator, train: int, test: int) -> Rows:
    """One of five products for one to four hours at steps of 30 s, each with values of its own at every sensor."""
    products, parts, rows = random.normal(size=(5, _SENSORS)), [], 0
    while rows < train + test:
        lasts = int(random.integers(120, 480))
        parts.append(np.tile(products[random.integers(5)], (lasts, 1)))
        rows += lasts
    return _at_once(random, np.concatenate(parts)[: train + test])


KINDS: dict[str, Kind] = {
    "ordinary": Kind("three drivers, ten sensors", ordinary),
    "young": Kind("the same with 300 rows of training", ordinary, 300),
    "batches": Kind("recipes of phases", _batches),
    "off_zero": Kind("off at night and on weekends, all zero", _off(0.0), 5040, 5040, 600.0),
    "off_missing": Kind("off at night and on weekends, silent", _off(np.nan), 5040, 5040, 600.0),
    "counters": Kind("an hour meter and totalisers that wrap", _counters),
    "set_points": Kind("set points that jump", _set_points),
    "seasons": Kind("days and weeks", _seasons, 5040, 5040, 600.0),
    "heavy_tails": Kind("log-normal vibration", _heavy_tails),
    "quantised": Kind("coarse resolution", _quantised),
    "sparse": Kind("nine cells of ten missing", _sparse),
    "slow_reports": Kind("half of the sensors held for twenty steps", _slow_reports),
    "mostly_idle": Kind("valves that are mostly shut", _mostly_idle),
    "wakes": Kind("a dead sensor that wakes up in the test", _wakes),
    "twins": Kind("every sensor twice", _twins),
    "two": Kind("two sensors", lambda random, train, test: ordinary(random, train, test, 2)),
    "many": Kind(
        "300 sensors, 600 rows", lambda random, train, test: ordinary(random, train, test, 300), 600, 2000
    ),
    "drifts": Kind("a season that training did not see", _year),
    "shifts": Kind("on by day and off at night, at once", _shifts, 7200, 5760, 30.0),
    "products": Kind("five products, each with values of its own at once", _products, 7200, 5760, 30.0),
}
