"""What to do about machines that are not alike, measured on SMD-19: one common network, or own ones made from it.

    python benchmarks/unlike_machines.py --data DIR [--rounds 10] [--machines N] [--json]

`--data` is the folder with the raw sets (`smd19/*.npz`). For each way: mean over machines of the validation loss and of the point-wise
AUC-PR of the network's residuals alone. Ways: one common network; the same where half of the machines lack a quarter of the
sensors; each machine alone; the common one made its own by fine-tuning, by a head of its own, by Ditto; two and four groups of machines by
the likeness of their updates.
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
from benchmarks.fleet import STEPS, lacking, network_auc_pr, smd, write_fleet

STRIDE = 32


def measure(data: Path, rounds: int, machines: int | None) -> dict[str, Any]:
    """Train and judge every way."""
    from benchmarks.provenance import made_with
    from models.architectures import TcnSpec
    from pipeline.federation.clusters import train_clusters
    from pipeline.federation.personal import Personal, personalise
    from pipeline.federation.settings import TrainingSettings
    from pipeline.federation.training import train

    fleet = dict(sorted(smd(data).items())[:machines])
    sensors = next(iter(fleet.values())).train.shape[1]
    settings = TrainingSettings(rounds=rounds, stride=STRIDE)
    shape: dict[str, Any] = {"steps": STEPS, "sensors": sensors}
    spec = TcnSpec()
    ways: dict[str, tuple[dict[str, float], dict[str, Any]]] = {}

    def best(result: Any) -> dict[str, float]:
        return dict(result.curve[result.best_round - 1].sites)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "all").mkdir()
        (folder / "lacking").mkdir()
        shards = write_fleet(folder / "all", fleet)
        common = train(shards, spec, settings, **shape, workdir=folder / "w")
        ways["common"] = best(common), dict.fromkeys(fleet, common.weights)
        print(f"common: {common.best_round} rounds", file=sys.stderr)
        for kind in ("fine_tune", "head", "ditto"):
            own = personalise(shards, common.weights, spec, settings, Personal(kind), **shape)
            ways[kind] = (
                {site: each.after for site, each in own.items() if each.after is not None},
                {site: each.weights for site, each in own.items()},
            )
        for count in (2, 4):
            groups = train_clusters(
                shards, common, spec, settings, count, **shape, workdir=folder / f"c{count}"
            )
            print("groups", [list(group) for group in groups], file=sys.stderr)
            ways[f"{count} groups"] = (
                {site: loss for result in groups.values() for site, loss in best(result).items()},
                {site: result.weights for group, result in groups.items() for site in group},
            )
        local = {
            site: train({site: paths}, spec, settings, **shape, workdir=folder / f"l-{site}", mode="local")
            for site, paths in shards.items()
        }
        ways["each alone"] = (
            {site: best(result)[site] for site, result in local.items()},
            {site: result.weights for site, result in local.items()},
        )
        poor = lacking(fleet)
        fewer = train(
            write_fleet(folder / "lacking", poor), spec, settings, **shape, workdir=folder / "fewer"
        )
    table = {}
    for way, (losses, weights) in ways.items():
        table[way] = _row(losses, network_auc_pr(fleet, weights))
        print(way, table[way], file=sys.stderr)
    table["common, sensors missing"] = _row(
        best(fewer), network_auc_pr(poor, dict.fromkeys(poor, fewer.weights))
    )
    # The machines that lack nothing, judged by the network that learned beside those that do.
    whole = [site for site in fleet if np.isfinite(poor[site].train).all()]
    table["the same, machines with all sensors"] = _row(
        {site: best(fewer)[site] for site in whole},
        network_auc_pr({site: fleet[site] for site in whole}, dict.fromkeys(whole, fewer.weights)),
    )
    table["common, those machines"] = _row(
        {site: ways["common"][0][site] for site in whole},
        network_auc_pr({site: fleet[site] for site in whole}, dict.fromkeys(whole, common.weights)),
    )
    return {
        "ways": table,
        "machines": len(fleet),
        "rounds": rounds,
        **made_with(),
    }


def _row(losses: dict[str, float], areas: dict[str, float]) -> dict[str, float]:
    return {
        "validation": round(float(np.mean(list(losses.values()))), 4),
        "auc_pr": round(float(np.nanmean(list(areas.values()))), 4),
    }


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--machines", type=int, default=None, help="only the first so many")
    asked = parser.parse_args()
    began = time.perf_counter()
    found = measure(asked.data, asked.rounds, asked.machines)
    found["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
