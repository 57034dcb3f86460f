from pathlib import Path

from tests.ingestion.decoding import batch_of, decoder, reasons, rows

OPC = (
    b'{"MessageId":"27","MessageType":"ua-data","PublisherId":"opc.tcp://plc:50000","Messages":[{"DataSetWriterId":1,'
    b'"SequenceNumber":27,"MessageType":"ua-deltaframe","Timestamp":"2022-03-18T12:55:21.3424136Z","Payload":{"StepUp":'
    b'{"Value":23305,"SourceTimestamp":"2022-03-18T12:55:21.3313539Z"},"BadFast":{"StatusCode":{"Symbol":'
    b'"BadNoCommunication","Code":2150694912},"SourceTimestamp":"2022-03-18T12:55:20.8409353Z"}}}]}'
)
EDGEX = (
    b'{"apiVersion":"v3","deviceName":"pump-03","origin":1733904005123456789,"readings":[{"origin":1733904005123456789,'
    b'"deviceName":"pump-03","resourceName":"temperature","valueType":"Float32","value":"7.125e+01"}]}'
)
PATH = "umh.v1.acme.plant-a.press.line4._historian."


def test_narrow_json_is_one_sensor_a_row_and_wide_objects_still_pass(tmp_path: Path) -> None:
    batch = batch_of(
        b'{"asset":"pump-03","sensor":"temperature","ts":1451649600512,"value":22.5,"seq":4,"quality":192}',
        b'[{"tag":"vibration","timestamp":"2016-01-01T12:00:00.512Z","value":"2e-2"},{"ts":1451649600,"values":{"a":1}}]',
        b'{"sensor":"temperature"',
    )
    found = decoder("narrow", tmp_path).decode(batch)
    ns = 1451649600_512_000_000
    assert rows(found) == [
        {"offset": 0, "event_time": ns, "asset": "pump-03", "seq": 4, "quality": 192, "temperature": 22.5},
        {"offset": 1, "event_time": ns, "asset": "plant", "vibration": 0.02},
        {"offset": 1, "event_time": 1451649600_000_000_000, "asset": "plant", "a": 1.0},
    ]
    assert reasons(found) == [(2, "not_json")]


def test_csv_reads_headers_narrow_lines_and_decimal_commas(tmp_path: Path) -> None:
    batch = batch_of(
        b"timestamp,asset,temperature,vibration\n2026-03-01T10:00:00Z,pump,71.2,\n2026-03-01T10:00:01Z,pump,,0.5\n",
        b"1451649600512;pump;pressure;1,5",
        b"timestamp,a\n1451649600512,1,2",
        b"just text",
    )
    found = decoder("csv", tmp_path).decode(batch)
    start = 1772359200_000_000_000
    assert rows(found) == [
        {"offset": 0, "event_time": start, "asset": "pump", "temperature": 71.2},
        {"offset": 0, "event_time": start + 10**9, "asset": "pump", "vibration": 0.5},
        {"offset": 1, "event_time": 1451649600_512_000_000, "asset": "pump", "pressure": 1.5},
    ]
    assert reasons(found) == [(2, "not_csv"), (3, "not_csv")]


def test_in_csv_text_is_how_numbers_are_written_and_no_repair(tmp_path: Path) -> None:
    batch = batch_of(b"timestamp;a;b;c;d\n1451649600512;1,5;-2e3;;7\n1451649601512;true;1_000;nan;off")
    found = decoder("csv", tmp_path).decode(batch)
    second = {"offset": 0, "event_time": 1451649601_512_000_000, "asset": "plant", "a": 1.0}
    first = {"offset": 0, "event_time": 1451649600_512_000_000, "asset": "plant", "a": 1.5, "b": -2000.0}
    assert rows(found) == [{**first, "d": 7.0}, second]
    assert found.counts == {"text_number": 1, "not_a_number": 2, "non_finite": 1}


def test_opc_ua_keeps_seven_digits_and_turns_status_codes_into_quality(tmp_path: Path) -> None:
    bare = b'{"Payload":{"a":5,"b":{"Value":{"Type":10,"Body":1.5},"StatusCode":1073741824}},"DataSetWriterName":"press","Timestamp":"2022-03-18T12:55:21Z"}'
    meta = b'{"MessageType":"ua-metadata","PublisherId":"x","MetaData":{"Fields":[]}}'
    alive = b'{"MessageType":"ua-data","Messages":[{"MessageType":"ua-keepalive"}]}'
    found = decoder("opcua", tmp_path).decode(batch_of(OPC, meta, bare, alive))
    second = 1647608121_000_000_000
    asset = "opc.tcp://plc:50000/1"
    assert rows(found) == [
        {
            "offset": 0,
            "event_time": second + 331_353_900,
            "asset": asset,
            "seq": 27,
            "quality": 192,
            "StepUp": 23305.0,
        },
        {"offset": 0, "event_time": second - 159_064_700, "asset": asset, "seq": 27, "quality": 0},
        {"offset": 2, "event_time": second, "asset": "press", "quality": 64, "a": 5.0, "b": 1.5},
    ]
    assert "BadFast" in found.readings.column_names
    assert reasons(found) == [(1, "metadata"), (3, "keepalive")]


def test_unified_namespace_takes_location_and_tag_from_key_or_topic(tmp_path: Path) -> None:
    body = b'{"timestamp_ms":1733904005123,"value":23.4}'
    batch = batch_of(
        (PATH + "motor.temperature", body),
        (PATH + "state", b'{"timestamp_ms":1733904005123,"value":"running"}'),
        ("somewhere", body),
    )
    found = decoder("uns", tmp_path).decode(batch)
    base = {"event_time": 1733904005_123_000_000, "asset": "acme.plant-a.press.line4"}
    assert rows(found) == [{"offset": 0, **base, "motor.temperature": 23.4}, {"offset": 1, **base}]
    assert found.counts["not_a_number"] == 1
    assert reasons(found) == [(2, "no_path")]
    by_topic = decoder("uns", tmp_path).decode(batch_of(body, topic=PATH + "motor.temperature"))
    assert rows(by_topic) == [{"offset": 0, **base, "motor.temperature": 23.4}]


def test_edgex_reads_exponents_arrays_and_both_wrappings(tmp_path: Path) -> None:
    arrays = EDGEX.replace(b'"Float32"', b'"Float32Array"').replace(b'"7.125e+01"', b'"[1.5, 2e1]"')
    batch = batch_of(EDGEX, b'{"apiVersion":"v2","event":' + EDGEX + b"}", arrays, b'{"readings":[{}]}')
    found = decoder("edgex", tmp_path).decode(batch)
    base = {"event_time": 1733904005_123_456_789, "asset": "pump-03"}
    assert rows(found) == [
        {"offset": 0, **base, "temperature": 71.25},
        {"offset": 1, **base, "temperature": 71.25},
        {"offset": 2, **base, "temperature[0]": 1.5, "temperature[1]": 20.0},
    ]
    assert reasons(found) == [(3, "wrong_shape")]
