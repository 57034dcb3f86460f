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


def wait_for(condition, process, said):
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < end, said.read_text()
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
        wait_for(lambda: len(objects(out)) >= 2, process, said)
        first, second = objects(out)[:2]
        assert (first["status"], second["status"]) == ("trained", "nothing_new")
        assert (first["version"], second["run_id"]) == (1, first["run_id"])
        assert set(first["rounds"]) == {"federated", "local", "centralised"}

        send("--from", "2026-03-01T12:00:00Z")
        training = tmp_path / "fedplant-data" / "training"
        wait_for(
            lambda: len([p for p in training.glob("*/*/*.ckpt") if first["run_id"] not in str(p)]) > 0,
            process,
            said,
        )
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert "Traceback" not in said.read_text()
    assert {found["status"] for found in objects(out)[2:]} <= {"nothing_new"}
    detectors = tmp_path / "fedplant-data" / "detectors" / "fleet"
    assert [path.name for path in detectors.iterdir()] == ["1"]
