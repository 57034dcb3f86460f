"""Whatever bytes arrive: no exception, no unexplained refusal, every record in exactly one place, in bounded time."""

import io
import json
import resource
import time
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.decode import Decoder
from ingestion.decode.sparkplugpb import Payload
from ingestion.mapping import SensorRule
from ingestion.records import Decoded, RecordBatch
from tests.ingestion.decoding import batch_of, decoder
from tests.ingestion.test_decode_avro import SCHEMA, encoded
from tests.ingestion.test_decode_sparkplug import BIRTH_KEY, NAMED
from tests.ingestion.test_decode_values import EDGEX, OPC, PATH

FORMATS = ("flat", "narrow", "csv", "sparkplug", "opcua", "uns", "edgex", "avro", "auto")
GOOD: dict[str, tuple[str, bytes]] = {
    "flat": ("", b'{"ts":1733904005123,"values":{"t":1.5}}'),
    "narrow": ("", b'{"ts":1733904005123,"sensor":"t","value":1.5}'),
    "csv": ("", b"1733904005123,t,1.5"),
    "sparkplug": ("", NAMED),
    "opcua": ("", OPC),
    "uns": (PATH + "t", b'{"timestamp_ms":1733904005123,"value":1.5}'),
    "edgex": ("", EDGEX),
    "avro": ("", encoded()),
    "auto": ("", b'{"ts":1733904005123,"values":{"t":1.5}}'),
}
KEYS = st.sampled_from(["", BIRTH_KEY, "spBv1.0/G/DDATA/E/../..", PATH + "t", "umh.v1.._.", "../../etc"])
FIELDS = st.sampled_from(
    [
        "ts",
        "timestamp",
        "timestamp_ms",
        "asset",
        "seq",
        "quality",
        "values",
        "value",
        "sensor",
        "name",
        "tag",
        "alias",
        "metrics",
        "payload",
        "topic",
        "type",
        "properties",
        "Quality",
        "dataType",
        "Messages",
        "Payload",
        "Value",
        "StatusCode",
        "Code",
        "SourceTimestamp",
        "Timestamp",
        "Status",
        "Body",
        "MessageType",
        "DataSetWriterId",
        "SequenceNumber",
        "readings",
        "event",
        "origin",
        "resourceName",
        "deviceName",
        "valueType",
        "edgeNodeId",
        "groupId",
        "namespace",
        "isNull",
        "bdSeq",
        "offset",
        "event_time",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        [
            "ua-data",
            "NBIRTH",
            "DDATA",
            "Float32Array",
            "[1,2",
            "1e999",
            "NaN",
            1733904005123,
            2**63,
            -1,
            1e308,
        ]
    )
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(FIELDS | st.text(max_size=6), inner, max_size=6)
    ),
    max_leaves=20,
)
MANY = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def held(name: str, reader: Decoder, batch: RecordBatch) -> Decoded:
    found = reader.decode(batch)
    refused = [reject.index for reject in found.rejects]
    kept = found.readings.column("offset").to_pylist()
    assert kept == sorted(kept)
    assert refused == sorted(set(refused))
    places = {int(batch.offsets[i]) for i in refused}
    assert places.isdisjoint(kept)
    assert places | set(kept) == set(batch.offsets.tolist())
    assert all(reject.reason and reject.message for reject in found.rejects)
    assert "decoder_failed" not in {reject.reason for reject in found.rejects}, (name, found.rejects)
    found.readings.validate(full=True)
    return found


def reader_of(name: str, folder: Path) -> Decoder:
    (folder / "5.avsc").write_text(json.dumps(SCHEMA))
    return decoder(name, folder, schema_registry=str(folder))


def with_neighbours(name: str, folder: Path, key: str, value: bytes) -> None:
    batch = batch_of(GOOD[name], (key, value), GOOD[name])
    found = held(name, reader_of(name, folder), batch)
    assert {0, 2} <= set(found.readings.column("offset").to_pylist())


