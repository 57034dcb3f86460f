"""One federated round over shard paths beside plain PyTorch on one thread, pfl and Flower, in the same run.

`python benchmarks/round.py --json [--repeats N] [--only-torch]` prints one object. Autoencoder 512-128-32-128-512, 8 sites of 2,000
frames, batches of 64, a fresh Adam for each site. pfl 0.6.0 and Flower 1.38 do the same rounds in their simulations. Each peer lives
in an environment of its own, made with uv when missing.
"""

import argparse
import json
import os
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


PEERS = {"torch": ["torch"], "pfl": ["pfl[pytorch]==0.6.0"], "flower": ["flwr[simulation]==1.38.0", "torch"]}
"""What each peer's environment holds."""


def peer_python(name: str) -> Path:
    """Give the interpreter of a peer's own environment; made at the first call."""
    folder = Path(platformdirs.user_cache_dir("fedplant")) / "benchmarks" / name
    python = folder / "bin" / "python"
    module = {"torch": "torch", "pfl": "pfl", "flower": "flwr"}[name]
    if (
        not python.exists()
        or subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode
    ):
        folder.parent.mkdir(parents=True, exist_ok=True)
        numpy = "numpy<2" if name == "pfl" else "numpy<2.4"
        make = ["uv", "venv", "-q", "--clear", "--python", sys.executable, str(folder)]
        fill = ["uv", "pip", "install", "-q", "--python", str(python), *PEERS[name], numpy]
        for command in (make, fill):
            # Outside of this project, whose pins are not the peer's.
            subprocess.run(command, check=True, cwd=folder.parent)
    return python


def framework_rounds(name: str, handed: Path, rounds: int) -> list[float]:
    """Seconds of each round in a framework's own simulation; the first, in which it starts, is left out."""
    script = Path(__file__).with_name(f"round_{name}.py")
    found = subprocess.run(
        [peer_python(name), script, handed, str(rounds + 1)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return json.loads(found.stdout.splitlines()[-1])["seconds"][1:]


def site_rows(site: int) -> np.ndarray:
    """Rows `float32[2015, 32]` of a site: random walks, scaled; they give 2,000 frames."""
    walk = np.cumsum(np.random.default_rng(site).normal(size=(FRAMES + STEPS - 1, SENSORS)), axis=0)
    return ((walk - walk.mean(0)) / walk.std(0)).astype(np.float32)


def measure(repeats: int, frameworks: list[str]) -> dict[str, object]:
    """Alternate rounds of ours and PyTorch's and compare medians; a first round of each, in time order, compares the results.

    The frameworks drive their rounds themselves and come after.
    """
    from benchmarks.provenance import made_with
    from models.architectures import AutoencoderSpec
    from pipeline.datasets.frames import shard_spec
    from pipeline.datasets.shards import write_shard
    from pipeline.federation.compiled import compiled
    from pipeline.federation.process import ProcessSpec
    from pipeline.federation.settings import TrainingSettings

    settings = TrainingSettings(batch=BATCH, client_learning_rate=1e-3)
    spec = AutoencoderSpec(widths=WIDTHS)
    with (
        tempfile.TemporaryDirectory() as name,
        compiled(spec, ProcessSpec(settings, STEPS, SENSORS, population=SITES)) as (
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
            [peer_python("torch"), Path(__file__).with_name("round_torch.py"), handed],
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
        peers = {name: framework_rounds(name, handed, repeats) for name in frameworks}
    # The first of each warms up.
    mine, other = statistics.median(ours[1:]), statistics.median(theirs[1:])
    return {
        "ratio_to_torch": round(mine / other, 3),
        **{f"ratio_to_{name}": round(mine / statistics.median(times), 3) for name, times in peers.items()},
        "round_seconds": round(mine, 3),
        "torch_round_seconds": round(other, 3),
        "all_round_seconds": [round(value, 3) for value in ours[1:]],
        "all_torch_round_seconds": [round(value, 3) for value in theirs[1:]],
        "framework_round_seconds": {name: [round(t, 3) for t in times] for name, times in peers.items()},
        "ordered_loss": ours_ordered.loss,
        "torch_ordered_loss": theirs_ordered["loss"],
        "sites": SITES,
        "frames_per_site": FRAMES,
        "batch": BATCH,
        "layers": [STEPS * SENSORS, *WIDTHS, *reversed(WIDTHS[:-1]), STEPS * SENSORS],
        **made_with(beside={"torch": torch_version}),
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only-torch", action="store_true", help="leave pfl and Flower out")
    args = parser.parse_args()
    frameworks = [] if args.only_torch else ["pfl", "flower"]
    print(json.dumps(measure(args.repeats, frameworks), indent=None if args.json else 2))


if __name__ == "__main__":
    main()
