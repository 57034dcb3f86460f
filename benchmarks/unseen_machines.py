"""A network on machines that it never saw in training, beside the one that learned from them too, measured on SMD-19.

    python benchmarks/unseen_machines.py --data DIR [--rounds 20] [--folds 4] [--work FOLDER] [--json]

`--data` is the folder with the raw sets (`smd19/*.npz`). Machines are left out in folds; the network of a fold learned federated from all
other machines alone. A machine's own training rows give its scale and its calibration either way. Figures are the mean over machines of
the point-wise AUC-PR of the network's residuals by themselves. Bar: unseen at least 97 % of seen.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.command import command_line
from benchmarks.fleet import STEPS, network_auc_pr, smd, write_fleet

STRIDE, BAR = 32, 0.97


def measure(data: Path, rounds: int, folds: int, machines: int | None, work: Path) -> dict[str, Any]:
    """Train on all machines, and on all but each fold's; judge each machine by both."""
    from benchmarks.provenance import made_with
    from models.architectures import TcnSpec
    from pipeline.federation.settings import TrainingSettings
    from pipeline.federation.training import train

    fleet = dict(sorted(smd(data).items())[:machines])
    names = list(fleet)
    sensors = next(iter(fleet.values())).train.shape[1]
    settings = TrainingSettings(rounds=rounds, stride=STRIDE)
    (work / "shards").mkdir(parents=True, exist_ok=True)
    shards = write_fleet(work / "shards", fleet)

    def weights(left_out: list[str], folder: str) -> Any:
        others = {name: paths for name, paths in shards.items() if name not in left_out}
        found = train(others, TcnSpec(), settings, steps=STEPS, sensors=sensors, workdir=work / folder)
        print(f"{folder}: {len(others)} machines, {len(found.curve)} rounds", file=sys.stderr, flush=True)
        return found.weights

    seen = network_auc_pr(fleet, dict.fromkeys(names, weights([], "all")))
    unseen: dict[str, float] = {}
    for fold in range(folds):
        targets = {name: fleet[name] for name in names[fold::folds]}
        unseen |= network_auc_pr(targets, dict.fromkeys(targets, weights(list(targets), f"fold-{fold + 1}")))
    with_both = [name for name in names if np.isfinite(seen[name])]
    means = [float(np.mean([of[name] for name in with_both])) for of in (seen, unseen)]
    return {
        "unseen_share_of_seen": round(means[1] / means[0], 4),
        "bar": BAR,
        "auc_pr_seen": round(means[0], 4),
        "auc_pr_unseen": round(means[1], 4),
        "machines": {name: [round(seen[name], 4), round(unseen[name], 4)] for name in with_both},
        "rounds": rounds,
        "folds": folds,
        **made_with(),
    }


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--machines", type=int, default=None, help="only the first so many")
    parser.add_argument(
        "--work",
        type=Path,
        default=None,
        help="folder for shards and checkpoints, to go on after an interruption",
    )
    asked = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        work = asked.work or Path(name)
        found = measure(asked.data, asked.rounds, asked.folds, asked.machines, work)
    found["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
