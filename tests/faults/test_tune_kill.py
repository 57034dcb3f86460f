"""A search for settings that is killed in the middle goes on where it was and finds what an undisturbed one finds."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.cli.main import run
from tests.pipeline.plants import plant, write_plants

ROOT = Path(__file__).parents[2]


SETTINGS = """
[[sites]]
name = "east"
[[sites]]
name = "west"
[model]
steps = 40
architecture = "autoencoder"
hidden = [16, 4]
[training]
rounds = 8
patience = 8
local_steps = 2
batch = 16
"""
"""Only the first trials train a network, since other sources find more of the injected faults; in many rounds, to be killed in their middle."""


PROGRAM = """
import os, signal, sys, threading
import pipeline.jobs.tune
from pipeline.cli.main import run
from pipeline.federation.checkpoints import CheckpointStore

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def saved(store, checkpoint, save=CheckpointStore.save):
    save(store, checkpoint)
    if checkpoint.round == 3:
        killed()

def tried(config, choice, prepared, folder, on_round, run_trial=pipeline.jobs.tune.run_trial):
    if len(list((folder / "trials").glob("*.json"))) >= 2:
        threading.Timer(0.02, killed).start()
    return run_trial(config, choice, prepared, folder, on_round)

if sys.argv[1] == "amid a training":
    CheckpointStore.save = saved
else:
    pipeline.jobs.tune.run_trial = tried
sys.exit(run(sys.argv[2:]))
"""
"""Of the search as a process that is killed by itself: from outside a fast one cannot be hit in its middle."""


def arguments(folder: Path, data: Path) -> list[str]:
    """`fedplant tune` on a configuration in `folder`."""
    folder.mkdir(exist_ok=True)
    config = folder / "fedplant.toml"
    config.write_text(SETTINGS)
    return ["tune", str(config), "--data", str(data), "--by", "injected", "--json"]


def kill(folder: Path, data: Path, when: str) -> None:
    """The search as a process of its own, until it is killed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, when, *arguments(folder, data)],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def finished(folder: Path) -> dict[str, int]:
    """Trials on disk by name, with the time they were written."""
    return {
        path.name: path.stat().st_mtime_ns for path in folder.glob("fedplant-data/tuning/*/trials/*.json")
    }


def test_a_killed_search_repeats_no_finished_trial_and_ends_as_an_undisturbed_one(tmp_path, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1, 1500, False), "west": plant(2, 1500, False)})
    killed = tmp_path / "killed"
    kept: dict[str, int] = {}
    # In the middle of the first training, and when trials are on disk and the next one has begun.
    for when in ("amid a training", "amid a trial"):
        kill(killed, data, when)
        now = finished(killed)
        assert len(now) >= 2 if when == "amid a trial" else list(killed.glob("**/round-000003.ckpt"))
        assert kept.items() <= now.items()
        kept = now
    assert run(arguments(killed, data)) == 0
    ended = json.loads(capsys.readouterr().out)
    assert kept.items() <= finished(killed).items()
    assert run(arguments(tmp_path / "whole", data)) == 0
    whole = json.loads(capsys.readouterr().out)

    def measured(found: dict) -> list:
        return [(t["changes"], t["validation"], t["injected"], t["rounds"]) for t in found["trials"]]

    assert ended["finished"] and len(ended["trials"]) > len(kept) >= 2
    assert ended["trials"][0]["rounds"] == 8
    assert measured(ended) == measured(whole) and ended["best"]["changes"] == whole["best"]["changes"]
