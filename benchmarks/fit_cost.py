"""What fitting linear sources costs by how many sensors a site has: processor seconds and memory, each size in a process of its own.

    python benchmarks/fit_cost.py [--sensors 100 250 500 1000] [--sites 2] [--rows 4000] [--json]

Made sites whose sensors follow eight drivers; the default without the network, one thread. The ridges solve for four columns a sensor, so
that beyond some hundred sensors the seconds grow with their cube and the memory with their square; `fedplant run` says so before it begins
(`pipeline/learning/cost.py`).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.signal import lfilter

from benchmarks.command import command_line
from benchmarks.detection_recipes import LINEAR

_DRIVERS, _MEMORY = 8, 0.9


def site(seed: int, sensors: int, rows: int) -> np.ndarray:
    """Readings float32[rows, sensors] of slow drivers, mixed, with noise of the same size."""
    random = np.random.default_rng(seed)
    drivers = lfilter([1.0], [1.0, -_MEMORY], random.normal(size=(rows, _DRIVERS)), axis=0)
    mixed = drivers @ random.normal(size=(_DRIVERS, sensors))
    return np.asarray(mixed + random.normal(size=mixed.shape), np.float32)


def one_size(sensors: int, sites: int, rows: int) -> dict[str, float]:
    """Processor seconds of a fit, and the memory in MiB that the process grew by."""
    from models.fitting import fit_detector
    from models.options import DetectorOptions
    from models.scaling import moments

    def fit(sensors: int, rows: int) -> None:
        runs = {f"site{seed}": [site(seed, sensors, rows)] for seed in range(sites)}
        scaling = {name: moments(of, sensors).scaling() for name, of in runs.items()}
        options, names = DetectorOptions(sources=LINEAR), [f"s{at}" for at in range(sensors)]
        fit_detector(None, None, names, 60.0, 32, scaling, runs, options)  # type: ignore[arg-type]

    fit(4, 400)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    fit(sensors, rows)
    return {
        "seconds": round(time.process_time() - began, 1),
        "memory_mib": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024),
    }


def measure(sizes: list[int], sites: int, rows: int) -> dict[str, Any]:
    """Figures of each size."""
    from benchmarks.provenance import made_with

    found = {}
    for sensors in sizes:
        asked = ["--one", "--sensors", str(sensors), "--sites", str(sites), "--rows", str(rows)]
        ran = subprocess.run([sys.executable, __file__, *asked], capture_output=True, text=True, check=True)
        found[str(sensors)] = json.loads(ran.stdout.splitlines()[-1])
    return {"sensors": found, "sites": sites, "rows": rows, **made_with()}


def main() -> None:
    """Command line."""
    parser = command_line(__doc__)
    parser.add_argument("--sensors", type=int, nargs="+", default=[100, 250, 500, 1000])
    parser.add_argument("--sites", type=int, default=2)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--one", action="store_true", help="the first size, in this process")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one_size(asked.sensors[0], asked.sites, asked.rows)))
        return
    figures = measure(asked.sensors, asked.sites, asked.rows)
    if asked.json:
        print(json.dumps(figures, indent=1))
        return
    for sensors, each in figures["sensors"].items():
        print(f"{sensors:>6} sensors {each['seconds']:8.1f} s of one core {each['memory_mib']:6.0f} MiB")


if __name__ == "__main__":
    main()
