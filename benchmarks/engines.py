"""Many short-lived engines as one plant: C-MAPSS FD001, 60 healthy cycles each to learn from, the last 30 before failure to find.

    python benchmarks/engines.py --data DIR [--json]

Wear is slow, and no engine was watched long enough to tell it from a change that is none. `one machine` is what comes of taking all
engines' rows for those of one machine. AUC-PR, point-wise: the mean over engines, and of all engines' scores on one scale. The set decides nothing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.command import command_line
from benchmarks.fleet import LINEAR, LINEAR_FRAME, cmapss


def measure(data: Path) -> dict[str, dict[str, float]]:
    """By detector its two figures."""
    from models.architectures import TcnSpec
    from models.baselines import fit_baseline
    from models.fitting import fit_detector
    from models.options import DetectorOptions
    from models.scaling import moments
    from pipeline.evaluation.ranking import average_precision

    engines = cmapss(data)
    runs = {"plant": [engine.train for engine in engines.values()]}
    sensors = runs["plant"][0].shape[1]
    names, scaling = (
        [f"s{i:02d}" for i in range(sensors)],
        {"plant": moments(runs["plant"], sensors).scaling()},
    )
    options = DetectorOptions(sources=LINEAR)
    step = next(iter(engines.values())).step

    def fitted(assets: list[str]) -> Any:
        of = {"plant": assets}
        return fit_detector(TcnSpec(), None, names, step, LINEAR_FRAME, scaling, runs, options, assets=of)

    detectors = {
        "default": fitted(list(engines)),
        "default, one machine": fitted(["plant"] * len(engines)),
        **{
            f"baseline {name}": fit_baseline(name, names, step, LINEAR_FRAME, scaling, runs, options)
            for name in ("zscore", "pca")
        },
    }
    found = {}
    for name, detector in detectors.items():
        scores, labels, each = [], [], []
        for engine in engines.values():
            score = detector.score("plant", np.concatenate([engine.train, engine.test])).score
            score = score[len(engine.train) :]
            each.append(average_precision(score, engine.label))
            scores.append(score)
            labels.append(engine.label)
        found[name] = {
            "auc_pr_mean_over_engines": round(float(np.mean([area for area in each if area is not None])), 4),
            "auc_pr_of_all": round(
                average_precision(np.concatenate(scores), np.concatenate(labels)) or 0.0, 4
            ),
        }
    return found


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.data), indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
