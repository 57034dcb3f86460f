"""The short version of `benchmarks/simulation.py`."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_rounds_of_changing_sites_take_no_more_and_more_memory():
    """In a process of its own. TFF's native runtime kept .8 MiB a round of another number of sites."""
    called = [sys.executable, "benchmarks/simulation.py", "--rounds", "80", "--sites", "40", "--json"]
    done = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["memory_mib_largest_after"] - found["memory_mib_at_round_50"] < 8.0, found
