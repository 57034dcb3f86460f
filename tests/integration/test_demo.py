"""The demo itself: the real command with all its processes, on the example's first machines cut short."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.waiting import HANGS, alive, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Two machines of the example: three days before the change of halves, three after."""
    folder = tmp_path_factory.mktemp("short")
    for site in ("machine-1-6", "machine-3-4"):
        frame = pd.read_parquet(ROOT / "examples" / "machines" / f"{site}.parquet")
        split = int(frame["label"].isna().sum()) if frame["label"].isna().any() else len(frame) // 2
        frame.iloc[split - 3000 : split + 3000].to_parquet(folder / f"{site}.parquet", index=False)
    return folder


@pytest.mark.timeout(1800)
def test_the_demo_shows_everything_once_and_leaves_no_process(short, tmp_path):
    command = [
        str(Path(sys.executable).parent / "fedplant"),
        "demo",
        "--data",
        str(short),
        "--json",
    ]
    with (tmp_path / "remarks").open("wb") as remarks:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=remarks, text=True)
        out = process.communicate()[0]
    said = (tmp_path / "remarks").read_text()
    assert process.returncode == 0, said
    found = json.loads(out)
    assert found["run"]["sites"] == ["machine-1-6", "machine-3-4"]
    assert found["run"]["rounds"]["federated"] >= 1
    assert sum(count["dead_lettered"] for count in found["run"]["ingestion"].values()) == 0
    assert found["scoring"]["scored"] > 5000
    assert list(found["evaluation"]["mean"]) == ["federated", "local", "centralised", "zscore", "pca"]
    assert (tmp_path / found["model"] / "saved_model.pb").exists()
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    subprocess.run([sys.executable, "-c", example.group(1)], cwd=tmp_path, check=True, capture_output=True)
    assert "machine-3-4" in (tmp_path / found["report"]).read_text()
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]
    wait_for(lambda: not alive(left))
    assert "Traceback" not in said and "WARNING" not in said


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    command = [str(Path(sys.executable).parent / "fedplant"), "demo", "--dir", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
    assert refused.returncode == 2
    assert "holds something that no demo made" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