@pytest.mark.parametrize("name", FORMATS)
def test_any_document_costs_at_most_itself(tmp_path: Path, name: str) -> None:
    @MANY
    @given(KEYS, DOCUMENTS)
    def check(key: str, document: Any) -> None:
        with_neighbours(name, tmp_path, key, json.dumps(document).encode())

    check()


@pytest.mark.parametrize("name", FORMATS)
def test_any_bytes_cost_at_most_themselves(tmp_path: Path, name: str) -> None:
    @MANY
    @given(KEYS, st.binary(max_size=200) | st.text(max_size=60).map(str.encode), st.booleans())
    def check(key: str, value: bytes, header: bool) -> None:
        with_neighbours(name, tmp_path, key, (b"\0\0\0\0\5" if header else b"") + value)

    check()


def test_any_damage_to_a_protobuf_payload_costs_at_most_itself(tmp_path: Path) -> None:
    payload = Payload(timestamp=1638223073000, seq=1)
    metric = payload.metrics.add(name="level", alias=1, datatype=3, int_value=7)
    metric.properties.keys.append("Quality")
    metric.properties.values.add(int_value=192)
    whole = bytes(payload.SerializeToString())

    @MANY
    @given(KEYS, st.integers(0, len(whole) - 1), st.integers(0, 255), st.booleans())
    def check(key: str, at: int, byte: int, cut: bool) -> None:
        value = whole[:at] if cut else whole[:at] + bytes([byte]) + whole[at + 1 :]
        with_neighbours("sparkplug", tmp_path, key, value)

    check()


BOMBS = {
    "deep lists": b"[" * 900_000,
    "deep objects": b'{"values":' * 90_000,
    "wide object": b"{" + b",".join(b'"s%d":1' % i for i in range(10_000)) + b"}",
    "long list": b"[" + b",".join([b"{}"] * 300_000) + b"]",
    "long number": b'{"value":' + b"9" * 900_000 + b"}",
    "many metrics": b"\x08\x05" + b"\x12\x00" * 450_000,
    "many commas": b"," * 900_000,
    "nested groups": b"\x0b" * 900_000,
    "endless varint": b"\x08" + b"\xff" * 900_000,
    "long name": b'{"ts":1733904005123,"values":{"' + b"n" * 900_000 + b'":1}}',
    "long text": b'{"ts":1733904005123,"state":"' + b"x" * 900_000 + b'"}',
    "long time": b'{"ts":"' + b"1" * 900_000 + b'","values":{"t":1}}',
    "huge exponents": b'{"ts":1733904005123,"values":{'
    + b",".join(b'"e%d":1e%d' % (i, i * 9) for i in range(1500))
    + b"}}",
    "escapes": b'{"ts":1733904005123,"values":{"' + rb"\u0041" * 150_000 + b'":1}}',
    "many aliases": b'{"timestamp":1,"metrics":['
    + b",".join(b'{"name":"m%d","alias":%d,"value":1}' % (i, i) for i in range(20_000))
    + b"]}",
    "five megabytes": b'{"a":"' + b"x" * 5_000_000 + b'"}',
}


@pytest.mark.parametrize("name", FORMATS)
def test_bombs_are_refused_within_a_second_or_so_each(tmp_path: Path, name: str) -> None:
    states = {"plant": {"state": SensorRule(states={"on": 1.0})}}
    reader = decoder(name, tmp_path, schema_registry=str(tmp_path), mapping=states)
    reader_of(name, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for bomb, value in BOMBS.items():
        began = time.process_time()
        held(name, reader, batch_of(GOOD[name], (PATH + "t", value), GOOD[name]))
        assert time.process_time() - began < 3, bomb
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # kB


def test_an_avro_length_beyond_the_message_takes_no_memory(tmp_path: Path) -> None:
    huge = io.BytesIO()
    fastavro.schemaless_writer(huge, fastavro.parse_schema("long"), 2**40)
    value = b"\0\0\0\0\5" + huge.getvalue() + b"abc"
    with_neighbours("avro", tmp_path, "", value)
