"""Machines that move on after their training: how far off thresholds are, and whether anything in the training tells.

    python benchmarks/short_trainings.py --data DIR [--json] [--promised 0.01]

Trainings of 500 to 9,000 rows are cut at three places out of normal rows of the public sets, each followed by up to 4,000 normal rows (SKAB: its files as they are, up to
their incident; TEP: its fault-free test run). By length of training: the share of these rows flagged by the training threshold and by the one that follows, how many machines are
within a factor of two of the promise, and what a detector of the first three fifths of each training flags of the rest (`expected`). `need` is the logarithm of what the training threshold
had to be multiplied with to keep the promise; `rank_correlation` says how well what a training shows tells it machine by machine (Spearman; beyond `beyond_chance` in one of
twenty if nothing is told). `labelled`: the last rows only of the trainings of SMD and BATADAL, and their tests with real incidents. `still`: the same detectors that follow no slow change.
One detector a machine, the default without the network; labels decide nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import prepare_data
from benchmarks.command import command_line
from benchmarks.detection_recipes import LEAD, PROMISED, detector_for, looked_ahead
from benchmarks.detection_sets import SETS, Machine

LENGTHS = (500, 1500, 3000, 9000)
PLACES = (0.1, 0.5, 0.9)
FOLLOWING = 4000
FEWEST = 64
"""Normal rows behind a training from which a share can be told."""
LABELLED = {"smd": (720, 1010, 1440, 2880, 5760), "batadal": (720, 1010, 1440, 2880, 5760)}
"""Rows that trainings of sets with labels are shortened to."""
EVERY = 3
"""Every third machine of SMD: nineteen alike would outvote all others."""


@dataclass(frozen=True)
class Cut:
    """A training and what normally follows it; `length` names those it is told with."""

    machine: Machine
    length: str


def cuts(data: Path) -> Iterator[Cut]:
    """Everything that is looked at."""
    whole = [next(iter(prepare_data.SETS[name](data))) for name in ("gas_turbine", "steel", "batadal")]
    whole += [of for i, of in enumerate(prepare_data.smd(data)) if i % EVERY == 0]
    recorded = [
        (of.site, of.values[: of.train_rows] if of.labels is not None else of.values, of.step.total_seconds())
        for of in whole
    ]
    grid = next(iter(SETS["pjm"](data, 0, True)))
    assert grid.normal is not None
    recorded.append(("pjm", np.concatenate([grid.train, grid.normal]), grid.step_seconds))
    for name, values, step in recorded:
        for length in LENGTHS:
            behind = min(2 * length, FOLLOWING)
            if len(values) < length + behind:
                continue
            for place in PLACES:
                at = int(place * (len(values) - length - behind))
                train, test = np.split(values[at : at + length + behind].astype(float), [length])
                yield Cut(
                    Machine(f"{name} {place}", train, test, np.zeros(behind, np.bool_), step), f"{length}"
                )
    tep = next(iter(SETS["tep"](data, 0, True)))
    assert tep.fault_free is not None
    calm = Machine(
        "tep", tep.train, tep.fault_free, np.zeros(len(tep.fault_free), np.bool_), tep.step_seconds
    )
    yield Cut(calm, "500")
    for machine in SETS["skab"](data, 0, False):
        first = int(np.argmax(machine.truth))
        if first >= FEWEST:
            calm = Machine(
                machine.name, machine.train, machine.test[:first], machine.truth[:first], machine.step_seconds
            )
            yield Cut(calm, "400 (SKAB)")


def judge(cut: Cut, promised: float) -> dict[str, Any]:
    """Figures of one training."""
    from models.slow_changes import wander

    machine = cut.machine
    detector = detector_for("default", [machine], promised)
    found = detector.score(machine.name, np.concatenate([machine.train[-LEAD:], machine.test]))
    known = np.isfinite(found.score[LEAD:])
    score, following = found.score[LEAD:][known], found.threshold[LEAD:][known]
    fixed = detector.training_threshold(machine.name)
    scaled = (machine.train - machine.train.mean(axis=0)) / (machine.train.std(axis=0) + 1e-9)
    own = detector.score(machine.name, machine.train).score
    blocks = [np.log(np.maximum(block[np.isfinite(block)], 1e-4)) for block in np.array_split(own, 5)]
    usual = np.array([block.mean() for block in blocks])
    slope = np.polyfit(np.linspace(-1.0, 1.0, len(scaled)), scaled, 1)[0]
    still = detector_for("default", [machine], promised, follow=0.0)
    unmoved = still.score(machine.name, np.concatenate([machine.train[-LEAD:], machine.test]))
    return {
        "length": cut.length,
        "still": float((unmoved.score > unmoved.threshold)[LEAD:][known].mean()),
        "fixed": float((score > fixed).mean()),
        "following": float((score > following).mean()),
        "expected": looked_ahead("default", [machine], promised)[machine.name][0],
        "need": float(np.log(np.quantile(score, 1 - promised) / fixed)),
        "told": {
            "how much sensors wander": float(wander(scaled).mean()),
            "how much the worst sensor wanders": float(wander(scaled).max()),
            "how steadily sensors rise or fall": float(np.abs(slope).mean()),
            "how far apart blocks score": float(usual.std()),
            "how much higher the last block scores": float(usual[-1] - usual[:-1].mean()),
            "how much higher the outer blocks score": float(usual[[0, -1]].mean() - usual[1:-1].mean()),
            "how far the threshold lies above the usual score": float(np.log(fixed) - usual.mean()),
        },
    }


def labelled(data: Path, promised: float) -> dict[str, Any]:
    """By set and rows of training the mean figures over machines, following and still."""
    from pipeline.evaluation.metrics import evaluate

    found: dict[str, Any] = {}
    for name, lengths in LABELLED.items():
        machines = list(SETS[name](data, 0, False))
        for length in lengths:
            for how, changes in (("following", {}), ("still", {"follow": 0.0})):
                figures = []
                for whole in machines:
                    machine = dataclasses.replace(whole, train=whole.train[-length:])
                    detector = detector_for("default", [machine], promised, **changes)
                    scores = detector.score(
                        machine.name, np.concatenate([machine.train[-LEAD:], machine.test])
                    )
                    figures.append(
                        evaluate(
                            scores.score[LEAD:],
                            machine.truth,
                            scores.threshold[LEAD:],
                            machine.step_seconds,
                            training_threshold=detector.training_threshold(machine.name),
                        )
                    )
                means = {
                    key: float(np.mean([getattr(each, key) for each in figures]))
                    for key in (
                        "auc_pr",
                        "vus_pr",
                        "f1",
                        "event_recall",
                        "false_flagged_share",
                        "false_alarms_per_week",
                    )
                }
                found.setdefault(name, {}).setdefault(f"{length}", {})[how] = means
            print(f"{name} {length} rows", file=sys.stderr, flush=True)
    return found


def ranked(values: list[float]) -> np.ndarray:
    """Ranks float64[N], ties sharing theirs."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values))


