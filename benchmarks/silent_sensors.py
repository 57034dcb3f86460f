"""What a detector makes of a machine of which one sensor has fallen silent: missing readings filled from the others, or taken for average ones.

    python benchmarks/silent_sensors.py --data DIR [--json] [--sets batadal turbine ...] [--sensors 4]

`--data` is the folder with the raw public sets. A detector is fitted on complete training rows of one machine and judges its test rows three times: `whole`; and, as means over `--sensors` sensors
drawn from those that move, each of them silent for all of the test, with what is missing `filled` and taken for `average`. An incident stays one where its only sensor is silent. Promised
are .010 of normal steps; `worst_flagged` is the largest share over the silent sensors. Of SMD every fourth machine is judged, by itself; turbine, steel and PJM get synthetic faults.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.command import command_line
from benchmarks.detection import SEEDED, mean, undisturbed
from benchmarks.detection_recipes import LEAD, PROMISED, detector_for
from benchmarks.detection_sets import SETS, Machine
from benchmarks.provenance import made_with

COMPARED = ("smd", "batadal", "turbine", "steel", "pjm")
FIGURES = ("auc_pr", "event_recall", "normal_flagged_share")
Figures = dict[str, float | None]


def judged(detector: Any, machine: Machine, silent: list[int]) -> Figures:
    """`FIGURES` of a machine's test with these sensors silent."""
    from pipeline.evaluation.metrics import evaluate

    def score(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        heard = rows.copy()
        heard[:, silent] = np.nan
        found = detector.score(machine.name, np.concatenate([machine.train[-LEAD:], heard]))
        return found.score[LEAD:], found.threshold[LEAD:]

    scores, limits = score(machine.test)
    first = detector.training_threshold(machine.name)
    found = evaluate(scores, machine.truth, limits, machine.step_seconds, training_threshold=first)
    if machine.normal is None:
        calm = undisturbed(machine.truth)
    else:
        scores, limits = score(machine.normal)
        calm = np.ones(len(scores), np.bool_)
    calm &= np.isfinite(scores)
    flagged = float((scores > limits)[calm].mean()) if calm.any() else None
    return {"auc_pr": found.auc_pr, "event_recall": found.event_recall, "normal_flagged_share": flagged}


def measure(data: Path, sets: list[str], sensors: int) -> dict[str, Any]:
    """Figures by set, means over its machines."""
    result: dict[str, Any] = {}
    for name in sets:
        ways: dict[str, list[Figures]] = {"whole": [], "filled": [], "average": []}
        machines = [each for each in SETS[name](data, 0, True) if name not in SEEDED or each.name == "mixed"]
        for machine in machines:
            moves = np.flatnonzero(np.ptp(machine.train, axis=0) > 0)
            drawn = np.random.default_rng(0).choice(moves, min(sensors, len(moves)), replace=False)
            detectors = {fill: detector_for("default", [machine], fill=fill) for fill in (True, False)}
            ways["whole"].append(judged(detectors[True], machine, []))
            for sensor in drawn.tolist():
                ways["filled"].append(judged(detectors[True], machine, [sensor]))
                ways["average"].append(judged(detectors[False], machine, [sensor]))
        result[name] = {way: {figure: mean(of, figure) for figure in FIGURES} for way, of in ways.items()}
        for way in ("filled", "average"):
            shares = [each["normal_flagged_share"] for each in ways[way]]
            result[name][way]["worst_flagged"] = max(share for share in shares if share is not None)
        print(name, result[name], file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument("--sets", nargs="+", choices=COMPARED, default=list(COMPARED))
    parser.add_argument("--sensors", type=int, default=4, help="silent sensors tried a machine")
    asked = parser.parse_args()
    sets = measure(asked.data, asked.sets, asked.sensors)
    if asked.json:
        about = {"sensors": asked.sensors, "promised_false_alarm_rate": PROMISED, **made_with()}
        print(json.dumps({"sets": sets, **about}, indent=1))
        return
    for name, ways in sets.items():
        for way, figures in ways.items():
            print(f"{name:8} {way:8} " + "  ".join(f"{key} {value:.4f}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
