"""Training that is killed: the result is the same, and no worker stays behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil

from pipeline.federation.training import train
from tests.pipeline.test_training import SENSORS, SPEC, STEPS, make_shards
from tests.waiting import alive, wait_for

PROGRAM = """
import sys
from pathlib import Path
from pipeline.federation.settings import TrainingSettings
from pipeline.federation.training import train
from tests.pipeline.test_training import SENSORS, SPEC, STEPS, make_shards

folder = Path(sys.argv[1])
shards = make_shards(folder)
train(shards, SPEC, TrainingSettings(rounds=400, patience=400, runtime=sys.argv[2]), steps=STEPS, sensors=SENSORS,
      workdir=folder / "killed", on_round=lambda r: print(r.round, flush=True))
"""


def start_and_kill(folder: Path, runtime: str) -> tuple[int, list[psutil.Process], list[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), runtime],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )
    assert process.stdout is not None
    last = 0
    for line in process.stdout:
        last = int(line)
        if last >= 2:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    commands = [" ".join(child.cmdline()) for child in children]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return last, children, commands


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    from pipeline.federation.settings import TrainingSettings

    last, _, _ = start_and_kill(tmp_path, "in-process")
    assert last == 2
    checkpoints = sorted((tmp_path / "killed").glob("round-*.ckpt"))
    finished = int(checkpoints[-1].stem.split("-")[1])
    settings = TrainingSettings(rounds=finished + 2, patience=400)
    shards = make_shards(tmp_path)
    resumed, fresh = (
        train(shards, SPEC, settings, steps=STEPS, sensors=SENSORS, workdir=tmp_path / name)
        for name in ("killed", "whole")
    )
    assert [r.validation for r in resumed.curve] == [r.validation for r in fresh.curve]
    for one, two in zip(resumed.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_worker_of_a_killed_command_ends(tmp_path: Path) -> None:
    _, children, commands = start_and_kill(tmp_path, "native")
    assert any("worker_binary" in command for command in commands)
    wait_for(lambda: not alive(children))
