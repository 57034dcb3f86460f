"""Fleets of machines that have nothing in common: what federation costs where it cannot help.

    python benchmarks/strangers.py [--json] [--kinds batches ...] [--seeds 1]

Four machines of a made kind, each with its own mixture, units and offsets (`benchmarks/made_machines.py`), in three fleets: all with 600 rows; the same,
each without another third of its sensors; one with 600 rows beside three with 5,000, where only the young one is judged. The whole detector without the network, each site alone and
beside the others. Mean over the judged sites and seeds: point-wise AUC-PR with faults of every kind of `pipeline/evaluation/injection.py`, and the share of the steps flagged
in the same recording without its faults.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.command import command_line
from benchmarks.fleet import linear_detector, playing
from benchmarks.made_machines import KINDS

ALONE, FEDERATED = "alone", "federated"
SITES, YOUNG, OLD, JUDGED, FAULTS = 4, 600, 5000, 2500, 28
FLEETS: dict[str, tuple[tuple[int, ...], bool]] = {
    "all young": ((YOUNG,) * SITES, False),
    "all young, each without a third": ((YOUNG,) * SITES, True),
    "one young": ((YOUNG, *(OLD,) * (SITES - 1)), False),
}
"""Rows of training by site, and whether each site lacks another third of its sensors. Sites with `YOUNG` rows are judged."""
LEFT_OUT = ("many", "shifts", "products")
"""Hundreds of sensors take longer than all other kinds together; 600 rows of machines that switch after hours have not seen the state that they are judged in."""


@dataclass(frozen=True)
class Site:
    """Raw rows float64[N, F]: to learn from, to judge on with and without faults; the label bool[M] of the former."""

    train: np.ndarray
    normal: np.ndarray
    faulty: np.ndarray
    label: np.ndarray


def site(kind: str, number: int, rows: int, less: bool) -> Site:
    """One machine of a kind."""
    from pipeline.evaluation.injection import inject, showing

    random = np.random.default_rng([100 + number, list(KINDS).index(kind)])
    values = KINDS[kind].make(random, rows, JUDGED)
    if less:
        gone = np.random.default_rng(number).choice(values.shape[1], values.shape[1] // 3, replace=False)
        values[:, gone] = np.nan
    train, normal = values[:rows], values[rows:]
    deviation = np.nan_to_num(np.sqrt(np.nanmean((train - np.nanmean(train, axis=0)) ** 2, axis=0)))
    faulty, label, _ = inject(normal, deviation, FAULTS, number)
    return Site(train, normal, faulty, showing(faulty, normal, label))


def judge(fleet: dict[str, Site], step: float, way: str) -> tuple[float, float]:
    """Mean AUC-PR and share of fault-free steps flagged, over the young sites."""
    from models.fleet_scaling import FleetScales
    from pipeline.evaluation.early import followed_early
    from pipeline.evaluation.metrics import evaluate

    sensors = next(iter(fleet.values())).train.shape[1]
    scales = FleetScales.of({name: [each.train] for name, each in fleet.items()}, sensors)
    own = scales.known
    young = [name for name, each in fleet.items() if len(each.train) == YOUNG]
    early: frozenset[str] = frozenset()
    if way == FEDERATED:
        watched = {name: [each.train] for name, each in fleet.items()}
        early = followed_early(playing(scales, sensors, step), watched)
    found = []
    for group in [[name] for name in young] if way == ALONE else [list(fleet)]:
        detector = linear_detector(
            {name: fleet[name].train for name in group},
            {name: own[name].scaling() if way == ALONE else scales.beside(name, own[name]) for name in group},
            step,
            None if way == ALONE else scales.beside,
            early=early,
        )
        for name in set(group) & set(young):
            scores = detector.score(name, fleet[name].faulty)
            area = evaluate(scores.score, fleet[name].label, scores.threshold, step).auc_pr
            calm = detector.score(name, fleet[name].normal)
            known = np.isfinite(calm.score)
            threshold = np.broadcast_to(calm.threshold, known.shape)
            found.append((area, float((calm.score > threshold)[known].mean())))
    area, flagged = np.nanmean(np.asarray(found, float), axis=0)
    return float(area), float(flagged)


def measure(kinds: Sequence[str], seeds: int) -> dict[str, Any]:
    """By fleet, by kind, by way."""
    fleets: dict[str, Any] = {}
    for name, (rows, less) in FLEETS.items():
        by_kind: dict[str, Any] = {}
        for kind in kinds:
            of_kind: dict[str, list[tuple[float, float]]] = {ALONE: [], FEDERATED: []}
            for seed in range(seeds):
                fleet = {
                    f"site-{place}": site(kind, SITES * seed + place, count, less)
                    for place, count in enumerate(rows)
                }
                for way, found in of_kind.items():
                    found.append(judge(fleet, KINDS[kind].step_seconds, way))
            by_kind[kind] = {way: _figures(np.mean(found, axis=0)) for way, found in of_kind.items()}
            print(name, kind, by_kind[kind], file=sys.stderr, flush=True)
        fleets[name] = {
            "kinds": by_kind,
            "mean": {
                way: _figures(np.mean([list(of[way].values()) for of in by_kind.values()], axis=0))
                for way in (ALONE, FEDERATED)
            },
            "worst": min(
                (of[FEDERATED]["auc_pr"] - of[ALONE]["auc_pr"], kind) for kind, of in by_kind.items()
            ),
        }
    return fleets


def _figures(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {"auc_pr": round(float(values[0]), 4), "flagged": round(float(values[1]), 4)}


def main() -> None:
    """Command line."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--kinds", nargs="+", choices=list(KINDS), default=[kind for kind in KINDS if kind not in LEFT_OUT]
    )
    parser.add_argument("--seeds", type=int, default=1, help="fleets of each kind")
    asked = parser.parse_args()
    from benchmarks.provenance import made_with

    began = time.perf_counter()
    found = {"fleets": measure(asked.kinds, asked.seeds), **made_with()}
    found["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
