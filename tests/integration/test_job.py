"""The job on a real broker, from messages to alerts and the page, as a scheduler and an operator would drive it."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kafka import KafkaConsumer, TopicPartition

from ingestion.alone import alone
from pipeline.cli.main import run
from tests.ingestion.harness import produce
from tests.pipeline.plants import FAULT, SETTINGS, START, plant, write_plants
from tests.pipeline.test_codes import cure
from tests.pipeline.test_leave_out import stretch


class Operator:
    """Types commands and reads their JSON."""

    def __init__(self, folder, broker, capsys):
        self.folder, self.broker, self.capsys = folder, broker, capsys
        self.config = folder / "fedplant.toml"

    def __call__(self, *arguments, code=0):
        self.capsys.readouterr()
        assert run([*map(str, arguments), "--json"]) == code
        return json.loads(self.capsys.readouterr().out)

    def configure(self, sites, extra=""):
        blocks = "".join(f'[[sites]]\nname = "{site}"\n' for site in sites)
        text = f'[project]\nname = "line"\n[kafka]\nbootstrap = "{self.broker.bootstrap}"\n{blocks}'
        self.config.write_text(text + '[ingestion]\nwindow = "1h"\n' + SETTINGS + extra)
        return self.config


@pytest.fixture
def operator(tmp_path, broker, capsys):
    return Operator(tmp_path, broker, capsys)


def test_from_messages_to_a_detector_alerts_and_a_page(operator, topic):
    east, west, silent = topic("east"), topic("west"), topic("silent")
    data = write_plants(operator.folder / "data", {east: plant(1), west: plant(2)})
    config = operator.configure([east, west, silent], "compare = false\n")
    noon = "2026-03-01T10:00:00Z"

    sent = operator("replay", data, "--config", config, "--until", noon)
    assert {site: found["messages"] for site, found in sent["sites"].items()} == {east: 600, west: 600}

    first = operator("run", config)
    assert first["status"] == "trained" and first["version"] == 1
    assert first["sites"] == sorted([east, west])
    assert first["skipped_sites"] == {silent: "no data before 2026-03-01 10:00 UTC"}
    assert first["ingestion"][east] | {"windows": 0} == {
        "read": 600, "kept": 540, "late": 0, "duplicate": 0, "dead_lettered": 0, "reasons": {}, "windows": 0,
        "left_open": 60, "sensors": {}, "repaired": {}, "already_handled": 0,
    }  # fmt: skip
    assert first["on_disk"] == {east: 540, west: 540, silent: 0}
    assert set(first["metrics"]) == {"federated"} and first["metrics"]["federated"]["auc_pr"] is None

    again = operator("run", config)
    assert (again["status"], again["version"], again["run_id"]) == ("nothing_new", 1, first["run_id"])

    operator("replay", data, "--config", config, "--from", noon)
    scored = operator("score", config)
    # The last step waits for the next reading; a scorer begins a little before what was learned from.
    assert 300 <= scored["sites"][east]["messages"] <= 361
    assert scored["sites"][east]["opened"] >= 1
    alerts = read_alerts(operator.broker, east)
    begin, end = (START + pd.Timedelta(minutes=step) for step in (FAULT.start, FAULT.stop))
    hits = [alert for alert in alerts if begin <= pd.Timestamp(alert["event_time"]) <= end]
    assert hits and "flow" in {sensor["sensor"] for sensor in hits[0]["top_sensors"]}
    assert {alert["model_version"] for alert in alerts} == {1}

    assert run(["report", str(config), "--labels", str(data)]) == 0
    assert "cannot be compared: `fedplant ingest`, then report again" in " ".join(
        operator.capsys.readouterr().err.split()
    )
    operator("ingest", config)
    page = operator("report", config, "--labels", data)["report"]
    text = Path(page).read_text()
    assert east in text and not re.search(r"(src|href)=[\"']?http", text)
    evaluation = json.loads(
        (operator.folder / "fedplant-data" / "runs" / first["run_id"] / "evaluation.json").read_text()
    )
    assert evaluation["mean"]["federated"]["auc_pr"] > 0.9
    assert evaluation["sites"][east]["federated"]["events"] == 1
    # What was to be expected was said when nothing was known yet, and stays beside what came.
    assert evaluation["expected"]["promised"] == 0.005
    assert east in evaluation["expected"]["sites"] and "The setting promises 0.5 %" in text


def read_alerts(broker, site):
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, isolation_level="read_committed")
    name = f"iiot.{site}.alerts.v1"
    partitions = [TopicPartition(name, number) for number in consumer.partitions_for_topic(name)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(partitions)
    found = []
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        found += [json.loads(r.value) for records in consumer.poll(500).values() for r in records]
    consumer.close()
    return found


def test_a_job_without_any_reading_says_so_and_what_to_do(operator, topic):
    config = operator.configure([topic("nobody")])
    found = operator("run", config, code=11)
    assert found["error"].startswith("no site has sent anything yet")


def test_of_two_jobs_in_one_data_folder_one_trains_and_the_other_ingests_and_says_why_it_does_not(
    operator, topic
):
    site = topic("twice")
    data = write_plants(operator.folder / "data", {site: plant(1)})
    config = operator.configure([site])
    operator("replay", data, "--config", config)
    with alone(operator.folder / "fedplant-data", "training"):
        refused = operator("run", config, code=6)
    assert refused["error"] == f"another training runs on {operator.folder}/fedplant-data; wait for it to end"
    assert operator("ingest", config)["sites"][site]["kept"] == 0


def test_readings_that_an_earlier_ingest_read_and_that_wait_in_open_windows_are_told(operator, topic):
    site = topic("early")
    data = write_plants(operator.folder / "data", {site: plant(1, 40)})
    config = operator.configure([site])
    operator("replay", data, "--config", config)
    # Of `window = "1h"` none is over.
    assert operator("ingest", config)["sites"][site]["left_open"] == 40
    found = operator("run", config, code=11)
    assert found["error"].startswith(
        "no window is closed yet: 40 readings wait in open ones (ingestion.window);"
    )


def test_what_was_sent_and_dead_lettered_before_is_not_taken_for_silence(operator, topic, make_topic):
    site = topic("garbled")
    config = operator.configure([site])
    produce(operator.broker, make_topic(name=f"iiot.{site}.telemetry.v1"), [b"\xff not a reading"] * 3)
    assert operator("ingest", config)["sites"][site]["dead_lettered"] == 3
    found = operator("run", config, code=11)
    assert found["error"].startswith(f"no window holds a reading: what {site} sent was dead-lettered")


def test_a_broker_that_is_not_there_is_one_line_within_bounds(operator, topic):
    config = operator.configure([topic("nobody")])
    text = config.read_text().replace(operator.broker.bootstrap, "127.0.0.1:9")
    config.write_text(text.replace("[kafka]\n", '[kafka]\nrequest_timeout = "3s"\n'))
    found = operator("run", config, code=3)
    assert "127.0.0.1:9" in found["error"]


def test_a_dry_run_names_what_would_be_done_and_does_nothing(operator, topic):
    site = topic("east")
    config = operator.configure([site])
    planned = operator("run", config, "--dry-run")
    assert planned["readings"] == {site: 0} and planned["rounds"] == 3
    assert not (operator.folder / "fedplant-data").exists()


def test_doctor_names_what_is_missing_and_what_to_do(operator, topic):
    config = operator.configure([topic("east")])
    found = operator("doctor", config)
    by_name = {finding["name"]: finding for finding in found["findings"]}
    assert found["ok"] is True
    assert by_name["configuration"]["status"] == "ok"
    assert any(finding["status"] == "warn" and finding["advice"] for finding in found["findings"])


def test_readings_that_never_change_and_gaps_do_not_stop_the_job(operator, topic):
    stuck, gappy = topic("stuck"), topic("gappy")
    constant = plant(1, faulty=False)
    constant[["load", "power", "flow"]] = 7.0
    holed = plant(2, faulty=False).drop(index=range(200, 260))
    holed.loc[100:110, "power"] = np.nan
    data = write_plants(operator.folder / "data", {stuck: constant, gappy: holed})
    config = operator.configure([stuck, gappy])
    known_bad = (
        f'[[dataset.leave_out]]\nfrom = "2026-03-01T06:00Z"\nto = "2026-03-01T07:00Z"\nsites = ["{gappy}"]\n'
    )
    config.write_text(config.read_text().replace("rounds = 3", "rounds = 1\ncompare = false") + known_bad)
    operator("replay", data, "--config", config)
    found = operator("run", config)
    assert found["left_out"] == {gappy: 60}
    assert f"{gappy}: 60 of 540 readings are left out of learning (dataset.leave_out)" in found["warnings"]
    assert found["sites"] == sorted([gappy, stuck])
    assert found["rounds"] == {"federated": 1}


def test_what_was_looked_at_is_not_told_again_and_nothing_is_trained_for_it(operator, topic):
    site = topic("east")
    broken = plant(1, faulty=False)
    broken.loc[200:209, "flow"] += 12.0
    data = write_plants(operator.folder / "data", {site: broken})
    config = operator.configure([site], 'compare = false\n[detector]\nsources = ["ridge", "pca"]\n')
    operator("replay", data, "--config", config)
    first = operator("run", config)
    evaluation = Path(first["run_path"]) / "evaluation.json"
    named = json.loads(evaluation.read_text())
    assert len(named["candidates"][site]) == 1

    config.write_text(config.read_text() + named["looked_at"])
    again = operator("run", config)
    assert (again["status"], again["version"], again["run_id"]) == ("nothing_new", 1, first["run_id"])
    out = f"{site}: a stretch of its training stands far out of the rest"
    [told] = [line for line in first["warnings"] if line.startswith(out)]
    before = f"{out}, looked at before (dataset.looked_at)"
    assert again["warnings"] == [before if line == told else line for line in first["warnings"]]
    operator("report", config, "--labels", data)
    looked = json.loads(evaluation.read_text())
    assert (looked["candidates"], looked["looked_at_before"]) == ({}, named["candidates"])

    forced = operator("run", config, "--force")
    assert (forced["status"], forced["version"], forced["snapshot"]) == ("trained", 2, first["snapshot"])
    assert forced["warnings"] == again["warnings"]


def test_an_entry_that_touches_nothing_is_told_at_once_and_no_more_once_it_is_right(operator, topic):
    site = topic("east")
    data = write_plants(operator.folder / "data", {site: plant(1, faulty=False)})
    config = operator.configure([site], 'compare = false\n[detector]\nsources = ["ridge", "pca"]\n')
    plain = config.read_text()

    def entries(**of):
        return plain + "".join(
            stretch(table, **{"from": "2026-03-01T03:00:00", "to": "2026-03-01T04:00:00", **of})
            for table in ("leave_out", "looked_at")
        )

    def findings(table):
        told = [f for f in operator("doctor", config)["findings"] if f["name"] == f"dataset.{table}"]
        assert all(f["status"] == "warn" for f in told)
        return [(f["detail"], f["advice"]) for f in told]

    def nothing(table, day="2026-03-01"):
        times = f"{day} 03:00:00Z to 2026-03-01 04:00:00Z"
        return f"the stretch {times} of dataset.{table} touches no reading that is learned from"

    advice = "Check its year, its zone and the names of sites and machines."
    wrong_machine = {"assets": '["lathe"]'}
    config.write_text(entries(**wrong_machine))
    assert findings("looked_at") == findings("leave_out") == []  # Nothing was ingested that could tell.
    operator("replay", data, "--config", config)
    config.write_text(plain)
    first = operator("run", config)
    config.write_text(entries(**wrong_machine))
    for table in ("leave_out", "looked_at"):
        assert findings(table) == [(nothing(table), advice)]
    config.write_text(entries())
    assert findings("looked_at") == findings("leave_out") == []

    looked = stretch("looked_at", **{"from": "2026-03-01T03:00:00", "to": "2026-03-01T04:00:00"})
    late = looked.replace("2026-03-01T03", "2026-03-01T11").replace("2026-03-01T04", "2026-03-01T12")
    config.write_text(plain + looked + 'assets = ["lathe"]\n' + late)
    again = operator("run", config)
    assert (again["status"], again["run_id"]) == ("nothing_new", first["run_id"])
    ended = "the stretch 2026-03-01 11:00:00Z to 2026-03-01 12:00:00Z of dataset.looked_at touches no reading that is learned from"
    assert again["warnings"] == [
        *first["warnings"],
        f"{site}: {nothing('looked_at')}: {advice[0].lower()}{advice[1:-1]}",
        f"{site}: {ended}: it begins where learning has ended (train_until)",
    ]
    operator("report", config)
    assert nothing("looked_at") in (Path(first["run_path"]) / "report.html").read_text()
    # What a training says of the same configuration is the same.
    assert operator("run", config, "--force")["warnings"] == again["warnings"]
    config.write_text(plain + looked)
    assert operator("run", config)["warnings"] == first["warnings"]
    config.write_text(plain)
    assert operator("run", config)["warnings"] == first["warnings"]


def test_a_counter_is_heard_neither_by_a_job_nor_by_the_scorer(operator, topic):
    site = topic("east")
    counting = plant(1).assign(hours=lambda frame: (4000 + np.arange(len(frame)) / 60).round(2))
    data = write_plants(operator.folder / "data", {site: counting})
    config = operator.configure([site], 'compare = false\n[detector]\nsources = ["ridge", "pca"]\n')
    operator("replay", data, "--config", config, "--until", "2026-03-01T10:00:00Z")
    found = operator("run", config)
    assert found["sensors"] == 3
    assert any("as a counter does, and is left out: hours" in line for line in found["warnings"])
    operator("replay", data, "--config", config, "--from", "2026-03-01T10:00:00Z")
    scored = operator("score", config)
    assert scored["sites"][site]["scored"] >= 299 and scored["sites"][site]["opened"] >= 1
    named = {each["sensor"] for alert in read_alerts(operator.broker, site) for each in alert["top_sensors"]}
    assert named == {"load", "power", "flow"}


def test_a_code_for_no_reading_is_told_and_the_setting_it_names_holds_for_windows_that_are_there(
    operator, topic
):
    site = topic("east")
    coded = plant(1, faulty=False)
    coded.loc[range(50, 550, 25), "flow"] = -9999.0
    data = write_plants(operator.folder / "data", {site: coded})
    config = operator.configure([site], "compare = false\n")
    operator("replay", data, "--config", config)
    first = operator("run", config)
    [remark] = [line for line in first["warnings"] if "code for no reading" in line]
    assert "flow -9999 (20 of 840 values)" in remark
    config.write_text(config.read_text() + cure(remark))
    second = operator("run", config)
    assert (second["status"], second["version"]) == ("trained", 2)
    assert f"{site}: values outside the valid range, left out: flow 20" in second["warnings"]
    assert not any("code for no reading" in line for line in second["warnings"])
    assert operator("run", config)["status"] == "nothing_new"
