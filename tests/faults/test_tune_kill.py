"""A search for settings that is killed in the middle goes on where it was and finds what an undisturbed one finds."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.pipeline.plants import SETTINGS, plant, write_plants

ROOT = Path(__file__).parents[2]


def start(folder: Path, data: Path) -> subprocess.Popen:
    """`fedplant tune` as a process of its own on a configuration in `folder`."""
    folder.mkdir(exist_ok=True)
    config = folder / "fedplant.toml"
    # Constant settings leave few trials; many rounds give time to kill in the middle of one.
    settings = SETTINGS.replace("rounds = 3", "rounds = 8\npatience = 8\nlocal_steps = 2")
    settings = settings.replace('train_until = "2026-03-01T10:00:00Z"', "")
    config.write_text('[[sites]]\nname = "east"\n[[sites]]\nname = "west"\n' + settings)
    program = "import sys; from pipeline.cli.main import run; sys.exit(run(sys.argv[1:]))"
    arguments = ["tune", str(config), "--data", str(data), "--json", "--by", "injected"]
    command = [sys.executable, "-c", program, *arguments]
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


def result(process: subprocess.Popen) -> dict:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    return json.loads(out)


def test_a_killed_search_repeats_no_finished_trial_and_ends_as_an_undisturbed_one(tmp_path):
    data = write_plants(tmp_path / "data", {"east": plant(1, 1500, False), "west": plant(2, 1500, False)})
    killed = tmp_path / "killed"
    kept: dict[str, int] = {}
    when: list[int] = []
    for more in (1, 2):
        process = start(killed, data)
        until = time.monotonic() + 300
        # Killed as soon as further trials are on disk and the next one has begun.
        while len(finished(killed)) < len(kept) + more:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        now = finished(killed)
        assert kept.items() <= now.items()
        kept = now
        when.append(len(kept))
    ended = result(start(killed, data))
    assert kept.items() <= finished(killed).items()
    whole = result(start(tmp_path / "whole", data))

    def measured(found: dict) -> list:
        return [(t["changes"], t["validation"], t["injected"], t["rounds"]) for t in found["trials"]]

    # The last trials train nothing and may all be there before the second kill comes.
    assert ended["finished"] and len(ended["trials"]) > when[0]
    assert measured(ended) == measured(whole) and ended["best"]["changes"] == whole["best"]["changes"]
