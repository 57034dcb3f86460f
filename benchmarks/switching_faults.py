"""Faults in the test of machines that switch between states (`benchmarks/switching_machines.py`).

A fault is 4 to 10 deviations of its sensor large, as the sensor deviates in the training from what is expected in the same state. As
that knows of lags, load and product, a share `mix` of the whole spread within the state is added to the deviation (in squares), so that
with .3 every fault is also large beside what the machine does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.switching_plant import Plant, Sensor, told
from benchmarks.switching_signals import Mask, Numbers, Rows, lag, wander

FITS: dict[str, tuple[str, ...]] = {
    "bearing_warms": ("temp",),
    "vibration_grows": ("vib",),
    "leak": ("press", "flow"),
    "stuck": ("temp", "press", "flow", "elec", "level", "qual", "set"),
    "offset": ("temp", "press", "flow", "elec", "level", "qual", "vib"),
    "drift": ("temp", "press", "flow", "elec", "level", "qual"),
    "relation": ("temp", "press", "flow", "elec", "vib"),
    "spikes": ("press", "flow", "elec", "vib"),
}
"""By kind of fault the kinds of sensors that can have it."""
Changes = dict[int, "Rows | float"]
"""By sensor what is added to its raw readings in a fault's rows."""
_COMMON = "common"
_MARGIN = 20
"""Steps before and behind a fault without another one."""
_LABELLED = (0.055, 0.145)
"""Least and largest share of the test that is labelled."""
_FEWEST, _SHOWN = 8, 10
"""Faults of a test, and steps at which each must change a reading."""
_DRAWS = 60
"""So often are faults drawn for a test at most; nearly always once is enough."""
_FEW = 60
"""Training steps of a sensor in a state that say too little of its deviation."""


@dataclass(frozen=True)
class Made:
    """Training float64[T, F]; test float64[N, F] with faults and `normal`, the same without; `label` bool[N], where they differ; the kinds of the faults in their order."""

    train: np.ndarray
    test: np.ndarray
    label: np.ndarray
    normal: np.ndarray
    step_seconds: float
    kinds: list[str]


@dataclass(frozen=True)
class Common:
    """An incident of the whole machine, which happens two or three times: by sensor its share of the size, with its sign."""

    kind: str
    weights: dict[str, float]


@dataclass(frozen=True)
class _Recording:
    """What is known of a machine when its faults are drawn: when it runs bool[N], its state int64[N], when each sensor's part works."""

    plant: Plant
    running: Mask
    state: Numbers
    active: list[Mask]
    mix: float

    def alike(self, column: int, state: int) -> Mask:
        """Training steps at which the sensor works in that state, in any state where those are few."""
        works = self.active[column][: self.plant.train]
        same = works & (self.state[: self.plant.train] == state)
        return same if same.sum() >= _FEW else works

    def size(self, column: int, state: int) -> float:
        """What counts as one deviation of a sensor in a state."""
        sensor, alike = self.plant.sensors[column], self.alike(column, state)
        deviation, raw = (of[: self.plant.train][alike] for of in (sensor.deviation, sensor.raw))
        square = np.var(deviation) + self.mix**2 * np.var(raw)
        return float(np.sqrt(square + sensor.resolution**2 / 12) + 1e-12)

    def working(self, column: int) -> Mask:
        """Steps at which a sensor's part works and the machine runs."""
        return self.active[column] & self.running

    def column(self, name: str) -> int:
        """Which sensor has that name."""
        return [sensor.name for sensor in self.plant.sensors].index(name)


