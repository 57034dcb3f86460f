"""Federated rounds of the TCN on SMD-19 beside the same number of the same steps in one plain TensorFlow training loop.

    python benchmarks/rounds_tcn.py --data DIR [--rounds 20] [--json]

`--data` is the folder with the raw sets (`smd19/*.npz`). A round is one epoch of every machine; the plain loop makes as many steps on as
many frames of all machines pooled, with Keras's Adam in a `tf.function`, frames cut beforehand. Rounds alternate. Bar: 1.25.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.command import command_line

STEPS, STRIDE, BATCH, BAR = 64, 32, 32, 1.25


def machines(folder: Path) -> dict[str, np.ndarray]:
    """Scaled training rows `float32[N, 38]` of each machine."""
    from models.scaling import moments

    found = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            rows = file["train"]
        found[path.stem] = moments([rows], rows.shape[1]).scaling().apply(rows)
    return found


def measure(data: Path, rounds: int) -> dict[str, Any]:
    """Alternate a federated round and a pass of the plain loop."""
    import tensorflow as tf

    from benchmarks.provenance import made_with
    from models.architectures import TcnSpec, build, loss_fn
    from pipeline.datasets.frames import shard_spec
    from pipeline.datasets.shards import write_shard
    from pipeline.federation.compiled import compiled
    from pipeline.federation.process import ProcessSpec
    from pipeline.federation.settings import TrainingSettings

    rows = machines(data / "smd19")
    sensors = next(iter(rows.values())).shape[1]
    settings = TrainingSettings(batch=BATCH, stride=STRIDE)
    frames = np.concatenate(
        [
            np.lib.stride_tricks.sliding_window_view(each, STEPS, axis=0).transpose(0, 2, 1)[::STRIDE]
            for each in rows.values()
        ]
    )
    ours, plain, losses = [], [], []
    with (
        tempfile.TemporaryDirectory() as name,
        compiled(TcnSpec(), ProcessSpec(settings, STEPS, sensors, population=len(rows))) as (
            runtime,
            _,
        ),
    ):
        # After the process: its layers, made in another graph, would invalidate this model.
        model = build(TcnSpec(), STEPS, sensors, 1)
        adam = tf.keras.optimizers.Adam(1e-3)

        @tf.function(input_signature=[tf.TensorSpec([None, STEPS, sensors], tf.float32)])
        def step(batch: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = loss_fn(batch, model(batch, training=True))
            adam.apply_gradients(
                zip(tape.gradient(loss, model.trainable_weights), model.trainable_weights, strict=True)
            )
            return loss

        paths = {site: str(Path(name) / site) for site in rows}
        for site, path in paths.items():
            write_shard(Path(path), [rows[site]])
        state = runtime.initialize()
        number_of_frames = 0
        for number in range(1, rounds + 1):
            specs = {site: shard_spec(path, seed=1, round_number=number) for site, path in paths.items()}
            began = time.perf_counter()
            outcome = runtime.round(state, specs)
            ours.append(time.perf_counter() - began)
            state, number_of_frames = outcome.state, outcome.frames
            # As many steps: every site's last batch is a short one.
            order = np.random.default_rng(number).permutation(len(frames))
            steps = sum(-(-((len(each) - STEPS) // STRIDE + 1) // BATCH) for each in rows.values())
            began = time.perf_counter()
            for chosen in np.array_split(order, steps):
                loss = step(tf.constant(frames[chosen]))
            float(loss)
            plain.append(time.perf_counter() - began)
            losses.append(outcome.loss)
            print(f"round {number} ours {ours[-1]:.2f} s plain {plain[-1]:.2f} s", file=sys.stderr)
    # The first of each also builds its graph.
    mine, other = (statistics.median(times[1:] or times) for times in (ours, plain))
    return {
        "ratio_to_plain_loop": round(mine / other, 3),
        "bar": BAR,
        "round_seconds": round(mine, 3),
        "plain_seconds": round(other, 3),
        "all_rounds_seconds": round(sum(ours), 1),
        "all_plain_seconds": round(sum(plain), 1),
        "rounds": rounds,
        "frames_a_round": number_of_frames,
        "plain_frames": len(frames),
        "loss": [round(value, 4) for value in losses],
        **made_with(),
    }


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.data, asked.rounds), indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
