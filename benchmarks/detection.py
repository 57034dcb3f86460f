"""Every detector and baseline on every set: one table with mean rank, on labels that nothing was fitted or chosen with.

    python benchmarks/detection.py --data DIR [--json] [--quick] [--sets smd tep ...] [--recipes default pca ...] [--seeds 3]
        [--promised 0.01]

`--data` is the folder with the raw public sets. Fit and threshold come from training rows only; the promised share of false alarms
is 1 % unless said otherwise; it is held against steps that nothing abnormal precedes (`normal_flagged_share`), the same recording without its injected
faults where they were injected, against every step without a label (`false_alarm_rate`), and of the default against what a detector of the first three fifths of
the trainings flags of the rest (`expected_flagged_share`). All sites of SMD learn together (federated prior); every file of the other sets is a machine by itself. `turbine`, `steel`
and `pjm` get synthetic faults (`pipeline/evaluation/injection.py`), each seed other ones. `durations` averages over 3, 10 and 30
minutes instead of steps; `plain_ridge` and `plain_pca_90` are peers that share no code with the product (`benchmarks/linear_recipe.py`);
`turbine_short` and so on are the same recordings with faults of a third of the length, which only shows how much that matters. `default_network` is the product's default, `network` its network alone. `--quick` takes fewer machines, files and seeds.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.command import command_line
from benchmarks.detection_recipes import (
    LEAD,
    NETWORK,
    PROMISED,
    RECIPES,
    SIMPLE,
    Judge,
    detector_for,
    fitted,
    looked_ahead,
)
from benchmarks.detection_sets import SETS, Machine
from benchmarks.provenance import made_with
from pipeline.evaluation.injection import KINDS

_SETTLED = 120
"""Steps behind an incident that belong to it: four of the longest averages."""


SEEDED = ("turbine", "steel", "pjm", "turbine_short", "steel_short", "pjm_short")
USUAL = tuple(name for name in SETS if not name.endswith("_short"))


def judge(name: str, recipe: str, machines: list[Machine], promised: float) -> list[dict[str, Any]]:
    """One entry of figures a machine."""
    from pipeline.evaluation.metrics import evaluate

    groups = [machines] if name == "smd" else [[machine] for machine in machines]
    found = []
    kept: dict[bytes, Judge] = {}
    ahead: dict[str, tuple[float, int]] = {}
    for group in groups:
        key = group[0].train.tobytes() if len(group) == 1 else b""
        if key not in kept:
            # Machines with the very same training rows (faults of one plant) share one fit.
            members = group if len(group) > 1 else [dataclasses.replace(group[0], name="m")]
            kept = {key: fitted(recipe, members, promised)}
            ahead = looked_ahead(recipe, members, promised) if recipe == "default" else {}
        for machine in group:
            member = machine if len(group) > 1 else dataclasses.replace(machine, name="m")
            score, threshold, first = kept[key](member, machine.test)
            figures = evaluate(
                score, machine.truth, threshold, machine.step_seconds, training_threshold=first
            )
            known = np.isfinite(score)
            entry = {
                key_: getattr(figures, key_)
                for key_ in ("auc_pr", "auc_roc", "vus_pr", "f1", "event_recall", "false_alarms_per_week")
            }
            entry["false_alarm_rate"] = figures.false_flagged_share
            if machine.normal is None:
                flagged, calm = score > threshold, known & undisturbed(machine.truth)
            else:
                clean, limits, _ = kept[key](member, machine.normal)
                flagged, calm = clean > limits, np.isfinite(clean)
            # A few rows before the first fault say nothing about one per cent.
            enough = calm.sum() >= LEAD
            entry["normal_flagged_share"] = float(flagged[calm].mean()) if enough else None
            entry["normal_steps"] = int(calm.sum())
            if ahead:
                entry["expected_flagged_share"], entry["expected_steps"] = ahead[member.name]
            entry["missed_share"] = None if figures.recall is None else 1 - figures.recall
            if name == "tep":
                normal = score[known & ~machine.truth]
                entry["detection_at_1_percent"] = float(
                    (score[machine.truth] > np.quantile(normal, 0.99)).mean()
                )
                assert machine.fault_free is not None
                free, _, _ = kept[key](member, machine.fault_free)
                limit = float(np.nanquantile(free, 0.99))
                entry["detection_at_1_percent_of_fault_free_run"] = float(
                    (score[machine.truth] > limit).mean()
                )
            entry["machine"] = machine.name
            found.append(entry)
    return found


def undisturbed(truth: np.ndarray) -> np.ndarray:
    """Steps bool[N] of no incident and not within `_SETTLED` steps behind one."""
    disturbed = np.convolve(truth, np.ones(_SETTLED + 1), "full")[: len(truth)] > 0.5
    return ~disturbed


def interpreted(data: Path, quick: bool) -> dict[str, Any]:
    """How well contributions name the sensors of SMD's incidents: HitRate at 100 % and 150 % of the true number (Su et al., KDD
    2019), beside that of sensors in random order; and, to show why it decides nothing, point-adjusted F1 beside a random score's."""
    from pipeline.evaluation.adjusted import point_adjusted

    machines = list(SETS["smd"](data, 0, quick))
    detector = detector_for("default", machines)
    hits: dict[str, list[float]] = {
        "hit_rate_100": [],
        "hit_rate_150": [],
        "random_100": [],
        "random_150": [],
    }
    adjusted: list[tuple[float, float]] = []
    random = np.random.default_rng(0)
    for machine in machines:
        found = detector.score(machine.name, np.concatenate([machine.train[-LEAD:], machine.test]))
        both = point_adjusted(found.score[LEAD:], machine.truth)
        if both is not None:
            adjusted.append((both.f1, both.random_f1))
        text = (data / "smd19" / "interpretation_label" / f"{machine.name}.txt").read_text()
        for line in text.split():
            span, sensors = line.split(":")
            first, last = (int(part) for part in span.split("-"))
            truth = {int(sensor) - 1 for sensor in sensors.split(",")}
            parts = found.contribution[LEAD + first : LEAD + last + 1]
            if not len(parts):
                continue
            orders = {
                "hit_rate": np.argsort(-parts.mean(axis=0)),
                "random": random.permutation(parts.shape[1]),
            }
            for name, order in orders.items():
                for share in (100, 150):
                    hits[f"{name}_{share}"].append(hit_rate(order.tolist(), truth, share))
    figures = {name: float(np.mean(values)) for name, values in hits.items()}
    return {
        **figures,
        "incidents": len(hits["hit_rate_100"]),
        "point_adjusted_f1_not_a_result": float(np.mean([own for own, _ in adjusted])),
        "point_adjusted_f1_of_a_random_score": float(np.mean([other for _, other in adjusted])),
    }


