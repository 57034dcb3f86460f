"""A search for settings that is killed in the middle goes on where it was and finds what an undisturbed one finds."""

import json
import os
import signal
import subprocess
import sys
import time
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


def arguments(folder: Path, data: Path) -> list[str]:
    """`fedplant tune` on a configuration in `folder`."""
    folder.mkdir(exist_ok=True)
    config = folder / "fedplant.toml"
    config.write_text(SETTINGS)
    return ["tune", str(config), "--data", str(data), "--by", "injected", "--json"]


def start(folder: Path, data: Path) -> subprocess.Popen:
    """The search as a process of its own."""
    program = "import sys; from pipeline.cli.main import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *arguments(folder, data)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )


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
    for far_enough in (lambda: list(killed.glob("**/round-000003.ckpt")), lambda: len(finished(killed)) >= 2):
        process = start(killed, data)
        until = time.monotonic() + 300
        while not far_enough():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        now = finished(killed)
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
