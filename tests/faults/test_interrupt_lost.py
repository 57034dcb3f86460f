"""An interrupt that comes upon a `__del__`, where Python drops every exception: the command ends all the same."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.main import run

PROGRAM = """
import sys, time
from pipeline.cli.main import main
from pipeline.errors import NothingToDo
from pipeline.jobs.schedule import Job

class Deaf:
    def __del__(self):
        print("deaf", flush=True)
        time.sleep(20)

def work(job):
    with job.watch.step("training") as step:
        Deaf()
        for done in range(30):
            step.update(done, 30)
            time.sleep(0.1)
    raise NothingToDo("it went on to its end")

Job.run = work
main()
"""


def interrupted(folder: Path, number: signal.Signals, *options: str) -> tuple[int, str]:
    """Exit code and standard error of a `run` whose first signal is lost."""
    config = folder / "plant.toml"
    assert run(["init", str(config), "--site", "press-1", "--bootstrap", "kafka:9092"]) == 0
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", str(config), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "deaf\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert "Exception ignored in" in said
    return process.returncode, said


@pytest.mark.parametrize("options", [(), ("--log-json",)])
def test_an_interrupt_that_python_drops_still_ends_the_command(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    code, said = interrupted(tmp_path, signal.SIGINT, *options)
    assert code == 130, said
    last = said.splitlines()[-1]
    assert (json.loads(last)["message"] if options else last.removeprefix("fedplant: ")) == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_repeated_run_whose_signal_python_drops_still_ends(tmp_path: Path, number: signal.Signals) -> None:
    code, said = interrupted(tmp_path, number, "--every", "1h")
    assert code == 0, said
    assert "it went on to its end" not in said
