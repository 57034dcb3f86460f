"""`fedplant score` as a user runs it: secured, with formats and mappings, and over to newer detectors."""

import json
import shutil
import signal
import subprocess
import sys

from kafka import KafkaProducer

from tests.ingestion.harness import committed
from tests.integration.scoring import (
    SENSORS,
    START,
    STEP_S,
    Said,
    recording,
    send,
    sent_alerts,
)
from tests.waiting import HANGS, wait_for


def test_a_secured_site_is_scored_with_its_format_and_its_sensor_mapping(
    secured, detector, topic, tmp_path, capfd
):
    import shutil

    from pipeline.cli.main import run
    from tests.securing import SITE_RIGHTS

    site = topic("site")
    secured.grant(f"CN=user-{site}", site, (*SITE_RIGHTS,))
    secured.topic(f"iiot.{site}.telemetry.v1")
    producer = KafkaProducer(
        bootstrap_servers=secured.security.certificate_bootstrap,
        **secured.security.client(f"user-{site}"),
    )
    for i, row in enumerate(recording(300)):
        for sensor, value in zip(SENSORS, row.tolist(), strict=True):
            # Narrow messages; one sensor under its old name, one in another unit.
            name, sent = {"flow": ("Flow/old", value), "vibration": ("vibration", value * 1000)}.get(
                sensor, (sensor, value)
            )
            body = {"ts": (START + i * STEP_S) * 1000, "asset": "pump", "tag": name, "value": sent}
            producer.send(f"iiot.{site}.telemetry.v1", json.dumps(body).encode(), key=b"pump")
    producer.flush()
    producer.close()
    data = tmp_path / "data"
    shutil.copytree(detector, data / "detectors" / "fleet" / "7")
    config = tmp_path / "c.toml"
    config.write_text(
        f'[project]\nname = "fleet"\ndata_dir = "{data}"\n{secured.toml("certificate", f"user-{site}", tmp_path)}'
        f'[[sites]]\nname = "{site}"\n[ingestion]\ngroup = "g-{site}"\nformat = "narrow"\nmax_future_skew = "365d"\n'
        '[ingestion.sensors."Flow/old"]\nname = "flow"\n'
        f'[ingestion.sensors.vibration]\nunit = "mm/s"\nto = "m/s"\n[scoring]\ngroup = "g-{site}-score"\n'
    )
    assert run(["score", str(config), "--json"]) == 0, capfd.readouterr().err
    found = json.loads(capfd.readouterr().out)["sites"][site]
    assert (found["messages"], found["machines"], found["opened"]) == (900, 1, 1)
    foreign = topic("site")
    secured.topic(f"iiot.{foreign}.telemetry.v1")
    config.write_text(config.read_text().replace(f'name = "{site}"', f'name = "{foreign}"'))
    assert run(["score", str(config)]) == 3
    error = capfd.readouterr().err
    assert (
        f"Read on topic iiot.{foreign}.telemetry.v1" in error
        and f"Write on topic iiot.{foreign}.alerts.v1" in error
    )


def test_an_endless_scorer_goes_over_to_the_detector_of_a_later_run_and_an_unusable_one_changes_nothing(
    broker, detector, topic, make_topic, tmp_path
):
    site, source, group = topic("site"), make_topic(1), topic("group")
    versions, runs = tmp_path / "detectors" / "line", tmp_path / "runs"
    config = tmp_path / "fedplant.toml"
    config.write_text(
        f'[project]\nname = "line"\ndata_dir = "{tmp_path}"\n[kafka]\nbootstrap = "{broker.bootstrap}"\n'
        f'[[sites]]\nname = "{site}"\ntopic = "{source}"\n[ingestion]\nout_of_orderness = "5s"\n'
        f'[scoring]\ngroup = "{group}"\nhold_off = "5min"\n'
    )

    def finish_run(version, usable=True):
        folder = versions / str(version)
        if usable:
            shutil.copytree(detector, folder)
            told = folder / "assets.extra" / "detector.json"
            told.write_text(json.dumps({**json.loads(told.read_text()), "version": version}))
        (runs / f"run-{version}").mkdir(parents=True)
        summary = {
            "run_id": f"run-{version}",
            "version": version,
            "finished": f"2026-03-0{version}T00:00:00Z",
        }
        (runs / f"run-{version}" / "summary.json").write_text(json.dumps(summary))

    finish_run(7)
    values = recording(600, incidents=((200, 330), (400, 420)))
    send(broker, source, {"press": values[:250]})
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "score", str(config)]
    process = subprocess.Popen(
        [*command, "--follow", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said = Said(process.stderr)
        wait_for(lambda: len(sent_alerts(broker, site)) == 1)
        finish_run(8, usable=False)
        said.until("version 7 goes on scoring: ")
        finish_run(9)
        said.until("from now on scored by fleet version 9")
        send(broker, source, {"press": values[250:]}, first=250)
        wait_for(lambda: len(sent_alerts(broker, site)) == 4 and committed(broker, group, source) == 600)
    finally:
        process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANGS)
    told = json.loads(out)
    assert process.returncode == 0
    assert told["model_version"] == 9 and told["sites"][site]["steps"] == 599
    assert (told["sites"][site]["opened"], told["sites"][site]["closed"]) == (2, 2)
    first, ended, second, _ = (alert for _, alert in sent_alerts(broker, site))
    assert first["alert_id"] == ended["alert_id"] and ended["state"] == "closed"
    assert (first["model_version"], ended["model_version"], second["model_version"]) == (7, 7, 9)
    assert second["started"] == "2026-03-01T06:40:00.000Z"
