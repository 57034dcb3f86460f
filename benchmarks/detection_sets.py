"""The machines of every public set that detectors are held against, with real or injected faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import prepare_data
from pipeline.evaluation.injection import KINDS, inject


@dataclass(frozen=True)
class Machine:
    """Training rows float64[T, F], test rows float64[N, F] and their truth bool[N].

    `normal`, the test rows without the faults that were injected, None where faults are real. `fault_free`, another test run in which
    nothing goes wrong. `follows`: the test rows come straight behind the training's. `logarithms`: those of all sensors are looked at.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    step_seconds: float
    normal: np.ndarray | None = None
    fault_free: np.ndarray | None = None
    follows: bool = True
    logarithms: bool = False


FAULTS = 60
LONGEST = {"turbine": 100, "steel": 112, "pjm": 90}
"""Steps that an injected fault lasts at most: so hard a published recipe finds the faults of its published figures (`benchmarks/equal_difficulty.py`)."""
SHORT = (5, 40)
"""Steps that a fault lasts in the sets with harder ones."""


def lasting(longest: int) -> tuple[int, int]:
    """Fewest and most steps of faults that last up to `longest`."""
    return max(2, longest // 6), longest


def recorded(name: str) -> Callable[[Path, int, bool], Iterator[Machine]]:
    """A set with labels of its own."""

    def machines(data: Path, seed: int, quick: bool) -> Iterator[Machine]:
        every = prepare_data.SETS[name](data)
        fault_free = None
        for i, series in enumerate(every):
            if name == "tep" and series.site == "fault-00":
                fault_free = series.values[series.train_rows :].astype(float)
                continue
            if quick and i % {"smd": 4, "skab": 4, "tep": 2}.get(name, 1):
                continue
            assert series.labels is not None
            rows = series.train_rows
            yield Machine(
                series.site,
                series.values[:rows].astype(float),
                series.values[rows:].astype(float),
                series.labels[rows:] == 1,
                series.step.total_seconds(),
                fault_free=fault_free,
                follows=name != "tep",
            )

    return machines


def injected(name: str, lengths: tuple[int, int]) -> Callable[[Path, int, bool], Iterator[Machine]]:
    """A set without labels, with synthetic faults in its test rows."""

    def machines(data: Path, seed: int, quick: bool) -> Iterator[Machine]:
        if name == "pjm":
            series = _pjm_grid(data)
        else:
            series = next(iter(prepare_data.SETS[name](data)))
        rows = series.train_rows
        train = series.values[:rows].astype(float)
        for kind in ("mixed", *KINDS) if seed == 0 and not quick else ("mixed",):
            kinds = KINDS if kind == "mixed" else (kind,)
            test, truth, _ = inject(
                series.values[rows:].astype(float), train.std(axis=0), FAULTS, seed, kinds, lengths
            )
            normal = series.values[rows:].astype(float) if kind == "mixed" else None
            yield Machine(kind, train, test, truth, series.step.total_seconds(), normal)

    return machines


def _pjm_grid(data: Path) -> prepare_data.Series:
    """The zones that are alive together, as sensors of one machine."""
    import pandas as pd

    frame = pd.read_csv(data / "pjm_zones" / "est_hourly.csv.gz", index_col=0, parse_dates=True)
    frame = frame[~frame.index.duplicated()].sort_index().asfreq("1h").loc["2013-06-02":"2018-08-02"]
    frame = frame.loc[:, frame.notna().mean() > 0.99].ffill().bfill()
    rows = int(len(frame) * 0.6)
    return prepare_data.Series(
        "grid", frame.index[0], pd.Timedelta("1h"), list(frame.columns), frame.to_numpy(), rows, None
    )


SETS: dict[str, Callable[[Path, int, bool], Iterator[Machine]]] = {
    "smd": recorded("smd"),
    "tep": recorded("tep"),
    "skab": recorded("skab"),
    "batadal": recorded("batadal"),
    "turbine": injected("gas_turbine", lasting(LONGEST["turbine"])),
    "steel": injected("steel", lasting(LONGEST["steel"])),
    "pjm": injected("pjm", lasting(LONGEST["pjm"])),
    "turbine_short": injected("gas_turbine", SHORT),
    "steel_short": injected("steel", SHORT),
    "pjm_short": injected("pjm", SHORT),
}
