"""Scoring a long recording in one call on one core: microseconds a sample, beside the plain products it cannot do without.

    python benchmarks/scoring_speed.py [--json] [--sensors 38] [--rows 40960]

Random recordings: speed does not depend on the values. `linear` is the default without the network, `network` all sources with the
default forecaster. `products` is the time numpy takes for the matrix products alone that these sources ask for (two ridges, one
projection, the convolutions), and `peer` what the ridge recipe in plain numpy (`benchmarks/linear_recipe.py`: two ridges and their gains,
no components, excursions, regimes, baselines or contributions) takes for the same rows, on the same core in the same run. Bars at 38
sensors: 5 us linear, 20 us with the network.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.command import command_line
from benchmarks.linear_recipe import fit_ridges

BARS = {"linear": 5.0, "network": 20.0}
_TRAINING = 6000
_REPEATS = 7


def quickest(work: Callable[[], object], rows: int) -> float:
    """Least processor time of a few calls, in microseconds a row; one call before them warms up."""
    work()
    found = []
    for _ in range(_REPEATS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found) / rows * 1e6


def products(sensors: int, rows: int, channels: int, kernel: int, layers: int) -> dict[str, float]:
    """Microseconds a row of the products alone, float32, a chunk at a time as the graph does it."""
    from models.sources.ridge import LAGS
    from models.stream import CHUNK

    random = np.random.default_rng(1)

    def of(shapes: list[tuple[int, int]]) -> float:
        pairs = [
            (
                random.normal(size=(CHUNK, inner)).astype(np.float32),
                random.normal(size=(inner, outer)).astype(np.float32),
            )
            for inner, outer in shapes
        ]
        return quickest(lambda: [left @ right for _ in range(rows // CHUNK) for left, right in pairs], rows)

    linear = [((LAGS + 1) * sensors, sensors)] * 2 + [(sensors, sensors)]
    convolutions = [(kernel * sensors, channels)] + [(kernel * channels, channels)] * (layers - 1)
    return {"linear": of(linear), "network": of([*linear, *convolutions, (channels, sensors)])}


def measure(sensors: int, rows: int) -> dict[str, Any]:
    """Figures of both kinds of detector."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from benchmarks.provenance import made_with
    from models.architectures import TcnSpec, build
    from models.fitting import fit_detector
    from models.options import USUAL, DetectorOptions
    from models.scaling import moments

    random = np.random.default_rng(0)
    train = random.normal(size=(_TRAINING, sensors))
    values = random.normal(size=(rows, sensors)).astype(np.float32)
    spec, names = TcnSpec(), [f"s{i}" for i in range(sensors)]
    weights = build(spec, 64, sensors, seed=1).get_weights()
    scaling = {"a": moments([train], sensors).scaling()}
    score_plainly, _ = fit_ridges(train)
    rows_of_peer = values.astype(np.float64)
    peer = quickest(lambda: score_plainly(rows_of_peer, True), rows)
    least = products(sensors, rows, spec.channels, spec.kernel, len(spec.dilations))
    found: dict[str, Any] = {}
    for kind in BARS:
        sources = tuple(name for name in USUAL if name != "network" or kind == "network")
        options = DetectorOptions(sources=sources)
        detector = fit_detector(spec, weights, names, 60.0, 64, scaling, {"a": [train]}, options)
        found[kind] = {
            "microseconds": round(quickest(lambda: detector.score("a", values), rows), 2),  # noqa: B023
            "products": round(least[kind], 2),
            "bar": BARS[kind],
        }
    return {
        "scoring": found,
        "peer": round(peer, 2),
        "sensors": sensors,
        "rows": rows,
        **made_with(),
    }


def main() -> None:
    """Command line."""
    parser = command_line(__doc__)
    parser.add_argument("--sensors", type=int, default=38)
    parser.add_argument("--rows", type=int, default=40_960)
    asked = parser.parse_args()
    figures = measure(asked.sensors, asked.rows)
    if asked.json:
        print(json.dumps(figures, indent=1))
        return
    for kind, each in figures["scoring"].items():
        print(
            f"{kind:8} {each['microseconds']:6.2f} us a sample, bar {each['bar']:g}, products alone {each['products']:.2f}"
        )
    print(f"{'peer':8} {figures['peer']:6.2f} us a sample")


if __name__ == "__main__":
    main()
