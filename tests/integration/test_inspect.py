"""An unknown topic, looked at and then ingested with the configuration that the look printed."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestion.decode.sparkplugpb import Payload
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.config.load import tomllib
from tests.ingestion.harness import on_disk
from tests.ingestion.test_decode_avro import SCHEMA, encoded

NOW = int(time.time()) * 1000 - 600_000
Sent = tuple[str | None, bytes]


def flat(i: int) -> Sent:
    values = {"temperature": 20 + i % 7, "mode": ("run", "idle", "stop")[i % 3]}
    if i % 4:
        values["pressure"] = 1.5
    return f"pump-{i % 2}", json.dumps(
        {"asset": f"pump-{i % 2}", "ts": NOW + i // 2 * 1000, "values": values}
    ).encode()


def narrow(i: int) -> Sent:
    return None, b'[{"tag":"a.b c","timestamp":%d,"value":%d,"asset":"x"}]' % (NOW * 1000 + i * 1_000_000, i)


def csv(i: int) -> Sent:
    return "line", b"%d;motor;%d,5" % (NOW + i * 1000, i)


def uns(i: int) -> Sent:
    key = f"umh.v1.acme.plant-{i % 2}.press._historian.motor.temperature"
    return key, b'{"timestamp_ms":%d,"value":%d}' % (NOW + i * 1000, i)


def opcua(i: int) -> Sent:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW // 1000 + i))
    return None, (
        b'{"MessageType":"ua-data","PublisherId":"p","Messages":[{"DataSetWriterId":1,"SequenceNumber":%d,'
        b'"Payload":{"StepUp":{"Value":%d,"SourceTimestamp":"%s.1234567Z"}}}]}' % (i, i, stamp.encode())
    )


def edgex(i: int) -> Sent:
    return None, (
        b'{"apiVersion":"v3","readings":[{"origin":%d,"deviceName":"d","resourceName":"t","valueType":"Float32","value":"7e+0"}]}'
        % (NOW * 1_000_000 + i * 10**9)
    )


def avro(i: int) -> Sent:
    return None, encoded(ts=NOW + i * 1000)


def sparkplug(i: int) -> Sent:
    birth = i == 0
    payload = Payload(timestamp=NOW + i * 1000, seq=i % 256)
    payload.metrics.add(name="level" if birth else None, alias=4, datatype=10, double_value=i)
    return f"spBv1.0/G/{'DBIRTH' if birth else 'DDATA'}/E/D", payload.SerializeToString()


def send(broker: Any, topic: str, messages: list[Sent]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=5)
    for i, (key, value) in enumerate(messages):
        stamp = NOW + i * 1000 + 2500
        producer.send(topic, value, key.encode() if key else None, partition=0, timestamp_ms=stamp)
    producer.flush(20)
    producer.close()


def looked(capfd: Any, *arguments: str) -> dict[str, Any]:
    capfd.readouterr()
    assert run(["inspect", *arguments, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("form", "make", "sensors"),
    [
        ("flat", flat, {"temperature", "pressure", "mode"}),
        ("narrow", narrow, {"a.b c"}),
        ("csv", csv, {"motor"}),
        ("uns", uns, {"motor.temperature"}),
        ("opcua", opcua, {"StepUp"}),
        ("edgex", edgex, {"t"}),
        ("avro", avro, {"temperature", "vibration"}),
        ("sparkplug", sparkplug, {"level"}),
    ],
)
def test_a_look_at_an_unknown_topic_gives_a_configuration_that_ingests_all_of_it(
    broker, make_topic, tmp_path: Path, capfd, form: str, make: Callable[[int], Sent], sensors: set[str]
) -> None:
    name = make_topic(1, None)
    send(broker, name, [make(i) for i in range(300)])
    (tmp_path / "5.avsc").write_text(json.dumps(SCHEMA))
    config = tmp_path / "fedplant.toml"
    options = ["--schema-registry", str(tmp_path)] if form == "avro" else []
    options += ["--sample", "200"] if form == "sparkplug" else []
    seen = looked(capfd, name, "--bootstrap", broker.bootstrap, "--out", str(config), *options)["profile"]
    assert (seen["format"], seen["rejects"]) == (form, {})
    assert {sensor["name"] for sensor in seen["sensors"]} == sensors
    assert seen["messages"] == (200 if form == "sparkplug" else 300)

    capfd.readouterr()
    assert run(["ingest", str(config), "--json"]) == 0
    (counts,) = json.loads(capfd.readouterr().out)["sites"].values()
    assert (counts["messages"], counts["dead_lettered"], counts["sensors"]) == (300, 0, {})
    assert sum(on_disk(tmp_path / "fedplant-data").values()) == counts["kept"] > 100


def test_the_look_measures_rates_gaps_clocks_order_and_repetition(broker, make_topic, capfd) -> None:
    name = make_topic(1, None)
    messages = [flat(i) for i in range(200)]
    messages[100:100] = [messages[90], flat(60)]
    send(broker, name, messages)
    answer = looked(capfd, name, "--bootstrap", broker.bootstrap)
    seen = answer["profile"]
    by_name = {sensor["name"]: sensor for sensor in seen["sensors"]}
    temperature, pressure, mode = (by_name[n] for n in ("temperature", "pressure", "mode"))
    assert (temperature["low"], temperature["high"], temperature["rate"], temperature["missing"]) == (
        20,
        26,
        1,
        0,
    )
    assert 0.2 < pressure["missing"] < 0.3
    assert set(mode["texts"]) == {"run", "idle", "stop"} and mode["values"] == 0
    assert 'states = { "idle" = 0, "run" = 1, "stop" = 2 }' in answer["config"]
    assert seen["duplicates"] == 2 and seen["disorder"] == 19.0
    assert seen["assets"] == {"pump-0": 102, "pump-1": 100}
    assert seen["skew_highest"] == -2.5 and seen["ahead"] == 0
    assert 'out_of_orderness = "30s"' in answer["config"]


def test_one_clock_that_jumped_ahead_does_not_decide_the_settings(broker, make_topic, capfd) -> None:
    name = make_topic(1, None)
    jumped = {"asset": "pump-0", "ts": NOW + 5 * 365 * 86_400_000, "values": {"temperature": 1}}
    messages = [flat(i) for i in range(200)]
    messages[50:50] = [("pump-0", json.dumps(jumped).encode())]
    send(broker, name, messages)
    answer = looked(capfd, name, "--bootstrap", broker.bootstrap)
    seen = answer["profile"]
    assert (seen["rows"], seen["ahead"]) == (201, 1) and seen["skew_highest"] > 1e8
    assert (seen["span"], seen["disorder"]) == (99, 0)
    (temperature,) = (sensor for sensor in seen["sensors"] if sensor["name"] == "temperature")
    assert (temperature["low"], temperature["missing"]) == (20, 0)
    assert 'out_of_orderness = "10s"' in answer["config"] and 'window = "1min"' in answer["config"]
    assert any("1 of 201 readings" in note and "future_timestamp" in note for note in answer["notes"])


def test_names_from_a_topic_cannot_drive_the_terminal(broker, make_topic, capfd) -> None:
    name = make_topic(1, None)
    value = {"asset": "pump\x1b[2J", "values": {"t": 1.5, "mode": "\x1b]0;owned\x07"}}
    send(broker, name, [(None, json.dumps({**value, "ts": NOW + i * 1000}).encode()) for i in range(20)])
    capfd.readouterr()
    assert run(["inspect", name, "--bootstrap", broker.bootstrap]) == 0
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err and "\x07" not in out + err
    assert "pump\\x1b[2J" in out and "\\x1b]0;owned\\x07" in out


def test_codes_for_no_reading_are_told_with_limits_that_are_commented_out(
    broker, make_topic, tmp_path: Path, capfd
) -> None:
    name = make_topic(1, None)
    messages = []
    for i in range(400):
        values = {
            "flow/in": -9999 if i % 50 == 9 else 20 + i % 7,
            "level": 999.9 if i == 5 else i % 9,
            "power": i % 5,
        }
        messages.append((None, json.dumps({"asset": "p", "ts": NOW + i * 1000, "values": values}).encode()))
    send(broker, name, messages)
    answer = looked(capfd, name, "--bootstrap", broker.bootstrap)
    assert [(code["sensor"], code["value"], code["count"]) for code in answer["codes"]] == [
        ("flow/in", -9999, 8),
        ("level", 999.9, 1),
    ]
    (note,) = (note for note in answer["notes"] if "no reading" in note)
    assert "flow/in -9999 (8 of 400 values), level 999.9 (1 of 400 values)" in note
    config = tmp_path / "fedplant.toml"
    config.write_text(answer["config"])
    assert load_config(config).ingestion.sensors == {}
    taken = re.sub(r"^# (\[ingestion\.sensors|min = |max = )", r"\1", answer["config"], flags=re.MULTILINE)
    config.write_text(taken)
    rules = load_config(config).ingestion.sensors
    assert {name: (rule.min, rule.max) for name, rule in rules.items()} == {
        "flow/in": (-5000, None),
        "level": (None, 500),
    }


def test_names_from_a_topic_cannot_write_settings(broker, make_topic, tmp_path: Path, capfd) -> None:
    name = make_topic(1, None)
    plants = ("one", 'two)\n[monitoring]\nmetrics_address = "0')
    keys = [f'umh.v1.acme.{plant}.0.0.0"\n._historian.t' for plant in plants]
    send(
        broker, name, [(keys[i % 2], b'{"timestamp_ms":%d,"value":1}' % (NOW + i * 1000)) for i in range(40)]
    )
    answer = looked(capfd, name, "--bootstrap", broker.bootstrap)
    assert len(answer["profile"]["sites"]) == 2
    assert set(tomllib.loads(answer["config"])) == {"project", "kafka", "sites", "ingestion"}


def test_naive_times_and_a_wrong_clock_are_named_with_what_to_do(broker, make_topic, capfd) -> None:
    name = make_topic(1, None)
    send(broker, name, [(None, b'{"ts":"2026-03-01T10:00:%02d","values":{"t":1}}' % i) for i in range(60)])
    assert run(["inspect", name, "--bootstrap", broker.bootstrap]) == 5
    assert "bad_timestamp 60 of 60" in capfd.readouterr().err
    answer = looked(capfd, name, "--bootstrap", broker.bootstrap, "--time-zone", "Europe/Berlin")
    assert answer["profile"]["rows"] == 60 and 'time_zone = "Europe/Berlin"' in answer["config"]


@pytest.mark.parametrize(
    ("messages", "line"),
    [
        (None, "there is no topic"),
        ([], "is empty: send something first"),
        ([b"\x01\x02garbage\xff"] * 5, "no record is of a known format"),
        ([b'{"ts":"soon","values":{"t":1}}'] * 5, "looks like flat, but no record"),
    ],
)
def test_what_cannot_be_looked_at_is_one_clear_line(broker, make_topic, topic, capfd, messages, line) -> None:
    name = topic("nowhere") if messages is None else make_topic(2, None)
    send(broker, name, [(None, value) for value in messages or []])
    assert run(["inspect", name, "--bootstrap", broker.bootstrap]) == 5
    error = capfd.readouterr().err
    assert line in error and name in error and len(error.splitlines()) == 1


def test_a_look_leaves_no_group_behind(broker, make_topic, capfd) -> None:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    before = {group["group_id"] for group in admin.list_groups()}
    name = make_topic(2, None)
    send(broker, name, [flat(i) for i in range(10)])
    looked(capfd, name, "--bootstrap", broker.bootstrap)
    # Those of other tests may end meanwhile.
    assert {group["group_id"] for group in admin.list_groups()} <= before
    admin.close()
