"""One federated round over shard paths beside the same arithmetic in plain PyTorch on one thread, in the same run.

`python benchmarks/round.py --json [--repeats N]` prints one object. Autoencoder 512-128-32-128-512, 8 sites of 2,000
frames, batches of 64, a fresh Adam for each site. PyTorch lives in an environment of its own, made with uv when missing.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import platformdirs

SITES, FRAMES, BATCH, STEPS, SENSORS, WIDTHS = 8, 2_000, 64, 16, 32, (128, 32)


def torch_python() -> Path:
    """Give the interpreter of PyTorch's own environment; made at the first call."""
    folder = Path(platformdirs.user_cache_dir("fedplant")) / "benchmarks" / "torch"
    python = folder / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
        subprocess.run(["uv", "venv", "--clear", "--python", sys.executable, str(folder)], check=True)
        subprocess.run(["uv", "pip", "install", "--python", str(python), "torch", "numpy<2.4"], check=True)
    return python


def site_rows(site: int) -> np.ndarray:
    """Rows `float32[2015, 32]` of a site: random walks, scaled; they give 2,000 frames."""
    walk = np.cumsum(np.random.default_rng(site).normal(size=(FRAMES + STEPS - 1, SENSORS)), axis=0)
    return ((walk - walk.mean(0)) / walk.std(0)).astype(np.float32)


def measure(repeats: int) -> dict[str, object]:
    """Alternate rounds of both and compare medians; a first round of each, in time order, compares the results."""
    import tensorflow as tf
    import tensorflow_federated as tff

    from models.architectures import AutoencoderSpec
    from pipeline.datasets.frames import shard_spec
    from pipeline.datasets.shards import write_shard
    from pipeline.federation.compiled import compiled
    from pipeline.federation.settings import TrainingSettings

    settings = TrainingSettings(batch=BATCH, client_learning_rate=1e-3)
    spec = AutoencoderSpec(widths=WIDTHS)
    with (
        tempfile.TemporaryDirectory() as name,
        compiled(spec, settings, steps=STEPS, sensors=SENSORS, max_steps=None, population=SITES) as (
            runtime,
            leaves,
        ),
    ):
        rows = [site_rows(site) for site in range(SITES)]
        paths = {f"site-{site}": str(Path(name) / f"{site}.tfrecord") for site in range(SITES)}
        for path, values in zip(paths.values(), rows, strict=True):
            write_shard(Path(path), [values])
        state = runtime.initialize()
        handed = Path(name) / "handed.npz"
        weights = {f"w{index}": state[index] for index in range(leaves)}
        np.savez(handed, rows=np.stack(rows), steps=STEPS, **weights)
        peer = subprocess.Popen(
            [torch_python(), Path(__file__).with_name("round_torch.py"), handed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert peer.stdin is not None and peer.stdout is not None
        torch_version = json.loads(peer.stdout.readline())["torch"]

        def ask(order: str) -> dict[str, float]:
            print(order, file=peer.stdin, flush=True)
            return json.loads(peer.stdout.readline())

        ours_ordered, theirs_ordered = runtime.round(state, paths), ask("ordered")
        ours, theirs, clock = [], [], 0.0
        for number in range(repeats + 1):
            specs = {s: shard_spec(path, seed=1, round_number=number) for s, path in paths.items()}
            clock = time.perf_counter()
            outcome = runtime.round(state, specs)
            ours.append(time.perf_counter() - clock)
            theirs.append(ask("shuffled")["seconds"])
            assert outcome.frames == SITES * FRAMES and not outcome.failed
        peer.stdin.close()
        peer.wait()
    # The first of each warms up.
    mine, other = statistics.median(ours[1:]), statistics.median(theirs[1:])
    return {
        "ratio_to_torch": round(mine / other, 3),
        "round_seconds": round(mine, 3),
        "torch_round_seconds": round(other, 3),
        "all_round_seconds": [round(value, 3) for value in ours[1:]],
        "all_torch_round_seconds": [round(value, 3) for value in theirs[1:]],
        "ordered_loss": ours_ordered.loss,
        "torch_ordered_loss": theirs_ordered["loss"],
        "sites": SITES,
        "frames_per_site": FRAMES,
        "batch": BATCH,
        "layers": [STEPS * SENSORS, *WIDTHS, *reversed(WIDTHS[:-1]), STEPS * SENSORS],
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "tensorflow_federated": tff.__version__,
            "torch": torch_version,
        },
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    print(json.dumps(measure(args.repeats), indent=None if args.json else 2))


if __name__ == "__main__":
    main()
