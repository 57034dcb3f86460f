"""Trainings with faults in them: what they cost, and what leaving out stretches brings back.

    python benchmarks/dirty_trainings.py --data DIR [--json]

Into trainings of made machines (`benchmarks/made_machines.py`) and the gas turbine faults of every kind are put (`pipeline/evaluation/injection.py`) until about 1, 3 and 10 % of their
steps are faulty; machines of SMD learn from their training and the first half of their test, with its real incidents, and are judged on the second (`real`). Each is learned from
as it is (`dirty`), without the stretches that stand out of it (`candidates`, `pipeline/evaluation/standing_out.py`; `again`: learned and looked at up to three times), and without what is labelled
(`labelled`); `clean` is the training before faults were put in, of SMD the recorded one alone. Means over machines of AUC-PR, F1 at the training threshold, incidents noticed, and normal steps
flagged where .010 are promised. `named` says how many stretches were named and how many of them touch a fault, `faulty_left_out` and `normal_left_out` which share of steps that is.
`accused`: of trainings in which nothing is labelled, in how many any stretch is named.
One detector a machine, the default without the network.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.command import command_line
from benchmarks.detection import mean, undisturbed
from benchmarks.detection_recipes import LEAD, PROMISED, detector_for
from benchmarks.detection_sets import LONGEST, SETS, SHORT, Machine, lasting
from benchmarks.made_machines import KINDS
from benchmarks.made_plants import machine as made_machine
from benchmarks.provenance import made_with
from pipeline.evaluation.injection import KINDS as FAULTS
from pipeline.evaluation.injection import inject
from pipeline.evaluation.metrics import evaluate
from pipeline.evaluation.standing_out import Stretch, standing_out

SHARES = (0.01, 0.03, 0.1)
MADE = tuple(kind for kind in KINDS if kind not in ("many", "young"))
"""But for one that takes minutes, and one too short for one per cent of it to be a fault."""
EVERY = 2
"""Every other machine of SMD, of these the ones with an incident in both halves of their test."""
TIMES = 3
SPIKE = 2
"""Steps that a spike lasts in the mean; all other kinds last longer."""
FIGURES = ("auc_pr", "f1", "event_recall", "normal_flagged_share")
CLEAN = ("smd", "tep", "skab", "batadal", "turbine", "steel", "pjm")


@dataclass(frozen=True)
class Training:
    """A machine whose training rows hold faults at the steps `faulty` bool[T], and the machine that has none."""

    dirty: Machine
    faulty: np.ndarray
    clean: Machine


def injected(machine: Machine, share: float, lengths: tuple[int, int]) -> Training:
    """Faults in about so many of a machine's training steps, one at least."""
    long = (lengths[0] + lengths[1] - 1) / 2
    usual = (long * (len(FAULTS) - 1) + SPIKE) / len(FAULTS)
    count = max(1, round(share * len(machine.train) / usual))
    rows, faulty, _ = inject(machine.train, np.nanstd(machine.train, axis=0), count, seed=1, lengths=lengths)
    return Training(replace(machine, train=rows), faulty, machine)


def real(machine: Machine) -> Training:
    """A machine that learns from the first half of its test too."""
    half = len(machine.test) // 2
    rows = np.concatenate([machine.train, machine.test[:half]])
    faulty = np.r_[np.zeros(len(machine.train), bool), machine.truth[:half]]
    later = replace(machine, test=machine.test[half:], truth=machine.truth[half:])
    return Training(replace(later, train=rows), faulty, later)


def without(rows: np.ndarray, left_out: np.ndarray) -> list[np.ndarray]:
    """Training runs of rows [T, F], cut where bool[T] says; what is shorter than a frame cannot be learned from."""
    edges = np.flatnonzero(np.diff(np.r_[True, left_out, True].astype(np.int8)))
    return [rows[begin:end] for begin, end in edges.reshape(-1, 2) if end - begin >= LEAD]


def named(detector: Any, rows: np.ndarray, left_out: np.ndarray) -> list[Stretch]:
    """What stands out of a training, by its rows: those left out before are not looked at."""
    score = np.full(len(rows), np.nan)
    edges = np.flatnonzero(np.diff(np.r_[True, left_out, True].astype(np.int8)))
    for begin, end in edges.reshape(-1, 2):
        if end - begin >= LEAD:
            score[begin:end] = detector.score("m", rows[begin:end]).score
    return standing_out([score], max(detector.options.spans))


def learned(machine: Machine, left_out: np.ndarray) -> Any:
    """The detector of a training without some of its steps."""
    return detector_for("default", [replace(machine, name="m")], runs={"m": without(machine.train, left_out)})


