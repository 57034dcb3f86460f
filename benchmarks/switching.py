"""The default detector beside simple ones on fourteen made machines that switch between states, or on ten that no rule was chosen with.

    python benchmarks/switching.py [--json] [--machines oven ...] [--recipes default zscore ...] [--seeds 3] [--mix 0.3]
    python benchmarks/switching.py --held-out [--json] [--machines die_casting ...] [--recipes default zscore ...] [--seeds 3]

The machines and their faults were made by somebody who did not know the detector (`benchmarks/switching_machines.py`). By machine and
recipe, mean over seeds: `auc_pr`, `event_recall` at the product's own promise, and `normal_flagged_share`, the steps flagged in the same
recording without its faults; `mean` is that over the machines. Only steps at which a reading is another one count as faulty, so that a
fault which does not show for a while, as when its machine stands still, is several incidents. `behind` names machines where the default
is worse than `zscore` or `pca_50` by more than .01 of AUC-PR. `--mix` is the share of a sensor's spread within a state that the size of
its faults is measured by: with 0 they are as small as 4 deviations from what is expected of a machine whose lags, load and product are
known. With `--held-out` it is ten other machines by another hand, six of which switch, with faults of their own (`benchmarks/held_out_machines.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.command import command_line

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.detection import mean
from benchmarks.detection_sets import Machine
from benchmarks.held_out_machines import MACHINES as HELD_OUT
from benchmarks.made_plants import FIGURES, PROMISED, behind, measured, show
from benchmarks.provenance import made_with
from benchmarks.switching_machines import MACHINES

RECIPES = ("default", "ridge", "pca", "zscore", "pca_50", "plain_ridge", "forest")
MIX = 0.3


def machine(name: str, seed: int, mix: float = MIX) -> Machine:
    """One made machine with faults in its test rows."""
    made = MACHINES[name](seed, mix) if name in MACHINES else HELD_OUT[name](seed)
    return Machine(name, made.train, made.test, made.label, made.step_seconds, made.normal)


def run(names: list[str], recipes: list[str], seeds: int, mix: float) -> dict[str, Any]:
    """By machine, by recipe the mean figures."""
    return {
        name: measured(name, [machine(name, seed, mix) for seed in range(seeds)], recipes) for name in names
    }


def over_machines(found: dict[str, Any]) -> dict[str, Any]:
    """By recipe the mean figures over all machines."""
    recipes = next(iter(found.values()))
    return {
        recipe: {figure: mean([of[recipe] for of in found.values()], figure) for figure in FIGURES}
        for recipe in recipes
    }


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, `machines` and `mix` as they are to be run; machines of the other set, and a mix of the ten that have none, are refused."""
    parser = command_line(__doc__)
    parser.add_argument("--machines", nargs="+", metavar="MACHINE", help="some of the set, default all")
    parser.add_argument(
        "--held-out", action="store_true", help="the ten machines that no rule was chosen with"
    )
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mix", type=float, help="share of a state's spread in a fault's size")
    asked = parser.parse_args(given)
    of: Collection[str] = HELD_OUT if asked.held_out else MACHINES
    asked.machines = asked.machines or list(of)
    if strange := [name for name in asked.machines if name not in of]:
        whose = "with --held-out" if asked.held_out else "without --held-out"
        parser.error(f"--machines {' '.join(strange)}: {whose} the machines are {', '.join(of)}")
    if asked.held_out and asked.mix is not None:
        parser.error("--mix: the faults of --held-out are as large as they are")
    asked.mix = MIX if asked.mix is None else asked.mix
    return asked


def main() -> None:
    """Command line."""
    asked = arguments()
    found = run(asked.machines, asked.recipes, asked.seeds, asked.mix)
    overall = over_machines(found)
    judged = {"behind": behind(found)} if "default" in asked.recipes else {}
    if asked.json:
        about = {"seeds": asked.seeds, "mix": asked.mix, **made_with()}
        print(
            json.dumps(
                {
                    "machines": found,
                    "mean": overall,
                    **judged,
                    "promised_false_alarm_rate": PROMISED,
                    **about,
                },
                indent=1,
            )
        )
        return
    show("machine", {**found, "mean": overall}, asked.recipes, judged)


if __name__ == "__main__":
    main()