def measure(data: Path, promised: float) -> dict[str, Any]:
    """By length, and over all what the training tells."""
    entries = []
    for cut in cuts(data):
        entries.append(judge(cut, promised))
        if len(entries) % 20 == 0:
            print(f"{len(entries)} trainings", file=sys.stderr, flush=True)
    lengths = {}
    for length in dict.fromkeys(e["length"] for e in entries):
        of = [e for e in entries if e["length"] == length]
        within = [promised / 2 <= e["following"] <= 2 * promised for e in of]
        lengths[length] = {
            "trainings": len(of),
            **{
                name: float(np.mean([e[name] for e in of]))
                for name in ("fixed", "following", "expected", "still")
            },
            "median_following": float(np.median([e["following"] for e in of])),
            "within_a_factor_of_two": float(np.mean(within)),
            "at_most_twice": float(np.mean([e["following"] <= 2 * promised for e in of])),
            "spread_of_need": float(np.std([e["need"] for e in of])),
        }
    need = ranked([e["need"] for e in entries])
    told = {name: [e["told"][name] for e in entries] for name in entries[0]["told"]}
    told["what a detector of three fifths flags of the rest"] = [e["expected"] for e in entries]
    return {
        "lengths": lengths,
        "rank_correlation": {name: float(np.corrcoef(ranked(of), need)[0, 1]) for name, of in told.items()},
        "beyond_chance": float(1.96 / np.sqrt(len(entries) - 1)),
    }


def main() -> None:
    """Command line."""
    from benchmarks.provenance import made_with

    parser = command_line(__doc__, data=True)
    parser.add_argument("--promised", type=float, default=PROMISED, help="share of normal steps")
    asked = parser.parse_args()
    began = time.monotonic()
    found = {**measure(asked.data, asked.promised), "labelled": labelled(asked.data, asked.promised)}
    if asked.json:
        seconds = round(time.monotonic() - began, 1)
        print(
            json.dumps(
                {
                    "promised": asked.promised,
                    **found,
                    "seconds": seconds,
                    **made_with(),
                },
                indent=1,
            )
        )
        return
    print(f"{'rows of training':18}{'fixed':>9}{'follows':>9}{'expected':>10}{'within 2':>10}{'spread':>8}")
    for length, of in found["lengths"].items():
        print(
            f"{length:18}{of['fixed']:9.4f}{of['following']:9.4f}{of['expected']:10.4f}"
            f"{of['within_a_factor_of_two']:10.2f}{of['spread_of_need']:8.2f}"
        )
    for name, rank in found["rank_correlation"].items():
        print(f"{name:52}{rank:+.2f}")
    print(f"{'by chance at most':52} {found['beyond_chance']:.2f}")
    print(f"{'AUC-PR / normal steps flagged':32}{'following':>16}{'still':>16}")
    for name, lengths in found["labelled"].items():
        for length, ways in lengths.items():
            cells = [f"{of['auc_pr']:.3f} / {of['false_flagged_share']:.3f}" for of in ways.values()]
            print(f"{name + ', ' + length + ' rows':32}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
