"""Time and memory of `fedplant demo`, packages and jars already there.

    python benchmarks/demo.py [--json] [--dir DIR]

Memory is the largest sum, over all processes of the demo (Python, the broker's JVM, its guard), of their proportional set
sizes, sampled every half second. Bars: 180 s and 2,000 MB on two cores.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

# Before this folder, whose `ingestion.py` would hide the room of that name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.command import command_line
from benchmarks.provenance import made_with

SECONDS_BAR, MEMORY_BAR_MB = 180.0, 2000.0


def tree_memory(root: psutil.Process) -> int:
    """Bytes of all processes below and including `root`, shared pages counted once."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total


def measure(folder: Path) -> dict[str, Any]:
    """Run the demo once and give its figures."""
    command = [str(Path(sys.executable).parent / "fedplant"), "demo", "--dir", str(folder), "--json"]
    started = time.monotonic()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=sys.stderr)
        watched = psutil.Process(process.pid)
        peak = 0
        while process.poll() is None:
            peak = max(peak, tree_memory(watched))
            time.sleep(0.5)
        seconds = time.monotonic() - started
        out.seek(0)
        result = json.loads(out.read())
    if process.returncode != 0:
        raise SystemExit(f"the demo failed: {result}")
    mean = result["evaluation"]["mean"]
    return {
        "seconds": round(seconds, 1),
        "seconds_bar": SECONDS_BAR,
        "peak_memory_mb": round(peak / 1e6),
        "memory_bar_mb": MEMORY_BAR_MB,
        "steps": result["run"]["seconds"],
        "scoring_seconds": result["scoring"]["seconds"],
        "auc_pr": {mode: figures["auc_pr"] for mode, figures in mean.items()},
        **made_with(),
    }


def main() -> None:
    """Command line."""
    parser = command_line(__doc__)
    parser.add_argument("--dir", type=Path, help="where the demo keeps what it makes; default: discarded")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedplant-demo-") as temporary:
        figures = measure(asked.dir or Path(temporary) / "demo")
    if asked.json:
        print(json.dumps(figures, indent=1))
        return
    print(
        f"demo: {figures['seconds']} s (bar {SECONDS_BAR:.0f}), {figures['peak_memory_mb']} MB (bar {MEMORY_BAR_MB:.0f})"
    )


if __name__ == "__main__":
    main()
