"""No name that arrives in a payload, a key or a configuration becomes a path outside the data folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.errors import InputDataError
from ingestion.eventtime import NS
from ingestion.footer import read_footer
from ingestion.settings import EventTimeRules, check_name
from ingestion.store import Identity, PartitionStore
from ingestion.windowing import Rules, Windows
from pipeline.config.names import NAME
from pipeline.streams.inspecting import site_name
from tests.ingestion.decoding import NOW_MS, WORKING, batch_of, decoder

HOSTILE = st.sampled_from(
    [
        "..",
        "../../up",
        "/etc/passwd",
        "a/../../b",
        "..\\up",
        "~root",
        "con",
        "a\0b",
        "%2e%2e%2f",
        "p0",
        ".tmp-x",
        "x.parquet",
        "..a",
        '{"format_version":1}',
        '{"format_version":',
        "fedplant",
    ]
) | st.text(max_size=40)
MANY = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def sent(name: str, asset: str, sensor: str) -> tuple[str, bytes]:
    key, document = asset, {"asset": asset, "ts": NOW_MS, "values": {sensor: 1}}
    value: Any = document
    if name == "narrow":
        value = {"asset": asset, "ts": NOW_MS, "tag": sensor, "value": 1}
    elif name == "csv":
        return key, f"timestamp,asset,{json.dumps(sensor)}\n{NOW_MS},{json.dumps(asset)},1".encode(
            "utf-8", "replace"
        )
    elif name == "sparkplug":
        key = f"spBv1.0/{asset}/DBIRTH/{asset}/{sensor}"
        value = {"timestamp": NOW_MS, "metrics": [{"name": sensor, "alias": 1, "value": 1}]}
    elif name == "opcua":
        value = {
            "DataSetWriterName": asset,
            "Timestamp": "2026-03-01T10:00:00Z",
            "Payload": {sensor: {"Value": 1}},
        }
    elif name == "uns":
        key, value = f"umh.v1.{asset}._historian.{sensor}", {"timestamp_ms": NOW_MS, "value": 1}
    elif name == "edgex":
        reading = {
            "origin": NOW_MS * 10**6,
            "deviceName": asset,
            "resourceName": sensor,
            "valueType": "Int8",
            "value": "1",
        }
        value = {"readings": [reading]}
    return key, json.dumps(value).encode()


@pytest.mark.parametrize("name", WORKING)
def test_hostile_assets_and_sensors_stay_values_and_columns(tmp_path: Path, name: str) -> None:
    data = tmp_path / "deep" / "data"
    rules = EventTimeRules()
    identity = Identity("plant", "c", "t", "id", 0)

    @MANY
    @given(HOSTILE, HOSTILE)
    def check(asset: str, sensor: str) -> None:
        try:
            key, value = sent(name, asset, sensor)
            key.encode()
        except UnicodeEncodeError:
            return
        readings = decoder(name, data).decode(batch_of((key, value))).readings
        store = PartitionStore(data, identity, int(rules.window * NS)).scan()
        windows = Windows(Rules.of(rules), 0, handled=store.handled)
        if readings.num_rows:
            windows.push(readings, 1)
            store.publish(windows.close_early("shutdown"))

    check()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    folder, births = data / "windows" / "plant" / "t" / "p0", data / "decoders" / "plant" / "t" / "p0.json"
    assert files and all(path.parent == folder or path == births for path in files)
    assert all(read_footer(path) for path in files if path.parent == folder)


@given(HOSTILE)
def test_a_configured_name_is_refused_or_stays_in_its_folder(name: str) -> None:
    try:
        checked = check_name("site", name)
    except InputDataError:
        return
    base = Path("/data/windows")
    assert checked == name and Path(base, name).parts == (*base.parts, name) and name not in (".", "..")


@given(st.text("abcXYZ019._-", min_size=1, max_size=249))
def test_the_site_that_a_topic_suggests_is_a_name_that_may_be_configured(topic: str) -> None:
    assert NAME.match(site_name(topic)) and check_name("site", site_name(topic))