@dataclass(frozen=True)
class _Fault:
    """A fault of a sensor at some rows: how many deviations, which way; over its steps how far it has come, whether the sensor works, and how warm the machine is."""

    recording: _Recording
    column: int
    rows: slice
    strength: float
    sign: float
    course: Rows
    on: Rows
    warm: Rows

    @property
    def random(self) -> np.random.Generator:
        return self.recording.plant.fault_random

    @property
    def sensor(self) -> Sensor:
        return self.recording.plant.sensors[self.column]

    def unit(self, column: int) -> float:
        """One deviation of a sensor in the state in which the fault begins."""
        return self.recording.size(column, int(self.recording.state[self.rows.start]))

    @property
    def size(self) -> float:
        return self.strength * self.unit(self.column)

    @property
    def way(self) -> float:
        """The sign, up where the sensor could not tell a fault downwards."""
        floor = np.median(self.sensor.expected[self.rows]) - self.size < 0.02 * self.size
        return 1.0 if self.sensor.positive and floor else self.sign

    def mate(self, chance: float, growth: Rows) -> Changes:
        """What the sensor's mate does, if it has one, with that chance."""
        mate = self.sensor.mate
        if mate is None or self.random.random() >= chance:
            return {}
        column = self.recording.column(mate[0])
        return {column: mate[1] * self.strength * self.unit(column) * growth * self.on}


def _bearing_warms(fault: _Fault) -> Changes:
    """Warms up with a lag, and cools at the end."""
    course = fault.course
    growth = 1 - np.exp(-course * fault.random.uniform(3, 8))
    ends = course > fault.random.uniform(0.8, 0.97)
    growth = np.where(ends, growth * np.exp(-(course - course[~ends][-1]) * 14), growth)
    return {fault.column: fault.size * growth * fault.warm, **fault.mate(0.6, growth)}


def _vibration_grows(fault: _Fault) -> Changes:
    """Grows exponentially, and unsteadily."""
    bend = fault.random.uniform(1.0, 4.0)
    growth = 0.15 + 0.85 * np.expm1(bend * fault.course) / np.expm1(bend)
    unsteady = 1 + 0.25 * fault.random.standard_normal(len(growth))
    return {fault.column: fault.size * growth * unsteady * fault.on}


def _leak(fault: _Fault) -> Changes:
    """Falls, soon or late, to where it stays."""
    growth = np.minimum(1, fault.course * fault.random.uniform(1.5, 12))
    return {fault.column: -fault.size * growth * fault.on, **fault.mate(0.7, growth)}


def _offset(fault: _Fault) -> Changes:
    way = 1.0 if fault.sensor.kind == "vib" else fault.way
    return {fault.column: way * fault.size}


def _drift(fault: _Fault) -> Changes:
    return {fault.column: fault.way * fault.size * (0.1 + 1.1 * fault.course)}


def _relation(fault: _Fault) -> Changes:
    """No longer follows what moves its neighbours, or where nothing does, its load in the right measure."""
    recording, sensor = fault.recording, fault.sensor
    train = recording.plant.train
    alike = recording.alike(fault.column, int(recording.state[fault.rows.start]))
    own = np.sqrt(np.var(sensor.own[:train][alike]) + sensor.resolution**2 / 12) + 1e-12
    follows = np.std(sensor.shared[:train][alike]) > 1.5 * own
    change = _strayed(fault, own) if follows else _wrong_gain(fault, own)
    return {fault.column: change * fault.on}


def _strayed(fault: _Fault, own: float) -> Rows:
    """Follows what its neighbours did at another time instead, so that it is 4 to 8 times its own noise off."""
    random, shared, steps = fault.random, fault.sensor.shared, len(fault.course)
    begin = int(random.integers(0, fault.recording.plant.train - steps))
    change = shared[begin : begin + steps] * random.choice([-1.0, 1.0]) - shared[fault.rows]
    off = np.sqrt(np.mean(change**2)) + 1e-12
    return np.asarray(change * max(1.0, random.uniform(4, 8) * own / off))


def _wrong_gain(fault: _Fault, own: float) -> Rows:
    """Takes its load for more or less than it is; a sensor without one wanders by itself."""
    random, steps = fault.random, len(fault.course)
    low, high = np.quantile(fault.sensor.expected[: fault.recording.plant.train], (0.02, 0.98))
    span = high - low
    loaded = span > 4 * own
    load = (fault.sensor.expected[fault.rows] - low) / span if loaded else _wander(random, steps)
    if np.mean(np.abs(load)) < 0.05:
        load = _wander(random, steps)
    change = fault.way * fault.size * load / (np.mean(np.abs(load[fault.on > 0])) + 1e-9)
    return np.asarray(np.clip(change, -2.5 * fault.size, 2.5 * fault.size))


