"""One site of eight lies about its update: what becomes of a federated training under each aggregation.

    python benchmarks/poisoned_site.py --data DIR [--rounds 6] [--json]

`--data` is the folder with the raw sets (`smd19/*.npz`). Eight machines of SMD-19, the network (TCN) alone. For each aggregation and each lie:
mean validation loss of the seven honest machines by the weights that the training gives, and whether the liar was found, with the reason.
Beside them the same training with eight honest sites, and with the seven alone. Then the same question for the shared sum of statistics:
what the check of sums says to a matrix that is a lie. And how many times as long as a typical one the longest update of an honest fleet is, in
fleets of several makes: what `pipeline.federation.screening.LONGEST` must leave room for.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.command import command_line
from benchmarks.fleet import STEPS, Machine, cmapss, lacking, smd, write_fleet

STRIDE, SITES, FRAME = 32, 8, 40
"""Rows between frames, machines, and rows of a frame that engines of sixty cycles have."""
HONEST, WITHOUT = "no lie", "without the site"
AGGREGATIONS: dict[str, dict[str, Any]] = {
    "mean": {},
    "mean, adaptive clipping": {"clip_updates": "adaptive"},
    "median": {"aggregation": "median"},
    "trimmed mean": {"aggregation": "trimmed_mean"},
    "Krum": {"aggregation": "krum"},
}
SUMS: dict[str, Any] = {
    "scaled by a million": lambda gram: 1e6 * gram,
    "turned round": lambda gram: -gram,
    "NaN": lambda gram: np.nan * gram,
    "zero": lambda gram: 0 * gram,
    "a direction that no rows have": lambda gram: 2 * np.diag(np.diag(gram)) - gram,
}


def measure(data: Path, rounds: int) -> dict[str, Any]:
    """Every aggregation with every lie."""
    from benchmarks.liars import LIES, liar, lying
    from benchmarks.provenance import made_with
    from models.architectures import TcnSpec
    from pipeline.federation.settings import TrainingSettings
    from pipeline.federation.statistics import Design, federated_statistics, impossible
    from pipeline.federation.training import train

    fleet = dict(sorted(smd(data).items())[:SITES])
    bad = sorted(fleet)[SITES // 2]
    honest = [site for site in fleet if site != bad]
    sensors = next(iter(fleet.values())).train.shape[1]
    table: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_fleet(folder, fleet)

        def trained(what: str, lie: str) -> dict[str, Any]:
            mine = {site: shards[site] for site in (honest if lie == WITHOUT else fleet)}
            if lie in LIES:
                mine[bad] = liar(shards[bad], lie)
            result = train(
                mine,
                TcnSpec(),
                TrainingSettings(rounds=rounds, stride=STRIDE, patience=rounds, **AGGREGATIONS[what]),
                steps=STEPS,
                sensors=sensors,
                workdir=folder / f"{what}-{lie}".replace(" ", "_"),
            )
            best = result.curve[result.best_round - 1].sites
            found = {
                "validation": round(float(np.mean([best[site] for site in honest])), 4),
                "best_round": result.best_round,
                "named": result.excluded.get(bad) or result.shortened.get(bad),
            }
            print(f"{what}, {lie}: {found}", file=sys.stderr, flush=True)
            return found

        with lying():
            for what in AGGREGATIONS:
                table[what] = {lie: trained(what, lie) for lie in (HONEST, WITHOUT, *LIES)}
        design = Design(sensors)
        gram = federated_statistics({bad: shards[bad]}, design).own[bad].gram
    return {
        "rounds": rounds,
        "liar": bad,
        "sites": list(fleet),
        "training": table,
        "sums": {lie: impossible(made(gram), design) for lie, made in SUMS.items()},
        **made_with(),
    }


def honest_lengths(data: Path, rounds: int) -> dict[str, float]:
    """By fleet, the length of its longest update in units of the typical one, over all rounds."""
    from models.architectures import AutoencoderSpec, TcnSpec
    from pipeline.federation import runtime
    from pipeline.federation.screening import typical_lengths
    from pipeline.federation.settings import TrainingSettings
    from pipeline.federation.training import train

    eight = dict(sorted(smd(data).items())[:SITES])
    sizes = {site: machine.latest(200 * 2**place) for place, (site, machine) in enumerate(eight.items())}
    plain = {"client_optimizer": "sgd", "client_learning_rate": 0.05}
    fleets: dict[str, tuple[dict[str, Machine], int, dict[str, Any]]] = {
        "8 machines of SMD": (eight, STRIDE, {}),
        "5 epochs a round": (eight, STRIDE, {"local_epochs": 5}),
        "every frame": (eight, 1, {"max_steps": 400}),
        "plain gradient steps": (eight, STRIDE, plain),
        "from 200 rows to 25,600": (sizes, STRIDE, {}),
        "the same, plain gradient steps": (sizes, STRIDE, plain),
        "3 of these sizes": ({site: sizes[site] for site in list(sizes)[::3]}, STRIDE, {}),
        "every other without a quarter of its sensors": (lacking(eight), STRIDE, {}),
        "16 engines of C-MAPSS": (dict(list(cmapss(data).items())[:16]), 1, {}),
        "16 engines of C-MAPSS, plain gradient steps": (dict(list(cmapss(data).items())[:16]), 1, plain),
    }
    found = {}
    for name, (fleet, stride, settings) in fleets.items():
        for network in (TcnSpec(), AutoencoderSpec()):
            lengths: list[float] = []

            def note(
                norms: dict[str, float], steps: dict[str, int], lengths: list[float] = lengths
            ) -> dict[str, float]:
                lengths += [norms[site] / usual for site, usual in typical_lengths(norms, steps).items()]
                return {}

            sensors = next(iter(fleet.values())).train.shape[1]
            with tempfile.TemporaryDirectory() as folder, mock.patch.object(runtime, "too_long", note):
                train(
                    write_fleet(Path(folder), fleet, FRAME),
                    network,
                    TrainingSettings(rounds=rounds, patience=rounds, stride=stride, **settings),
                    steps=FRAME,
                    sensors=sensors,
                    workdir=Path(folder) / "w",
                )
            label = f"{name}, {type(network).__name__.removesuffix('Spec').lower()}"
            found[label] = round(max(lengths), 2)
            print(f"{label}: {found[label]}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--lengths", action="store_true", help="only how long honest updates are")
    asked = parser.parse_args()
    began = time.perf_counter()
    lengths = honest_lengths(asked.data, asked.rounds)
    found = {} if asked.lengths else measure(asked.data, asked.rounds)
    found["honest_lengths"] = lengths
    found["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