def hit_rate(order: list[int], truth: set[int], percent: int) -> float:
    """Share of the true sensors among the first of `order`, so many per cent of their number, rounded down as in the paper."""
    return len(set(order[: len(truth) * percent // 100]) & truth) / len(truth)


def mean(entries: list[dict[str, Any]], key: str) -> float | None:
    """Mean over machines that have the figure."""
    known = [e[key] for e in entries if e.get(key) is not None]
    return float(np.mean(known)) if known else None


def pooled(entries: list[dict[str, Any]], share: str, steps: str) -> float | None:
    """Mean of a share over machines, weighed by their steps; None if no machine has one."""
    known = [(e[share], e[steps]) for e in entries if e[share] is not None]
    return float(np.average([s for s, _ in known], weights=[n for _, n in known])) if known else None


def run(
    data: Path, sets: list[str], recipes: list[str], seeds: int, quick: bool, promised: float
) -> dict[str, Any]:
    """Figures per set and recipe: means over machines and seeds, `auc_pr_spread` over seeds where faults are drawn."""
    result: dict[str, Any] = {}
    for name in sets:
        result[name] = {}
        for recipe in recipes:
            began, per_seed, every = time.monotonic(), [], []
            for seed in range(seeds if name in SEEDED else 1):
                entries = judge(name, recipe, list(SETS[name](data, seed, quick)), promised)
                mixed = [e for e in entries if name not in SEEDED or e["machine"] == "mixed"]
                per_seed.append(mean(mixed, "auc_pr"))
                every += entries
            mixed = [e for e in every if name not in SEEDED or e["machine"] == "mixed"]
            keys = [key for key in mixed[0] if key != "machine"]
            figures: dict[str, Any] = {key: mean(mixed, key) for key in keys}
            # Machines with more undisturbed steps say more about a rate.
            figures["normal_flagged_share"] = pooled(mixed, "normal_flagged_share", "normal_steps")
            if "expected_flagged_share" in figures:
                figures["expected_flagged_share"] = pooled(mixed, "expected_flagged_share", "expected_steps")
            figures["auc_pr_spread"] = float(np.std(per_seed)) if len(per_seed) > 1 else None
            if name in SEEDED and not quick:
                figures["auc_pr_by_kind"] = {
                    kind: mean([e for e in every if e["machine"] == kind], "auc_pr") for kind in KINDS
                }
            figures["seconds"] = round(time.monotonic() - began, 2)
            result[name][recipe] = figures
            print(f"{name:8} {recipe:14} AUC-PR {figures['auc_pr']:.3f}", file=sys.stderr, flush=True)
    return result


def ranks(result: dict[str, Any]) -> dict[str, float]:
    """Mean rank of each recipe by AUC-PR over the sets, 1 is best; `default` and `durations` are one where a step is a minute, and share theirs."""
    from pipeline.evaluation.ranking import mean_ranks

    recipes = list(next(iter(result.values())))
    table = np.array([[of[recipe]["auc_pr"] for of in result.values()] for recipe in recipes])
    return dict(zip(recipes, mean_ranks(table).tolist(), strict=True))


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """By recipe its mean AUC-PR and mean rank over the sets and, where one of `SIMPLE` ran, how far it is ahead of the best of them by set."""
    recipes = list(next(iter(result.values())))
    simple = [recipe for recipe in SIMPLE if recipe in recipes]
    return {
        "mean_auc_pr": {r: float(np.mean([of[r]["auc_pr"] for of in result.values()])) for r in recipes},
        "mean_rank": ranks(result),
        "gap_to_best_simple": {
            recipe: {
                name: of[recipe]["auc_pr"] - max(of[each]["auc_pr"] for each in simple)
                for name, of in result.items()
            }
            for recipe in recipes
            if simple
        },
    }


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=USUAL)
    parser.add_argument(
        "--recipes",
        nargs="+",
        choices=RECIPES,
        default=[r for r in RECIPES if r not in NETWORK],
        help="default: all but those with a network, which take minutes a set",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--promised", type=float, default=PROMISED, help="share of false alarms")
    parser.add_argument("--quick", action="store_true", help="fewer machines, files, kinds and seeds")
    asked = parser.parse_args()
    seeds = 1 if asked.quick else asked.seeds
    result = run(asked.data, asked.sets, asked.recipes, seeds, asked.quick, asked.promised)
    found = summary(result)
    explained = interpreted(asked.data, asked.quick) if "smd" in result else None
    if asked.json:
        print(
            json.dumps(
                {
                    "sets": result,
                    **found,
                    "smd_contributions": explained,
                    "promised_false_alarm_rate": asked.promised,
                    "quick": asked.quick,
                    **made_with(),
                },
                indent=1,
            )
        )
        return
    print(f"{'recipe':14}" + "".join(f"{name:>9}" for name in result) + f"{'mean':>9}{'rank':>6}{'gap':>8}")
    rank, gaps = found["mean_rank"], found["gap_to_best_simple"]
    for recipe in sorted(rank, key=lambda r: rank[r]):
        values = [result[name][recipe]["auc_pr"] for name in result]
        print(
            f"{recipe:14}"
            + "".join(f"{v:9.3f}" for v in values)
            + f"{np.mean(values):9.3f}{rank[recipe]:6.1f}"
            + (f"{min(gaps[recipe].values()):8.3f}" if gaps else "")
        )


if __name__ == "__main__":
    main()
