"""How long injected faults must last to be as hard as those which published figures were measured on.

    python benchmarks/equal_difficulty.py --data DIR [--json] [--seeds 10]

Of a published recipe (`benchmarks/linear_recipe.py`) the AUC-PR on gas turbine, steel and PJM is known, and bars were set from it; how the
faults behind those figures were injected is not. How well a recipe does depends above all on how long faults last. So their length is
the one knob: per set, faults last from a sixth of it to less than it, and it is turned until the published recipe, written in plain
numpy, gets its published figure (mean over ten draws of faults: other lengths are other draws). The detector under test has no say in that. Then it, and simple baselines, are judged on the same faults. `LONGEST` of
`benchmarks/detection_sets.py` are the lengths that come out; `benchmarks/detection.py` has them beside the sets with labels of their own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from benchmarks.command import command_line
from benchmarks.detection_recipes import PROMISED, SIMPLE, Judge, fitted
from benchmarks.detection_sets import injected, lasting
from benchmarks.provenance import made_with
from pipeline.evaluation.ranking import average_precision

PEER = "plain_ridge"
COMPARED = tuple(recipe for recipe in SIMPLE if recipe != "forest")
RECIPES = ("default", PEER, *COMPARED)
LENGTHS = (40, 45, 50, 56, 63, 71, 80, 90, 100, 112, 126, 141, 158, 178, 200)
"""Steps: what the knob can be turned to."""
KNOWN = {
    "turbine": ("gas_turbine", 0.664, 0.69),
    "steel": ("steel", 0.749, 0.80),
    "pjm": ("pjm", 0.734, 0.73),
}
"""By set: its name in `prepare_data`, the published recipe's AUC-PR, the bar."""


class Faults:
    """AUC-PR of recipes on one recording, by how long its faults last; each recipe is fitted once."""

    def __init__(self, name: str, data: Path, seeds: int) -> None:
        self._name, self._data, self._seeds = name, data, seeds
        self._judges: dict[str, Judge] = {}

    def auc_pr(self, recipe: str, longest: int) -> tuple[float, float]:
        """Mean and standard deviation over the seeds."""
        found = []
        for seed in range(self._seeds):
            machine = next(injected(self._name, lasting(longest))(self._data, seed, True))
            if recipe not in self._judges:
                self._judges[recipe] = fitted(recipe, [machine], PROMISED)
            score, _, _ = self._judges[recipe](machine, machine.test)
            known = np.isfinite(score)
            area = average_precision(score[known], machine.truth[known])
            assert area is not None, "every seed injects faults"
            found.append(area)
        return float(np.mean(found)), float(np.std(found))

    def as_hard_as(self, figure: float) -> int:
        """The length of faults, of `LENGTHS`, at which the peer is nearest to `figure`."""
        return min(LENGTHS, key=lambda longest: abs(self.auc_pr(PEER, longest)[0] - figure))


def measure(data: Path, seeds: int) -> dict[str, Any]:
    """Figures by set, and what they come to."""
    sets: dict[str, Any] = {}
    for name, (recording, figure, bar) in KNOWN.items():
        faults = Faults(recording, data, seeds)
        longest = faults.as_hard_as(figure)
        found = {recipe: faults.auc_pr(recipe, longest) for recipe in RECIPES}
        sets[name] = {
            "longest_fault_steps": longest,
            "auc_pr": {recipe: mean for recipe, (mean, _) in found.items()},
            "auc_pr_spread": {recipe: spread for recipe, (_, spread) in found.items()},
            "published": figure,
            "bar": bar,
            "gap_to_best_simple": found["default"][0] - max(found[recipe][0] for recipe in COMPARED),
        }
        print(name, longest, {r: round(m, 3) for r, (m, _) in found.items()}, file=sys.stderr, flush=True)
    return {"sets": sets, "seeds": seeds, **made_with()}


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    figures = measure(asked.data, asked.seeds)
    if asked.json:
        print(json.dumps(figures, indent=1))
        return
    print(
        f"{'set':10}" + "".join(f"{recipe:>14}" for recipe in RECIPES) + f"{'steps':>7}{'bar':>7}{'gap':>8}"
    )
    for name, entry in figures["sets"].items():
        values = "".join(f"{entry['auc_pr'][recipe]:14.3f}" for recipe in RECIPES)
        print(
            f"{name:10}{values}{entry['longest_fault_steps']:7}{entry['bar']:7.2f}{entry['gap_to_best_simple']:8.3f}"
        )


if __name__ == "__main__":
    main()
