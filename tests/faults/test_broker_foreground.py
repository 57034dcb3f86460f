from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ingestion.broker import status, stop
from tests.waiting import HANGS

FOREGROUND = """
import sys
from pathlib import Path
from ingestion.broker import run_foreground
from ingestion.errors import BrokerStartFailed
try:
    code = run_foreground(Path(sys.argv[1]), on_message=lambda _: None, on_ready=lambda b, p: print(p, flush=True))
except BrokerStartFailed as error:
    print(error, flush=True)
    code = error.exit_code
sys.exit(code)
"""


@pytest.fixture
def foreground():
    processes: list[subprocess.Popen[str]] = []

    def start(folder) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-c", FOREGROUND, str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_ctrl_c_ends_a_foreground_broker_in_order(tmp_path, foreground):
    process, _ = foreground(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(HANGS) == 0
    assert status(tmp_path) is None


def test_stop_from_elsewhere_ends_it_without_an_error_and_its_own_death_with_one(tmp_path, foreground):
    process, _ = foreground(tmp_path)
    assert stop(tmp_path) is True
    assert process.wait(HANGS) == 0

    process, jvm = foreground(tmp_path)
    os.kill(jvm, signal.SIGKILL)
    assert process.wait(HANGS) == 4
    assert process.stdout is not None
    assert process.stdout.read().startswith("broker died")
