"""Faults in the test of the held-out machines (`benchmarks/held_out_machines.py`).

A machine is built twice from the same random numbers, well and with something wrong in it, so that a fault of the machine reaches every
sensor that its physics reach, with their lags and only in the states in which it matters. Faults of one sensor change its readings alone.
Sizes count in local deviations: the sensor's noise around the fault (in its loud states), half of what it shares with others, and its
resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.switching_faults import Made
from benchmarks.switching_plant import Plant, Sensor, told
from benchmarks.switching_signals import Mask, Rows, lag

_MARGIN = 80
"""Steps before and behind a fault without another one."""
_TAIL = 40
"""Steps at most that a machine takes to recover; what is left of the fault then is gone."""
_AROUND = 150
"""Steps before and behind a fault in which the noise is taken."""
_LABELLED = (0.05, 0.15)
_LEAST_SIZE = 2.8
"""In local deviations, after rounding: smaller faults are drawn again."""
_DRAWS = 200
_TRIES = 15


class Harm:
    """How far each ill of a machine has come, float64[N] by name: 0 where it is well, 1 where it is severe."""

    def __init__(self, rows: int, courses: dict[str, Rows]) -> None:
        self._well, self._courses = np.zeros(rows), courses

    def __call__(self, ill: str) -> Rows:
        """The course of an ill."""
        return self._courses.get(ill, self._well)


@dataclass(frozen=True)
class Machine:
    """A machine to be. `build` adds the sensors to a plant, draws the same random numbers whatever the harm, and tells when it is busy, bool[N]."""

    tag: int
    train: int
    test: int
    step_seconds: float
    start_hour: float
    build: Callable[[Plant, Harm], Mask]
    ills: tuple[str, ...]

    def recorded(self, seed: int, courses: dict[str, Rows]) -> _Recording:
        """The machine with those ills."""
        size = self.train, self.test, self.step_seconds, self.start_hour
        plant = Plant(seed, self.tag, *size)
        busy = self.build(plant, Harm(plant.rows, courses))
        return _Recording(plant, busy, np.stack([sensor.raw for sensor in plant.sensors], axis=1))


@dataclass(frozen=True)
class _Recording:
    """A plant, when it is busy bool[N], and its readings before they are rounded float64[N, F]."""

    plant: Plant
    busy: Mask
    raw: Rows

    def told(self) -> Rows:
        """Rounded readings float64[N, F]."""
        return told(self.plant.sensors, self.raw, np.ones(self.raw.shape, np.bool_))

    def works(self, column: int) -> Mask:
        """Test steps at which a sensor's part of the machine works."""
        active = self.plant.sensors[column].active
        return (self.busy if active is None else active)[self.plant.train :]

    def units(self, begin: int, end: int) -> Rows:
        """One deviation of each sensor around those rows, float64[F]."""
        around = slice(max(0, begin - _AROUND), end + _AROUND)
        return np.array([_unit(sensor, around) for sensor in self.plant.sensors])


def _loud(noise: Rows) -> float:
    """Variance of noise in the states in which it is loud: of normal noise the same however seldom those are."""
    square = (noise - noise.mean()) ** 2
    return float(np.mean(square**2) / (3 * np.mean(square) + 1e-12))


def _unit(sensor: Sensor, around: slice) -> float:
    local = _loud(sensor.own[around]) + 0.25 * _loud(sensor.shared[around]) + sensor.resolution**2 / 12
    return float(np.sqrt(max(local, 0.04 * np.var(sensor.own))) + 1e-9)


