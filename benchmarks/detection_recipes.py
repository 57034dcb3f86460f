"""What `benchmarks/detection.py` compares: the product's detector, its sources one by one, baselines and peers."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detection_sets import Machine
from benchmarks.linear_recipe import fit_components, fit_ridges

PROMISED = 0.01
LEAD = 64
"""Rows of the training's end that a detector sees before rows that follow it."""
LINEAR = ("ridge", "stiff_ridge", "pca", "excursion")
NETWORK = ("network", "default_network")
PEERS = ("plain_ridge", "plain_pca_90")
SIMPLE = ("zscore", "pca_50", "plain_pca_90", "forest")
"""The baselines that a detector must not be worse than."""
RECIPES = (
    "default",
    "ridge",
    "stiff_ridge",
    "pca",
    "excursion",
    "default_local",
    "durations",
    "default_network",
    "network",
    "zscore",
    "pca_50",
    *PEERS,
    "forest",
)


def detector_for(
    recipe: str,
    machines: list[Machine],
    promised: float = PROMISED,
    *,
    runs: Mapping[str, list[np.ndarray]] | None = None,
    **changes: Any,
) -> Any:
    """A detector fitted on the training rows of machines that learn together, or on these `runs` by machine; `changes` of its options."""
    from models.architectures import TcnSpec
    from models.baselines import fit_baseline
    from models.fitting import fit_detector
    from models.logarithms import floor_of
    from models.options import DetectorOptions
    from models.scaling import moments

    count = machines[0].train.shape[1]
    runs = runs or {machine.name: [machine.train] for machine in machines}
    named = np.ones(count, np.bool_)
    floors = {m.name: floor_of(runs[m.name], named) if m.logarithms else None for m in machines}
    scaling = {name: moments(of, count, floors[name]).scaling() for name, of in runs.items()}
    options = DetectorOptions(sources=LINEAR, false_alarm_rate=promised, **changes)
    names, step = [f"s{i}" for i in range(count)], machines[0].step_seconds
    if recipe in ("zscore", "pca_50"):
        return fit_baseline(recipe.split("_")[0], names, step, LEAD, scaling, runs, options)
    if recipe == "default_local":
        options = dataclasses.replace(options, prior_rows=0.0)
    elif recipe in NETWORK:
        own = ("network",) if recipe == "network" else (*LINEAR, "network")
        options = dataclasses.replace(options, sources=own)
    elif recipe == "durations":
        options = dataclasses.replace(options, average_seconds=(180.0, 600.0, 1800.0))
    elif recipe != "default":
        options = dataclasses.replace(options, sources=(recipe,))
    weights = _trained(machines) if recipe in NETWORK else None
    return fit_detector(TcnSpec(), weights, names, step, LEAD, scaling, runs, options)


def _trained(machines: list[Machine]) -> Any:
    """Weights of the default forecaster after a default training of machines that learn together."""
    from benchmarks import fleet
    from models.architectures import TcnSpec
    from pipeline.federation.settings import TrainingSettings
    from pipeline.federation.training import train

    members = {m.name: fleet.Machine(m.train, m.test, m.truth, m.step_seconds) for m in machines}
    with tempfile.TemporaryDirectory() as folder:
        shards = fleet.write_fleet(Path(folder), members, LEAD)
        count = machines[0].train.shape[1]
        settings = TrainingSettings(stride=LEAD // 2)
        found = train(
            shards, TcnSpec(), settings, steps=LEAD, sensors=count, workdir=Path(folder) / "training"
        )
        return found.weights


Judge = Callable[[Machine, np.ndarray], tuple[np.ndarray, np.ndarray, float]]
"""From a machine and rows behind its training to their scores and thresholds, float[N] each, and the threshold that training set."""


def fitted(recipe: str, machines: list[Machine], promised: float) -> Judge:
    """Scores and thresholds of a machine under a recipe fitted on `machines`."""
    if recipe == "forest":
        return _forest(machines, promised)
    if recipe in PEERS:
        return _peer(recipe, machines, promised)
    detector = detector_for(recipe, machines, promised)

    def score(machine: Machine, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        lead = machine.train[-LEAD:] if machine.follows else machine.train[:0]
        found = detector.score(machine.name, np.concatenate([lead, rows]))
        return (
            found.score[len(lead) :],
            found.threshold[len(lead) :],
            detector.training_threshold(machine.name),
        )

    return score


def looked_ahead(recipe: str, machines: list[Machine], promised: float) -> dict[str, tuple[float, int]]:
    """By machine the share flagged of the last two fifths of its training by a detector of the first three, and how many steps that are.

    What `fedplant backtest` tells as expected, on arrays.
    """
    from models.options import HOLD_OFF, DetectorOptions
    from pipeline.artefacts import FEDERATED
    from pipeline.datasets.run import Run
    from pipeline.datasets.survey import split_runs
    from pipeline.evaluation.expectation import LATER, held_against_later, of_part

    seen = {
        each.name: [Run(each.name, "", 0, round(each.step_seconds * 1e9), each.train)] for each in machines
    }
    parts = {name: split_runs(runs, LATER, LEAD) for name, runs in seen.items()}
    earlier = [dataclasses.replace(each, train=parts[each.name][0][0].values) for each in machines]
    follow_from = of_part(DetectorOptions(), 1.0 - LATER).follow_from
    detector = detector_for(recipe, earlier, promised, follow_from=follow_from)
    found = held_against_later(detector, seen, parts, LEAD, HOLD_OFF).sites
    return {name: (of[FEDERATED].flagged_share, of[FEDERATED].rows) for name, of in found.items()}


def _peer(recipe: str, machines: list[Machine], promised: float) -> Judge:
    fit = fit_ridges if recipe == "plain_ridge" else fit_components
    known = {machine.name: fit(machine.train) for machine in machines}

    def score(machine: Machine, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        scorer, training = known[machine.name]
        limit = float(np.quantile(training, 1 - promised))
        return scorer(rows, machine.follows), np.full(len(rows), limit), limit

    return score


def _forest(machines: list[Machine], promised: float) -> Judge:
    from sklearn.ensemble import IsolationForest

    forests = {m.name: IsolationForest(n_estimators=100, random_state=0).fit(m.train) for m in machines}

    def score(machine: Machine, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        forest = forests[machine.name]
        limit = float(np.quantile(-forest.score_samples(machine.train), 1 - promised))
        return -forest.score_samples(rows), np.full(len(rows), limit), limit

    return score