def judged(detector: Any, machine: Machine) -> dict[str, Any]:
    """Figures on the rows behind the training."""
    lead = machine.train[-LEAD:] if machine.follows else machine.train[:0]

    def scored(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = detector.score("m", np.concatenate([lead, rows]))
        return found.score[len(lead) :], found.threshold[len(lead) :]

    score, limit = scored(machine.test)
    first = detector.training_threshold("m")
    figures = evaluate(score, machine.truth, limit, machine.step_seconds, training_threshold=first)
    if machine.normal is None:
        calm = np.isfinite(score) & undisturbed(machine.truth)
    else:
        score, limit = scored(machine.normal)
        calm = np.isfinite(score)
    flagged = float((score > limit)[calm].mean()) if calm.any() else None
    found = {name: getattr(figures, name) for name in FIGURES[:-1]}
    return {**found, "normal_flagged_share": flagged}


def ways(training: Training) -> dict[str, dict[str, Any]]:
    """Figures of one training by what is left out of it."""
    machine, faulty = training.dirty, training.faulty
    nothing = np.zeros(len(faulty), bool)
    plain = learned(machine, nothing)
    found = {"dirty": judged(plain, machine)}
    left_out, detector, stretches = nothing, plain, []
    for number in range(TIMES):
        new = named(detector, machine.train, left_out)
        left_out = left_out.copy()
        for each in new:
            # As `[[dataset.leave_out]]` is told: from the step before.
            left_out[max(each.begin - 1, 0) : each.end] = True
        stretches += new
        if new:
            detector = learned(machine, left_out)
        way = "candidates" if number == 0 else "again"
        found[way] = {
            **(
                judged(detector, machine)
                if new or number == 0
                else found["candidates" if number == 1 else way]
            ),
            "named": len(stretches),
            "named_faulty": sum(bool(faulty[each.begin : each.end].any()) for each in stretches),
            "faulty_left_out": float(left_out[faulty].mean()),
            "normal_left_out": float(left_out[~faulty].mean()),
        }
        if not new:
            found.setdefault("again", found["candidates"])
            break
    found["labelled"] = judged(learned(machine, faulty), machine)
    return found


def averaged(entries: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Means over machines by way and figure; stretches are added up."""
    found: dict[str, dict[str, Any]] = {}
    for way in entries[0]:
        of = [entry[way] for entry in entries]
        found[way] = {
            key: sum(each[key] for each in of) if key.startswith("named") else mean(of, key) for key in of[0]
        }
    return found


def fleets(data: Path) -> Iterator[tuple[str, list[tuple[Machine, tuple[int, int]]]]]:
    """Machines whose trainings faults are put into, with how long these last."""
    yield "made machines", [(made_machine(kind, 0), SHORT) for kind in MADE]
    yield "gas turbine", [(next(iter(SETS["turbine"](data, 0, True))), lasting(LONGEST["turbine"]))]


def accused(data: Path) -> dict[str, dict[str, Any]]:
    """By set, how many trainings without a label have stretches named."""
    every: dict[str, list[Machine]] = {
        name: list(SETS[name](data, 0, True)) for name in ("turbine", "steel", "pjm")
    }
    every |= {name: list(SETS[name](data, 0, False)) for name in ("smd", "skab", "batadal")}
    # All of its test runs follow the same training.
    every["tep"] = [next(iter(SETS["tep"](data, 0, False)))]
    found = {}
    for name in CLEAN:
        counts = {}
        for machine in every[name]:
            detector = learned(machine, np.zeros(len(machine.train), bool))
            counts[machine.name] = len(named(detector, machine.train, np.zeros(len(machine.train), bool)))
        found[name] = _told(counts)
    made: dict[str, int] = {}
    for kind in MADE:
        for seed in range(3):
            machine = made_machine(kind, seed)
            nothing = np.zeros(len(machine.train), bool)
            made[f"{kind} {seed}"] = len(named(learned(machine, nothing), machine.train, nothing))
    found["made machines"] = _told(made)
    return found


def _told(counts: dict[str, int]) -> dict[str, Any]:
    spoke = {name: count for name, count in counts.items() if count}
    return {"trainings": len(counts), "accused": len(spoke), "stretches": spoke}


def run(data: Path) -> dict[str, Any]:
    """Everything."""
    found: dict[str, Any] = {}

    def say(fleet: str, what: str, of: dict[str, dict[str, Any]]) -> None:
        told = "  ".join(
            f"{way} {figures['auc_pr']:.3f} {figures['event_recall']:.2f}" for way, figures in of.items()
        )
        print(f"{fleet}, {what}: {told}", file=sys.stderr, flush=True)

    for fleet, machines in fleets(data):
        clean = [
            {"clean": judged(learned(each, np.zeros(len(each.train), bool)), each)} for each, _ in machines
        ]
        found[fleet] = {"machines": len(machines), "clean": averaged(clean)["clean"]}
        for share in SHARES:
            trainings = [injected(each, share, lengths) for each, lengths in machines]
            of = averaged([ways(each) for each in trainings])
            found[fleet][f"{share:.0%}"] = {
                "faulty_share": float(np.mean([each.faulty.mean() for each in trainings])),
                **of,
            }
            say(fleet, f"{share:.0%}", of)
    halves = (real(each) for i, each in enumerate(SETS["smd"](data, 0, False)) if i % EVERY == 0)
    trainings = [each for each in halves if each.faulty.any() and each.dirty.truth.any()]
    clean = [
        {"clean": judged(learned(each.clean, np.zeros(len(each.clean.train), bool)), each.clean)}
        for each in trainings
    ]
    found["SMD"] = {
        "machines": len(trainings),
        "faulty_share": float(np.mean([each.faulty.mean() for each in trainings])),
        "clean": averaged(clean)["clean"],
        "real": averaged([ways(each) for each in trainings]),
    }
    say("SMD", "real", found["SMD"]["real"])
    return {"fleets": found, "accused": accused(data)}


def main() -> None:
    """Command line."""
    asked = command_line(__doc__, data=True).parse_args()
    began = time.monotonic()
    found = run(asked.data)
    about = {
        "promised_false_alarm_rate": PROMISED,
        "seconds": round(time.monotonic() - began, 1),
        **made_with(),
    }
    print(json.dumps({**found, **about}, indent=1 if asked.json else 2))


if __name__ == "__main__":
    main()
