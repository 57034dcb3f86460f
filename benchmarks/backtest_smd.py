"""`fedplant backtest` on all machines of SMD-19 with one configuration: federated, centralised and local beside the baselines.

    python benchmarks/backtest_smd.py --data DIR [--json] [--mode MODE ...]

`--data` is the folder with the raw sets (`smd19/*.npz`); site files are made by `benchmarks/prepare_data.py`. Bars: mean
point-wise AUC-PR of the federated detector at least 0.55, and at least 98 % of the centralised one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.command import command_line
from benchmarks.provenance import made_with

AUC_PR_BAR, SHARE_BAR = 0.55, 0.98


def run(data: Path, modes: list[str]) -> dict[str, Any]:
    """Prepare the files, run the backtest, pick the figures."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="fedplant-smd-") as folder:
        made = subprocess.run(
            [
                sys.executable,
                str(here / "prepare_data.py"),
                "--data",
                str(data),
                "--out",
                folder,
                "--sets",
                "smd",
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        until = json.loads(made.stdout)["smd"]["train_until"]
        command = [
            str(Path(sys.executable).parent / "fedplant"),
            "backtest",
            "--json",
            "--train-until",
            until,
        ]
        command += [
            "--data",
            str(Path(folder) / "smd"),
            *(word for mode in modes for word in ("--mode", mode)),
        ]
        started = time.monotonic()
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.monotonic() - started
    result = json.loads(found.stdout)
    mean = {mode: figures["auc_pr"] for mode, figures in result["mean"].items()}
    share = mean["federated"] / mean["centralised"] if {"federated", "centralised"} <= set(mean) else None
    return {
        "auc_pr": mean,
        "auc_pr_bar": AUC_PR_BAR,
        "federated_share_of_centralised": share,
        "share_bar": SHARE_BAR,
        "seconds": round(seconds, 1),
        "mean": result["mean"],
        "sites": {site: {m: f["auc_pr"] for m, f in by.items()} for site, by in result["sites"].items()},
        "rounds": result["rounds"],
        **made_with(),
    }


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument("--mode", action="append", default=[], help="only these ways of training")
    asked = parser.parse_args()
    figures = run(asked.data, asked.mode)
    if asked.json:
        print(json.dumps(figures, indent=1))
        return
    for mode, value in figures["auc_pr"].items():
        print(f"{mode:12} AUC-PR {value:.3f}")
    print(f"federated / centralised {figures['federated_share_of_centralised']} in {figures['seconds']} s")


if __name__ == "__main__":
    main()
