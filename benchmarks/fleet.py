"""Machines of a public set as shards and arrays, for the benchmarks of the federated learning."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.scaling import SensorScaling, moments
from pipeline.datasets.run import count_frames
from pipeline.datasets.shards import ShardPaths, write_shard
from pipeline.evaluation.metrics import evaluate

if TYPE_CHECKING:
    from models.detector import Detector
    from models.fitting import Prior
    from models.fleet_scaling import FleetScales
    from models.sharing import Elders, Young
    from pipeline.evaluation.early import Playing

STEPS = 64
VALIDATION = 0.2
LINEAR, LINEAR_FRAME = ("ridge", "stiff_ridge", "pca", "excursion"), 16


@dataclass(frozen=True)
class Machine:
    """Raw rows `float64[N, F]` to learn from, rows to judge on, and their labels `bool[M]`; `step` in seconds."""

    train: NDArray[np.float64]
    test: NDArray[np.float64]
    label: NDArray[np.bool_]
    step: float = 60.0

    def scaling(self) -> SensorScaling:
        """Of the rows to learn from."""
        return moments([self.train], self.train.shape[1]).scaling()

    def latest(self, rows: int | None) -> Machine:
        """With only the last `rows` before the test to learn from: the machine joined so late."""
        return (
            self
            if rows is None
            else replace(self, train=self.train[len(self.train) - min(rows, len(self.train)) :])
        )


def smd(data: Path) -> dict[str, Machine]:
    """The machines of SMD-19, one row a minute."""
    found = {}
    for path in sorted((data / "smd19").glob("*.npz")):
        with np.load(path) as file:
            train, test = (file[name].astype(np.float64) for name in ("train", "test"))
            found[path.stem] = Machine(train, test, file["test_label"].astype(bool))
    return found


def write_fleet(folder: Path, fleet: Mapping[str, Machine], steps: int = STEPS) -> dict[str, ShardPaths]:
    """Scaled shards of all machines, the last part of each for validation."""
    shards = {}
    for site, machine in fleet.items():
        rows = machine.scaling().apply(machine.train)
        cut = len(rows) - int(VALIDATION * len(rows))
        paths = [folder / f"{site}.{split}.tfrecord" for split in ("train", "validation")]
        for path, part in zip(paths, (rows[:cut], rows[cut:]), strict=True):
            write_shard(path, [part])
        shards[site] = ShardPaths(
            str(paths[0]),
            str(paths[1]),
            count_frames([cut], steps=steps),
            count_frames([len(rows) - cut], steps=steps),
        )
    return shards


def lacking(fleet: Mapping[str, Machine]) -> dict[str, Machine]:
    """Every other machine without a quarter of its sensors, drawn anew for each."""
    found = dict(fleet)
    for number, site in enumerate(sorted(fleet)[::2]):
        machine = fleet[site]
        sensors = machine.train.shape[1]
        gone = np.random.default_rng(number).choice(sensors, sensors // 4, replace=False)
        train, test = machine.train.copy(), machine.test.copy()
        train[:, gone] = test[:, gone] = np.nan
        found[site] = replace(machine, train=train, test=test)
    return found


def judge(score: NDArray[np.float64], threshold: ArrayLike, machine: Machine) -> dict[str, float]:
    """Point-wise AUC-PR and false alarms a week of a score over the rows to judge on."""
    found = evaluate(score, machine.label, threshold, machine.step)
    per_day = found.false_alarms_per_day
    return {
        "auc_pr": float("nan") if found.auc_pr is None else found.auc_pr,
        "false_alarms_per_week": float("nan") if per_day is None else 7 * per_day,
    }


def linear_detector(
    rows: Mapping[str, NDArray[np.float64]],
    scaling: Mapping[str, SensorScaling],
    step: float,
    young: Young | None = None,
    *,
    prior: Prior | None = None,
    elders: Elders | None = None,
    early: Collection[str] = (),
    **options: Any,
) -> Detector:
    """The whole detector without the network, of the raw rows float64[N, F] of each site; `young`, `prior`, `elders` and `early` as in `fit_detector`."""
    from models.architectures import TcnSpec
    from models.fitting import fit_detector
    from models.options import DetectorOptions

    sensors = next(iter(rows.values())).shape[1]
    return fit_detector(
        TcnSpec(),
        None,
        _names(sensors),
        step,
        LINEAR_FRAME,
        scaling,
        {site: [of_site] for site, of_site in rows.items()},
        DetectorOptions(sources=LINEAR, **options),
        prior,
        young=young,
        elders=elders,
        early=early,
    )


def playing(scales: FleetScales, sensors: int, step: float) -> Playing:
    """How machines of a fleet play young for the detector without the network."""
    from models.options import DetectorOptions
    from pipeline.evaluation.early import Playing

    options = DetectorOptions(sources=LINEAR)
    return Playing(
        _names(sensors),
        step,
        LINEAR_FRAME,
        options,
        lambda site, runs: scales.beside(site, moments(runs, sensors)),
    )


def _names(sensors: int) -> list[str]:
    return [f"s{place:03d}" for place in range(sensors)]


def network_auc_pr(fleet: Mapping[str, Machine], weights: Mapping[str, Any]) -> dict[str, float]:
    """By machine, that of the network with these weights alone."""
    from models.architectures import TcnSpec
    from models.fitting import fit_detector
    from models.options import DetectorOptions

    found = {}
    for site, machine in fleet.items():
        detector = fit_detector(
            TcnSpec(),
            weights[site],
            [f"s{place:02d}" for place in range(machine.train.shape[1])],
            machine.step,
            STEPS,
            {site: machine.scaling()},
            {site: [machine.train]},
            DetectorOptions(sources=("network",)),
        )
        scores = detector.score(site, machine.test)
        found[site] = judge(scores.score, scores.threshold, machine)["auc_pr"]
    return found


def cmapss(data: Path, healthy: int = 60, failing: int = 30) -> dict[str, Machine]:
    """The engines of C-MAPSS FD001, run to failure: `healthy` first cycles to learn from, the last `failing` cycles are the incident.

    Engines that live shorter than both and as much again are left out. A cycle counts as an hour.
    """
    rows = np.loadtxt(data / "cmapss_fd001" / "train_FD001.txt")
    found = {}
    for engine in np.unique(rows[:, 0]):
        values = rows[rows[:, 0] == engine, 5:]
        if len(values) < 2 * (healthy + failing):
            continue
        label = np.arange(healthy, len(values)) >= len(values) - failing
        found[f"engine-{int(engine):03d}"] = Machine(values[:healthy], values[healthy:], label, 3600.0)
    return found