def _size(change: Rows, units: Rows) -> float:
    """How many deviations a change float64[n, F] of readings is in the sensor that it changes most, in its worst quarter of the steps."""
    worst = np.sort(np.abs(change) / units, axis=0)[-max(3, len(change) // 4) :]
    return float(worst.mean(axis=0).max())


@dataclass(frozen=True)
class _Spot:
    """Where a sensor fails: its readings and what it shares with others, float64[n], what it shared before, float64[T], and when the machine is busy."""

    raw: Rows
    before: float
    shared: Rows
    usual: Rows
    middle: float
    busy: Mask
    random: np.random.Generator


def _sudden(steps: int, random: np.random.Generator) -> Rows:
    return np.minimum(1.0, (np.arange(steps) + 1) / random.integers(1, 4))


def _slow(steps: int, random: np.random.Generator) -> Rows:
    return (np.arange(steps) + 1) / steps * random.uniform(0.85, 1.0) + 0.05


def _growing(steps: int, random: np.random.Generator) -> Rows:
    bend = random.uniform(1.5, 3.5)
    return np.asarray(0.1 + 0.9 * np.expm1(bend * (np.arange(steps) + 1) / steps) / np.expm1(bend))


def _loose(steps: int, random: np.random.Generator) -> Rows:
    """Comes and goes."""
    stays = random.integers(2, 9, steps)
    return (np.arange(steps) % 2 == 0).astype(np.float64).repeat(stays)[:steps]


_COURSES = (_sudden, _slow, _growing, _loose)


def _noisy(spot: _Spot) -> Rows:
    return np.clip(spot.random.standard_t(4, len(spot.raw)), -5, 5)


def _spikes(spot: _Spot) -> Rows:
    steps, random = len(spot.raw), spot.random
    hit = random.random(steps) < random.uniform(0.25, 0.6)
    return hit * random.uniform(0.6, 1.4, steps) * random.choice([-1.0, 1.0])


def _gain(spot: _Spot) -> Rows:
    return (spot.raw - spot.middle) * spot.random.choice([-1.0, 1.0])


def _when_busy(spot: _Spot) -> Rows:
    return spot.busy * spot.random.choice([-1.0, 1.0])


def _shaped(course: Callable[[int, np.random.Generator], Rows]) -> Callable[[_Spot], Rows]:
    """A change of that course, up or down."""
    return lambda spot: course(len(spot.raw), spot.random) * spot.random.choice([-1.0, 1.0])


def _stuck(spot: _Spot) -> Rows:
    return spot.before - spot.raw


def _sluggish(spot: _Spot) -> Rows:
    memory = spot.random.uniform(6, 25)
    return lag(np.concatenate([[spot.before], spot.raw]), memory)[1:] - spot.raw


def _decoupled(spot: _Spot) -> Rows:
    """Follows what its neighbours did at another time."""
    steps = len(spot.raw)
    begin = int(spot.random.integers(0, len(spot.usual) - steps))
    return np.asarray(spot.usual[begin : begin + steps] - spot.shared)


_SCALED: dict[str, Callable[[_Spot], Rows]] = {
    "offset": _shaped(_sudden),
    "drift": _shaped(_slow),
    "loose_contact": _shaped(_loose),
    "noisy": _noisy,
    "spikes": _spikes,
    "gain": _gain,
    "offset_when_busy": _when_busy,
}
"""Faults of one sensor that are given their size."""
_AS_LARGE_AS_THEY_ARE = {"stuck": _stuck, "sluggish": _sluggish, "decoupled": _decoupled}
"""Faults of one sensor whose size the machine gives."""
_OF_SENSORS = _SCALED | _AS_LARGE_AS_THEY_ARE


@dataclass(frozen=True)
class _Draw:
    """A machine of a seed while its faults are drawn: its recording without any, and the test steps bool[M] at which each ill would show."""

    machine: Machine
    seed: int
    clean: _Recording
    shows: dict[str, Mask]

    @property
    def random(self) -> np.random.Generator:
        return self.clean.plant.fault_random

    def sensor_change(self, kind: str, column: int, begin: int, end: int, strength: float) -> Rows:
        """What a fault of a sensor adds to the raw readings, float64[n, F]."""
        plant, raw = self.clean.plant, self.clean.raw[:, column]
        shared, rows = plant.sensors[column].shared, slice(begin, end)
        middle = float(np.median(raw[: plant.train]))
        before, usual = float(raw[begin - 1]), shared[: plant.train]
        spot = _Spot(raw[rows], before, shared[rows], usual, middle, self.clean.busy[rows], self.random)
        change = np.zeros((end - begin, self.clean.raw.shape[1]))
        change[:, column] = _OF_SENSORS[kind](spot)
        scale = strength / (_size(change, self.clean.units(begin, end)) + 1e-9) if kind in _SCALED else 1.0
        return change * scale

    def ill_change(self, ill: str, begin: int, end: int, strength: float) -> Rows:
        """What an ill of the machine adds to the raw readings, float64[n, F], until it has recovered."""
        units, rows = self.clean.units(begin, end), slice(begin, end + _TAIL)
        course, scale = np.zeros(len(self.clean.raw)), 0.4
        course[begin:end] = _COURSES[self.random.integers(len(_COURSES))](end - begin, self.random)
        change = np.zeros(0)
        for _ in range(3):
            change = self.machine.recorded(self.seed, {ill: course * scale}).raw[rows] - self.clean.raw[rows]
            size = _size(change[: end - begin], units)
            if abs(size / strength - 1) < 0.1:
                break
            scale = min(1.5, scale * strength / (size + 1e-9))
        seen = np.flatnonzero((np.abs(change) > 0.5 * units).any(axis=1))
        return change[: seen[-1] + 1] if len(seen) else change[:0]

    def place(self, works: Mask, taken: Mask, steps: int) -> int | None:
        """A test step at which a fault can begin: apart from others, and while the machine works for much of it."""
        begin = np.arange(_MARGIN, len(works) - steps - _MARGIN)
        working, occupied = (np.concatenate([[0], np.cumsum(each)]) for each in (works, taken))
        apart = occupied[begin + steps + _MARGIN] == occupied[begin - _MARGIN]
        share = (working[begin + steps] - working[begin]) / steps
        for least in (0.6, 0.25, 0.08):
            fitting = begin[apart & (share >= least)]
            if len(fitting):
                return int(self.random.choice(fitting))
        return None


def _shows(machine: Machine, seed: int, clean: _Recording, ill: str) -> Mask:
    """Test steps at which an ill that is there all the time changes readings much."""
    begin, end = machine.train, machine.train + machine.test
    course = np.zeros(end)
    course[begin:] = 0.4
    change = machine.recorded(seed, {ill: course}).raw[begin:] - clean.raw[begin:]
    sizes = (np.abs(change) / clean.units(begin, end)).max(axis=1)
    return np.asarray(sizes > 0.3 * np.quantile(sizes, 0.98))


def _lengths(random: np.random.Generator, test: int) -> list[int]:
    """Steps of 8 to 14 faults: mostly 15 to 120, some of 5 to 15, some up to 300."""
    while True:
        count = int(random.integers(8, 15))
        least, most = np.array([(5, 15), (15, 120), (120, 300)])[
            random.choice(3, count, p=[0.1, 0.78, 0.12])
        ].T
        lengths = np.exp(random.uniform(np.log(least), np.log(most))).astype(int)
        if 0.065 <= lengths.sum() / test <= 0.125:
            return [int(each) for each in random.permutation(lengths)]


def _kinds(random: np.random.Generator, count: int, ills: tuple[str, ...]) -> list[str]:
    """About as many ills of the machine as faults of sensors, each kind about equally often."""
    half = int(random.integers(count * 2 // 5, count * 3 // 5 + 1))
    kinds: list[str] = []
    for names, wanted in ((ills, half), (tuple(_OF_SENSORS), count - half)):
        rounds = [str(name) for _ in range(-(-wanted // len(names))) for name in random.permutation(names)]
        kinds += rounds[:wanted]
    return [kinds[i] for i in random.permutation(count)]


def _with_incidents(draw: _Draw) -> tuple[Rows, list[str]]:
    """The raw readings float64[N, F] with faults, and the kinds of those in their order of time."""
    random, clean, train = draw.random, draw.clean, draw.machine.train
    raw, taken = clean.raw.copy(), np.zeros(draw.machine.test, np.bool_)
    lengths, found = _lengths(random, draw.machine.test), []
    rounded = clean.told()
    for kind, steps in zip(_kinds(random, len(lengths), draw.machine.ills), lengths, strict=True):
        for _ in range(_TRIES):
            strength = float(np.exp(random.uniform(np.log(3.2), np.log(10))))
            column = int(random.integers(0, raw.shape[1]))
            works = draw.shows[kind] if kind in draw.shows else clean.works(column)
            at = draw.place(works, taken, steps)
            if at is None:
                continue
            begin, end = train + at, train + at + steps
            if kind in draw.shows:
                change = draw.ill_change(kind, begin, end, strength)
            else:
                change = draw.sensor_change(kind, column, begin, end, strength)
            rows = slice(begin, begin + len(change))
            shown = _Recording(clean.plant, clean.busy, clean.raw[rows] + change).told() - rounded[rows]
            if len(change) < 3 or _size(shown, clean.units(begin, end)) < _LEAST_SIZE:
                continue
            if (shown != 0).any(axis=1).sum() < max(4, 0.25 * steps):
                continue
            raw[rows] += change
            taken[at : at + len(change)] = True
            found.append((begin, kind))
            break
    return raw, [kind for _, kind in sorted(found)]


def made(machine: Machine, seed: int) -> Made:
    """A machine's training, and its test with 8 to 14 faults in 5 to 15 % of the steps."""
    clean = machine.recorded(seed, {})
    shows = {ill: _shows(machine, seed, clean, ill) for ill in machine.ills}
    draw, readings = _Draw(machine, seed, clean, shows), clean.told()
    train, normal = readings[: machine.train], readings[machine.train :]
    for _ in range(_DRAWS):
        raw, kinds = _with_incidents(draw)
        test = _Recording(clean.plant, clean.busy, raw).told()[machine.train :]
        label = (test != normal).any(axis=1)
        if len(kinds) >= 8 and _LABELLED[0] <= label.mean() <= _LABELLED[1]:
            return Made(train, test, label, normal, machine.step_seconds, kinds)
    raise ValueError(f"no faults fit the machine of tag {machine.tag}")