def _wander(random: np.random.Generator, steps: int) -> Rows:
    return wander(random, steps, steps / 4)


def _spikes(fault: _Fault) -> Changes:
    """A loose contact or cavitation: bursts at some of the steps."""
    random, steps = fault.random, len(fault.course)
    hit = (random.random(steps) < random.uniform(0.4, 0.8)) * fault.on
    way = 1.0 if fault.sensor.kind == "vib" else fault.way
    return {fault.column: fault.size * random.uniform(0.8, 1.4, steps) * hit * way}


_CHANGES: dict[str, Callable[[_Fault], Changes]] = {
    "bearing_warms": _bearing_warms,
    "vibration_grows": _vibration_grows,
    "leak": _leak,
    "offset": _offset,
    "drift": _drift,
    "relation": _relation,
    "spikes": _spikes,
}


def _of_all(fault: _Fault, weights: dict[str, float]) -> Changes:
    """What an incident of the whole machine does: temperatures follow slowly and need a warm machine."""
    random, course = fault.random, fault.course
    ramp = np.minimum(1, course * random.uniform(4, 15)) * np.minimum(1, (1 - course) * 12 + 0.15)
    slow = 1 - np.exp(-course * 4)
    strength, changes = random.uniform(4, 8), {}
    for name, weight in weights.items():
        column = fault.recording.column(name)
        size = strength * weight * fault.unit(column) * random.uniform(0.75, 1.25)
        warms = fault.recording.plant.sensors[column].kind == "temp"
        changes[column] = size * slow * fault.warm if warms else size * ramp * fault.on
    return changes


def _stuck_at(fault: _Fault) -> float:
    """The value at which a sensor stands: its last one, or one that it jumped to."""
    value, random = float(fault.sensor.raw[fault.rows.start]), fault.random
    if fault.sensor.kind != "set" and random.random() < 0.5:
        value += fault.sign * random.uniform(4, 6.5) * fault.unit(fault.column)
    return value


def _planned(random: np.random.Generator, count: int, incidents: int) -> list[str]:
    """Kinds of `count` faults in their order of being placed, every kind about equally often but for so many incidents of all."""
    kinds: list[str] = []
    while len(kinds) < count - incidents:
        kinds += [str(kind) for kind in random.permutation(list(FITS))]
    plan = kinds[: count - incidents] + [_COMMON] * incidents
    return [plan[i] for i in random.permutation(len(plan))]


def _struck(recording: _Recording, kind: str, used: Rows) -> int:
    """The sensor that gets a fault: rather one that had none; one that sticks, rather where the machine moves it."""
    plant = recording.plant
    fitting = [i for i, sensor in enumerate(plant.sensors) if sensor.kind in FITS[kind]]
    weight = np.exp(-1.2 * used[fitting])
    if kind == "stuck":
        moved = [np.std(plant.sensors[i].expected[: plant.train]) for i in fitting]
        noise = [np.std(plant.sensors[i].deviation[: plant.train]) for i in fitting]
        ratio = np.array(moved) / (np.array(noise) + 1e-12)
        weight = weight * (1 + np.minimum(8.0, ratio))
    return int(plant.fault_random.choice(fitting, p=weight / weight.sum()))


def _place(random: np.random.Generator, works: Mask, taken: Mask, steps: int) -> int | None:
    """A test step at which a fault can begin: apart from others, while the sensor works and goes on to for most of the fault if it ever does so long."""
    begin = np.arange(_MARGIN, len(works) - steps - _MARGIN)
    working, occupied = (np.concatenate([[0], np.cumsum(each)]) for each in (works, taken))
    apart = occupied[begin + steps + _MARGIN] == occupied[begin - _MARGIN]
    share = (working[begin + steps] - working[begin]) / steps
    for least in (0.8, 0.5, 0.25, 0.0):
        fitting = begin[apart & works[begin] & (share >= least)]
        if len(fitting):
            return int(random.choice(fitting))
    return None


