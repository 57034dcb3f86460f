"""Memory and time with many sites: rounds with a number of sites that varies, and a fleet of a thousand.

    python benchmarks/simulation.py [--rounds 500] [--sites 1000] [--json]

First 500 rounds with 3 to 19 sites drawn anew each round: memory of the process after round 50, bar 5 % of growth. Then 1,000 sites of
which 100 take part in a round, and rounds of 25, 50, 100 and 200 sites: seconds a site, which a linear runtime keeps the same.
"""

from __future__ import annotations

import gc
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
import psutil

from benchmarks.command import command_line

STEPS, SENSORS, ROWS, SETTLED = 16, 8, 400, 50
COHORTS = (25, 50, 100, 200)


def memory() -> float:
    """Resident memory of this process in MiB."""
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


def measure(rounds: int, sites: int) -> dict[str, Any]:
    """Both simulations with one runtime."""
    from benchmarks.provenance import made_with
    from models.architectures import AutoencoderSpec
    from pipeline.datasets.frames import shard_spec
    from pipeline.datasets.shards import write_shard
    from pipeline.federation.compiled import compiled
    from pipeline.federation.process import ProcessSpec
    from pipeline.federation.settings import TrainingSettings

    settings = TrainingSettings(batch=32, stride=4)
    with (
        tempfile.TemporaryDirectory() as name,
        compiled(
            AutoencoderSpec(widths=(64, 16)), ProcessSpec(settings, STEPS, SENSORS, population=sites)
        ) as (runtime, _),
    ):
        paths = []
        for site in range(sites):
            random = np.random.default_rng(site)
            rows = np.sin(np.arange(ROWS)[:, None] / 9 + random.normal(size=SENSORS))
            rows += 0.1 * random.normal(size=rows.shape)
            paths.append(str(Path(name) / f"{site}.tfrecord"))
            write_shard(Path(paths[-1]), [rows.astype(np.float32)])
        random = np.random.default_rng(0)

        def play(state: Any, number: int, count: int) -> tuple[Any, float]:
            chosen = random.choice(sites, count, replace=False)
            specs = {str(site): shard_spec(paths[site], seed=1, round_number=number) for site in chosen}
            began = time.perf_counter()
            outcome = runtime.round(state, specs)
            assert not outcome.failed
            return outcome.state, time.perf_counter() - began

        state, varied = runtime.initialize(), []
        # Collecting would else walk through all of TensorFlow each round.
        gc.collect()
        gc.freeze()
        for number in range(1, rounds + 1):
            state, _ = play(state, number, int(random.integers(3, 20)))
            varied.append(memory())
        settled = varied[min(SETTLED, rounds) - 1]
        cohorts: dict[int, list[float]] = {count: [] for count in COHORTS if count <= sites}
        many = []
        for number in range(5):
            for count, times in cohorts.items():
                state, seconds = play(state, number, count)
                times.append(seconds)
            many.append(memory())
    each = {str(count): statistics.median(times) / count * 1e3 for count, times in cohorts.items()}
    return {
        "varied_rounds": rounds,
        "memory_mib_at_round_50": round(settled, 1),
        "memory_mib_largest_after": round(max(varied[SETTLED - 1 :] or varied), 1),
        "memory_mib_at_end": round(varied[-1], 1),
        "memory_growth": round(max(varied[SETTLED - 1 :] or varied) / settled - 1, 4),
        "memory_growth_bar": 0.05,
        "sites": sites,
        "milliseconds_a_site_by_sites_in_a_round": {count: round(value, 2) for count, value in each.items()},
        "seconds_a_round_of_100": round(each["100"] / 10, 3) if "100" in each else None,
        "memory_mib_with_all_sites": [round(value, 1) for value in many],
        **made_with(),
    }


def main() -> None:
    """Command line."""
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--sites", type=int, default=1000)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.rounds, asked.sites), indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
