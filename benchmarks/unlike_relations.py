"""Sites whose sensors are others, or are related in another way: what the linear sources of one site take from the rest.

    python benchmarks/unlike_relations.py --data DIR [--history ROWS ...] [--json]

`--data` is the folder with the raw sets (`smd19/*.npz`). The whole detector without the network, each site alone, federated, and
federated without the check that the others' relations help (`trusting`). Figures are means over sites: point-wise AUC-PR, and the share of
normal steps above the threshold, also at the worst site. SMD-19: all sensors; each machine without another third of them, in two draws; and
those that lack nothing beside others that lack a quarter. Made fleets of twelve sensors that follow three hidden courses: sites that
are alike or not, with all sensors or each without another third; their faults are shifts of one sensor by its typical size.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.signal import lfilter

from benchmarks.command import command_line
from benchmarks.fleet import Machine, lacking, linear_detector, smd

ALONE, FEDERATED, TRUSTING = "alone", "federated", "trusting"
MADE = (
    ("alike", 3, 300, True, False),
    ("alike, a third missing", 3, 300, True, True),
    ("alike", 6, 300, True, False),
    ("alike, a third missing", 6, 300, True, True),
    ("alike, a third missing", 6, 1500, True, True),
    ("unlike", 6, 1000, False, False),
    ("unlike, a third missing", 6, 1000, False, True),
)
"""Kind, sites, rows to learn from, whether sensors are related alike, whether each site lacks another third."""


def made(sites: int, rows: int, alike: bool, less: bool) -> dict[str, Machine]:
    """Twelve sensors of sizes of their own, mixed from three slow courses; ten shifts of forty steps among 3,000 rows to judge on."""
    random, judged, sensors, slow = np.random.default_rng(0), 3000, 12, 0.95
    mix = random.normal(size=(3, sensors))
    size, offset = np.exp(random.normal(size=sensors)), 5 * random.normal(size=sensors)
    found = {}
    for number in range(sites):
        if not alike:
            mix = random.normal(size=(3, sensors))
        noise = random.normal(size=(rows + judged, 3))
        courses = lfilter([np.sqrt(1 - slow**2)], [1, -slow], noise, axis=0)
        values = (courses @ mix + 0.1 * random.normal(size=(rows + judged, sensors))) * size + offset
        label = np.zeros(judged, bool)
        have = [sensor for sensor in range(sensors) if not less or sensor % 3 != number % 3]
        for fault in range(10):
            first = rows + 200 + 280 * fault
            label[first - rows : first - rows + 40] = True
            sensor = have[random.integers(len(have))]
            values[first : first + 40, sensor] += size[sensor] * random.choice([-1, 1])
        values[:, [sensor for sensor in range(sensors) if sensor not in have]] = np.nan
        found[f"site-{number}"] = Machine(values[:rows], values[rows:], label)
    return found


def without_a_third(fleet: Mapping[str, Machine], draw: int) -> dict[str, Machine]:
    """Every machine without a third of its sensors, drawn for each."""
    found = {}
    for number, site in enumerate(sorted(fleet)):
        machine = fleet[site]
        sensors = machine.train.shape[1]
        gone = np.random.default_rng([draw, number]).choice(sensors, sensors // 3, replace=False)
        train, test = machine.train.copy(), machine.test.copy()
        train[:, gone] = test[:, gone] = np.nan
        found[site] = replace(machine, train=train, test=test)
    return found


def compare(fleet: Mapping[str, Machine], judged: Iterable[str] | None = None) -> dict[str, dict[str, float]]:
    """By way, mean figures over the `judged` sites, all if not given; everyone learns."""
    from models.fleet_scaling import FleetScales
    from pipeline.evaluation.metrics import evaluate

    sites = sorted(judged or fleet)
    sensors = next(iter(fleet.values())).train.shape[1]
    scales = FleetScales.of({site: [machine.train] for site, machine in fleet.items()}, sensors)
    own = scales.known
    scaling = {site: scales.beside(site, each) for site, each in own.items()}
    step = next(iter(fleet.values())).step
    found = {}
    for way in (ALONE, FEDERATED, TRUSTING):
        groups = [[site] for site in sites] if way == ALONE else [sorted(fleet)]
        figures = []
        for group in groups:
            detector = linear_detector(
                {site: fleet[site].train for site in group},
                {site: own[site].scaling() if way == ALONE else scaling[site] for site in group},
                step,
                None if way == ALONE else scales.beside,
                trusting=way == TRUSTING,
            )
            for site in set(group) & set(sites):
                scores = detector.score(site, fleet[site].test)
                metrics = evaluate(scores.score, fleet[site].label, scores.threshold, step)
                figures.append((metrics.auc_pr, metrics.false_flagged_share))
        areas, flagged = np.array(figures, float).T
        found[way] = {
            "auc_pr": round(float(np.nanmean(areas)), 4),
            "flagged": round(float(flagged.mean()), 4),
            "flagged_worst": round(float(flagged.max()), 4),
        }
    return found


def measure(data: Path, histories: list[int]) -> dict[str, Any]:
    """Every fleet."""
    from benchmarks.provenance import made_with

    found = {}

    def note(name: str, fleet: Mapping[str, Machine], judged: Iterable[str] | None = None) -> None:
        found[name] = compare(fleet, judged)
        print(name, found[name], file=sys.stderr, flush=True)

    for kind, sites, rows, alike, less in MADE:
        note(f"made, {sites} sites of {rows} rows, {kind}", made(sites, rows, alike, less))
    machines = smd(data)
    some = lacking(machines)
    whole = [site for site in machines if np.isfinite(some[site].train).all()]
    for rows in histories:
        late = "all" if rows == 0 else f"{rows:,}"

        def latest(fleet: Mapping[str, Machine], rows: int = rows) -> dict[str, Machine]:
            return {site: machine.latest(rows or None) for site, machine in fleet.items()}

        note(f"SMD-19, {late} rows, all sensors", latest(machines))
        for draw in (1, 2):
            note(
                f"SMD-19, {late} rows, each without a third ({draw})", latest(without_a_third(machines, draw))
            )
        note(f"SMD-19, {late} rows, complete beside incomplete", latest(some), whole)
    return {
        "fleets": found,
        **made_with(),
    }


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument(
        "--history", type=int, action="append", help="latest rows to learn from, 0 for all; 300 and 1440"
    )
    asked = parser.parse_args()
    began = time.perf_counter()
    found = measure(asked.data, asked.history or [300, 1440])
    found["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
