"""An interrupt that comes upon code that drops it, as Python does in a `__del__`: the command ends all the same."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.main import run
from tests.pipeline.plants import backtest_of, linear_config, plant, write_plants
from tests.waiting import HANGS, wait_for

# What runs in a shell's background is begun with SIGINT ignored, these tests too.
PROGRAM = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pipeline.cli.main import main
from pipeline.errors import NothingToDo
from pipeline.jobs.schedule import Job

def deaf():
    print("deaf", flush=True)
    time.sleep(200)

class Dropping:
    def __del__(self):
        deaf()

def work(job):
    with job.watch.step("training") as step:
        if os.environ["LOST"] == "dropped":
            Dropping()
            time.sleep(200)
        else:
            try:
                deaf()
            except KeyboardInterrupt:
                pass
            for done in range(2000):
                step.update(done, 2000)
                time.sleep(0.1)
    raise NothingToDo("it went on to its end")

Job.run = work
main()
"""


_MAIN = "from pipeline.cli.main import main; main()"


def interrupted(folder: Path, lost: str, number: signal.Signals, *options: str) -> tuple[int, str]:
    """Exit code and standard error of a `run` whose first signal is lost."""
    config = folder / "plant.toml"
    assert run(["init", str(config), "--site", "press-1", "--bootstrap", "kafka:9092"]) == 0
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", str(config), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LOST": lost},
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "deaf\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=HANGS)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in said and "it went on to its end" not in said
    return process.returncode, said


@pytest.mark.parametrize("lost", ["dropped", "caught"])
@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGINT, ()), (signal.SIGINT, ("--log-json",)), (signal.SIGTERM, ())]
)
def test_an_interrupt_that_was_lost_still_ends_the_command(
    tmp_path: Path, lost: str, number: signal.Signals, options: tuple[str, ...]
) -> None:
    code, said = interrupted(tmp_path, lost, number, *options)
    assert code == 130, said
    last = said.splitlines()[-1]
    assert (json.loads(last)["message"] if options else last.removeprefix("fedplant: ")) == "interrupted"


@pytest.mark.parametrize("lost", ["dropped", "caught"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_repeated_run_whose_signal_was_lost_still_ends(
    tmp_path: Path, lost: str, number: signal.Signals
) -> None:
    code, said = interrupted(tmp_path, lost, number, "--every", "1h")
    assert code == 0, said


def test_a_backtest_that_is_told_to_end_leaves_no_readings_behind(tmp_path: Path) -> None:
    data, scratch = (
        write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)}),
        tmp_path / "scratch",
    )
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _MAIN, *backtest_of(data, linear_config(tmp_path))],
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(scratch)},
        text=True,
    )
    try:
        wait_for(lambda: process.poll() is not None or list(scratch.glob("fedplant-backtest-*")))
        process.terminate()
        _, said = process.communicate(timeout=HANGS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130 and said.endswith("fedplant: interrupted\n")
    assert list(scratch.glob("fedplant-*")) == []
