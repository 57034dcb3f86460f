"""The default detector beside simple ones on made machines of kinds that the public sets lack.

    python benchmarks/made_plants.py [--json] [--kinds batches ...] [--recipes default zscore ...] [--seeds 3]

By kind and recipe, mean over seeds: `auc_pr` with one fault of every kind of `pipeline/evaluation/injection.py` in turn (a step counts as
faulty from the first to the last one of a fault at which a known value changed), `event_recall` at the product's own promise, and
`normal_flagged_share`, the steps flagged in the same recording without its faults. `behind` names kinds where the default is worse than
`zscore` or `pca_50` by more than .01 of AUC-PR, `loud` those where it flags more than three times what it promises. `logarithms` has the
same figures of the kinds whose sensors vary by factors, the same recordings, with `detector.logarithms` naming all sensors.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.command import command_line

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.detection import judge, mean
from benchmarks.detection_sets import Machine
from benchmarks.made_machines import KINDS
from benchmarks.provenance import made_with
from pipeline.evaluation.injection import inject, showing

RECIPES = ("default", "ridge", "pca", "zscore", "pca_50")
BASELINES = ("zscore", "pca_50")
PROMISED, FAULTS = 0.005, 56
FIGURES = ("auc_pr", "event_recall", "normal_flagged_share")
BY_FACTORS = ("heavy_tails",)
"""Kinds whose sensors a user would name in `detector.logarithms`."""
_BEHIND, _LOUD = 0.01, 3.0


def machine(kind: str, seed: int) -> Machine:
    """One made machine with faults in its test rows."""
    made = KINDS[kind]
    random = np.random.default_rng([seed, list(KINDS).index(kind)])
    values = made.make(random, made.train, made.test)
    train, normal = values[: made.train], values[made.train :]
    faulty, label, _ = inject(normal, np.nanstd(train, axis=0), FAULTS, seed)
    return Machine(kind, train, faulty, showing(faulty, normal, label), made.step_seconds, normal)


def run(kinds: list[str], recipes: list[str], seeds: int, *, logarithms: bool = False) -> dict[str, Any]:
    """By kind, by recipe the mean figures; of the readings, or of their `logarithms`."""
    found: dict[str, Any] = {}
    for kind in kinds:
        machines = [dataclasses.replace(machine(kind, seed), logarithms=logarithms) for seed in range(seeds)]
        found[kind] = measured("log " * logarithms + kind, machines, recipes)
    return found


def measured(name: str, machines: Sequence[Machine], recipes: Sequence[str]) -> dict[str, Any]:
    """By recipe the mean figures over machines that learn each alone, told on the screen under that name."""
    found: dict[str, Any] = {}
    for recipe in recipes:
        began = time.monotonic()
        entries = [judge("made", recipe, [each], PROMISED)[0] for each in machines]
        found[recipe] = {figure: mean(entries, figure) for figure in FIGURES}
        found[recipe]["seconds"] = round(time.monotonic() - began, 1)
    say = "  ".join(
        f"{recipe} {of['auc_pr']:.3f} ({of['normal_flagged_share']:.4f})" for recipe, of in found.items()
    )
    print(f"{name:18} {say}", file=sys.stderr, flush=True)
    return found


def behind(found: dict[str, Any]) -> list[str]:
    """Names whose default is not as good as the best of the baselines that ran."""
    return [
        name
        for name, of in found.items()
        if max((of[each]["auc_pr"] for each in BASELINES if each in of), default=0.0)
        > of["default"]["auc_pr"] + _BEHIND
    ]


def verdict(found: dict[str, Any]) -> dict[str, list[str]]:
    """Kinds where the default is not what it should be."""
    loud = [kind for kind, of in found.items() if of["default"]["normal_flagged_share"] > _LOUD * PROMISED]
    return {"behind": behind(found), "loud": loud}


def show(title: str, rows: dict[str, Any], recipes: Sequence[str], judged: dict[str, list[str]]) -> None:
    """A table of `measured` figures by name, and the names that a verdict is on."""
    heads = "".join(f"{recipe:>12}" for recipe in recipes)
    print(f"{title:18}{heads}  flagged  noticed (first recipe)")
    for name, of in rows.items():
        first = of[recipes[0]]
        areas = "".join(f"{of[recipe]['auc_pr']:12.3f}" for recipe in recipes)
        print(f"{name:18}{areas}{first['normal_flagged_share']:9.4f}{first['event_recall']:9.3f}")
    for what, names in judged.items():
        print(f"{what}: {', '.join(names) or 'none'}")


def main() -> None:
    """Command line."""
    parser = command_line(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    found = run(asked.kinds, asked.recipes, asked.seeds)
    by_factors = [kind for kind in asked.kinds if kind in BY_FACTORS]
    as_logarithms = run(by_factors, asked.recipes, asked.seeds, logarithms=True)
    judged = verdict(found) if "default" in asked.recipes else {}
    if asked.json:
        about = {"seeds": asked.seeds, **made_with()}
        print(
            json.dumps(
                {
                    "kinds": found,
                    "logarithms": as_logarithms,
                    **judged,
                    "promised_false_alarm_rate": PROMISED,
                    **about,
                },
                indent=1,
            )
        )
        return
    rows = {**found, **{f"log {kind}": of for kind, of in as_logarithms.items()}}
    show("kind", rows, asked.recipes, judged)


if __name__ == "__main__":
    main()