def _drawn(recording: _Recording, column: int, begin: int, steps: int) -> _Fault:
    """A fault that begins at a test step, of random strength and sign."""
    plant = recording.plant
    rows = slice(plant.train + begin, plant.train + begin + steps)
    strength, sign = plant.fault_random.uniform(4, 10), plant.fault_random.choice([-1.0, 1.0])
    course = (np.arange(steps) + 1.0) / steps
    on = recording.working(column)[rows].astype(np.float64)
    warm = lag(np.concatenate([[1.0], on]), max(2.0, plant.steps(900)))[1:]
    return _Fault(recording, column, rows, strength, sign, course, on, warm)


def _faulty(recording: _Recording, common: Common | None) -> tuple[Rows, Mask, list[tuple[int, int, str]]]:
    """Raw readings float64[N, F] with faults, where a sensor is stuck bool[N, F], and first row, end and kind of every fault in time."""
    plant, random = recording.plant, recording.plant.fault_random
    raw = np.stack([sensor.raw for sensor in plant.sensors], axis=1)
    stuck, taken = np.zeros(raw.shape, np.bool_), np.zeros(plant.rows - plant.train, np.bool_)
    taken[: 2 * _MARGIN] = True
    count = int(random.integers(_FEWEST, 15))
    usual = np.clip(random.uniform(0.075, 0.125) * len(taken) / count, 26, 74)
    incidents = int(random.integers(2, 4)) if common else 0
    used, found = np.zeros(len(plant.sensors)), []
    for planned in _planned(random, count, incidents):
        steps = int(np.clip(usual * random.uniform(0.55, 1.45), 20, 80))
        incident = common if planned == _COMMON else None
        if incident:
            kind, column = incident.kind, recording.column(next(iter(incident.weights)))
        else:
            kind = planned if any(sensor.kind in FITS[planned] for sensor in plant.sensors) else "offset"
            column = _struck(recording, kind, used)
        used[column] += 1
        begin = _place(random, recording.working(column)[plant.train :], taken, steps)
        if begin is None:
            continue
        taken[begin : begin + steps] = True
        fault = _drawn(recording, column, begin, steps)
        if kind == "stuck":
            raw[fault.rows, column], stuck[fault.rows, column] = _stuck_at(fault), True
        else:
            changes = _of_all(fault, incident.weights) if incident else _CHANGES[kind](fault)
            for changed, change in changes.items():
                raw[fault.rows, changed] += change
        found.append((begin, begin + steps, kind))
    return raw, stuck, sorted(found)


def with_faults(
    plant: Plant, mix: float, running: Mask, state: Numbers | Mask, common: Common | None = None
) -> Made:
    """The recording of a plant with 8 to 14 faults in its test, drawn again until each can be seen and all take about a tenth of it.

    `running`: when the machine does what it is there for. `state`: by step the number of the state within which its sensors are compared.
    """
    active = [running if each.active is None else each.active for each in plant.sensors]
    recording = _Recording(plant, running, np.asarray(state, np.int64), active, mix)
    awake = np.repeat(running[:, None], len(plant.sensors), axis=1)
    clean = told(plant.sensors, np.stack([sensor.raw for sensor in plant.sensors], axis=1), awake)
    train, normal = clean[: plant.train], clean[plant.train :]
    for _ in range(_DRAWS):
        raw, stuck, faults = _faulty(recording, common)
        test = told(plant.sensors, raw, awake | stuck)[plant.train :]
        label = (test != normal).any(axis=1)
        seen = all(label[begin:end].sum() >= _SHOWN for begin, end, _ in faults)
        if _LABELLED[0] <= label.mean() <= _LABELLED[1] and len(faults) >= _FEWEST and seen:
            return Made(train, test, label, normal, plant.step_seconds, [kind for _, _, kind in faults])
    raise ValueError(f"no faults fit a plant of {plant.rows} steps")
