"""`fedplant run --every` as the long-running process it is: it waits for plants, trains, idles, and ends when it is told to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from pipeline.cli.main import run
from tests.pipeline.plants import SETTINGS, plant, write_plants
from tests.waiting import HANGS, alive, paths
from tests.waiting import wait_for as wait_until

COMMAND = [str(Path(sys.executable).parent / "fedplant")]


def objects(path):
    """The JSON objects that were printed so far, one after the other."""
    text, decoder, found = path.read_text(), json.JSONDecoder(), []
    while text := text.lstrip():
        try:
            value, end = decoder.raw_decode(text)
        except json.JSONDecodeError:
            break
        found.append(value)
        text = text[end:]
    return found


WORK_SECONDS, STILL_SECONDS = 200, 400
"""Of the process's own work, and of the clock, without a new file: a busy machine makes it slow, but no more work and no standstill."""


def wait_for(condition, process, said):
    """Wait as long as the process gets on: each window, data set, checkpoint and result is a new file; a turn that finds nothing new makes none."""
    data, worked = said.parent / "fedplant-data", psutil.Process(process.pid).cpu_times
    seen, work, clock = None, 0.0, 0.0
    while not condition():
        assert process.poll() is None, said.read_text()
        files = {path.name for path in paths(data)}
        now, time_now = sum(worked()[:2]), time.monotonic()
        if files != seen:
            seen, work, clock = files, now, time_now
        assert now - work < WORK_SECONDS and time_now - clock < STILL_SECONDS, said.read_text()
        time.sleep(0.05)


def test_it_waits_for_plants_trains_once_for_all_readings_and_ends_in_order_in_the_middle_of_a_training(
    broker, topic, tmp_path
):
    sites = [topic("east"), topic("west")]
    data = write_plants(tmp_path / "plants", {site: plant(seed) for seed, site in enumerate(sites, 1)})
    blocks = "".join(f'[[sites]]\nname = "{site}"\n' for site in sites)
    config = tmp_path / "fedplant.toml"
    config.write_text(
        f'[kafka]\nbootstrap = "{broker.bootstrap}"\n{blocks}[ingestion]\nwindow = "1h"\n{SETTINGS}'
    )
    out, said = tmp_path / "out", tmp_path / "said"

    def send(*span):
        assert run(["replay", str(data), "--config", str(config), *span]) == 0

    with out.open("wb") as stdout, said.open("wb") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "run", str(config), "--every", "1s", "--json"],
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "COLUMNS": "200"},
        )
    try:
        wait_for(lambda: "no site has sent anything yet" in said.read_text(), process, said)
        send("--until", "2026-03-01T12:00:00Z")
        # The turn that ends next may have begun while the plants were sending, and have trained on what was there.
        sent = len(objects(out)) + 1
        wait_for(lambda: "nothing_new" in [found["status"] for found in objects(out)[sent:]], process, said)

        def results():
            return [found for found in objects(out) if found["status"] == "trained"]

        trained = results()
        assert objects(out)[-1]["run_id"] == trained[-1]["run_id"]
        assert [found["version"] for found in trained] == list(range(1, len(trained) + 1))
        assert len({found["run_id"] for found in trained}) == len(trained)
        assert set(trained[0]["rounds"]) == {"federated", "local", "centralised"}

        send("--from", "2026-03-01T12:00:00Z")
        training = tmp_path / "fedplant-data" / "training"
        wait_for(
            lambda: (
                {path.parts[-3] for path in paths(training) if path.match("training/*/*/*.ckpt")}
                - {found["run_id"] for found in results()}
            ),
            process,
            said,
        )
        # A turn that began amid the sending may have come to its end.
        trained = results()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not alive(children))
    assert "Traceback" not in said.read_text()
    assert results() == trained
    detectors = tmp_path / "fedplant-data" / "detectors" / "fleet"
    assert len(list(detectors.iterdir())) == len(trained)
