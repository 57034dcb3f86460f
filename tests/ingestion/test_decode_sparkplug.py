import base64
import json
import resource
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from ingestion.decode.sparkplugpb import Payload
from tests.ingestion.decoding import batch_of, decoder, reasons, rows

NAMED = b'{"topic":{"namespace":"spBv1.0","groupId":"G1","edgeNodeId":"E1","deviceId":"D1","type":"DDATA"},"payload":{"timestamp":1638223073192,"metrics":[{"name":"Temperature","timestamp":1638223073156,"dataType":"Float","value":71.2,"properties":{"Quality":{"type":"Int32","value":192}}}],"seq":3}}'
ALIASED = (
    b'{"timestamp":1486144502122,"metrics":[{"alias":1,"timestamp":1479123452194,"value":12.5}],"seq":2}'
)
BIRTH_KEY, DATA_KEY = "spBv1.0/G1/DBIRTH/E1/D1", "spBv1.0/G1/DDATA/E1/D1"


def birth(name: str, value: float = 1.0, kind: int = 9) -> bytes:
    payload = Payload(timestamp=1638223073000, seq=1)
    payload.metrics.add(name=name, alias=1, datatype=kind, float_value=value)
    return bytes(payload.SerializeToString())


def data(**fields: object) -> bytes:
    payload = Payload(timestamp=1638223074000, seq=2)
    payload.metrics.add(alias=1, **fields)
    return bytes(payload.SerializeToString())


def test_json_with_names_needs_no_birth(tmp_path: Path) -> None:
    found = decoder("sparkplug", tmp_path).decode(batch_of(NAMED))
    assert rows(found) == [
        {
            "offset": 0,
            "event_time": 1638223073_156_000_000,
            "asset": "E1/D1",
            "seq": 3,
            "quality": 192,
            "Temperature": 71.2,
        }
    ]


def test_data_before_its_birth_is_set_aside_and_resolved_after_it(tmp_path: Path) -> None:
    born = json.dumps(
        {"timestamp": 1479123452000, "metrics": [{"name": "Flow", "alias": 1, "value": 2}]}
    ).encode()
    batch = batch_of(
        (DATA_KEY, ALIASED),
        (BIRTH_KEY, born),
        (DATA_KEY, ALIASED),
        ("spBv1.0/G1/NDEATH/E1", b'{"timestamp":1479123459000,"metrics":[]}'),
    )
    found = decoder("sparkplug", tmp_path).decode(batch)
    assert [(row["offset"], row["event_time"], row["Flow"]) for row in rows(found)] == [
        (1, 1479123452_000_000_000, 2.0),
        (2, 1479123452_194_000_000, 12.5),
    ]
    assert reasons(found) == [(0, "waiting_for_birth"), (3, "death")]


def test_protobuf_takes_name_and_signedness_from_the_birth(tmp_path: Path) -> None:
    batch = batch_of(
        (BIRTH_KEY, birth("level", kind=3)),
        (DATA_KEY, data(int_value=2**32 - 5)),
        (DATA_KEY, data(is_null=True, is_historical=True)),
        (DATA_KEY, b"\x12\xff\xff\xff"),
        (BIRTH_KEY, birth("level").replace(b"level", b"l\x80vel")),
    )
    found = decoder("sparkplug", tmp_path).decode(batch)
    assert [row.get("level") for row in rows(found)] == [1.0, -5.0, None]
    assert rows(found)[1]["event_time"] == 1638223074_000_000_000
    assert found.counts["historical"] == 1
    assert reasons(found) == [(3, "not_sparkplug"), (4, "not_sparkplug")]


def test_births_survive_a_restart_and_old_offsets_keep_their_old_names(tmp_path: Path) -> None:
    stream = [
        (BIRTH_KEY, birth("old")),
        (DATA_KEY, data(float_value=2.0)),
        (BIRTH_KEY, birth("new")),
        (DATA_KEY, data(float_value=3.0)),
    ]
    first = rows(decoder("sparkplug", tmp_path).decode(batch_of(*stream)))
    again = rows(decoder("sparkplug", tmp_path).decode(batch_of(*stream[1:], first=1)))
    assert again == first[1:]
    assert (again[0]["old"], again[2]["new"]) == (2.0, 3.0)


def test_a_scorer_knows_the_births_that_ingestion_has_seen_and_keeps_its_own_after(tmp_path: Path) -> None:
    ingesting, scoring = tmp_path / "data", tmp_path / "data" / "scoring"
    decoder("sparkplug", ingesting).decode(batch_of((BIRTH_KEY, birth("old"))))
    before = {path: path.read_bytes() for path in ingesting.rglob("*.json")}
    first = decoder("sparkplug", scoring, learned_from=ingesting)
    assert rows(first.decode(batch_of((DATA_KEY, data(float_value=2.0)), first=1)))[0]["old"] == 2.0
    first.decode(batch_of((BIRTH_KEY, birth("new")), first=2))
    again = decoder("sparkplug", scoring, learned_from=ingesting)
    found = rows(again.decode(batch_of((DATA_KEY, data(float_value=3.0)), first=3)))
    assert found[0]["new"] == 3.0
    assert {path: path.read_bytes() for path in before} == before


def test_a_node_birth_serves_its_devices_and_never_another_node(tmp_path: Path) -> None:
    batch = batch_of(
        ("spBv1.0/G1/NBIRTH/E1", birth("shared")),
        (DATA_KEY, data(float_value=4.0)),
        ("spBv1.0/G1/DDATA/E2/D1", data(float_value=4.0)),
    )
    found = decoder("sparkplug", tmp_path).decode(batch)
    assert [(row["asset"], row["shared"]) for row in rows(found)] == [("E1", 1.0), ("E1/D1", 4.0)]
    assert reasons(found) == [(2, "waiting_for_birth")]


def test_metric_names_and_topics_never_become_paths(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    key = "spBv1.0/../DBIRTH/../../etc"
    decoder("sparkplug", folder).decode(batch_of((key, birth("../../../escape"))))
    assert [p.relative_to(folder).as_posix() for p in tmp_path.rglob("*") if p.is_file()] == [
        "decoders/plant/t/p0.json"
    ]


def packed(inner: bytes, algorithm: str, how: str) -> bytes:
    """A compressed envelope as Eclipse Tahu writes it."""
    bits = {"zlib": 15, "raw": -15, "gzip": 31}[how]
    packer = zlib.compressobj(wbits=bits)
    outer = Payload(timestamp=1638223075000, seq=9, uuid="SPBV1.0_COMPRESSED")
    outer.body = packer.compress(inner) + packer.flush()
    if algorithm:
        outer.metrics.add(name="algorithm", datatype=12, string_value=algorithm)
    return bytes(outer.SerializeToString())


@pytest.mark.parametrize(
    ("algorithm", "how"),
    [("DEFLATE", "zlib"), ("DEFLATE", "raw"), ("GZIP", "gzip"), ("gzip", "gzip"), ("", "gzip"), ("", "zlib")],
)
def test_a_compressed_payload_is_the_payload_inside(tmp_path: Path, algorithm: str, how: str) -> None:
    plain = [birth("level"), data(float_value=2.5)]
    keys = [BIRTH_KEY, DATA_KEY]
    expected = decoder("sparkplug", tmp_path / "a").decode(batch_of(*zip(keys, plain, strict=True)))
    sent = [packed(value, algorithm, how) for value in plain]
    found = decoder("sparkplug", tmp_path / "b").decode(batch_of(*zip(keys, sent, strict=True)))
    assert rows(found) == rows(expected) and [row["level"] for row in rows(found)] == [1.0, 2.5]


def test_a_compressed_json_payload_is_read_too(tmp_path: Path) -> None:
    body = base64.b64encode(zlib.compress(birth("level"))).decode()
    sent = {
        "uuid": "SPBV1.0_COMPRESSED",
        "body": body,
        "metrics": [{"name": "algorithm", "value": "DEFLATE"}],
    }
    found = decoder("sparkplug", tmp_path).decode(batch_of((BIRTH_KEY, json.dumps(sent).encode())))
    assert rows(found)[0]["level"] == 1.0


def test_what_cannot_be_inflated_within_bounds_costs_itself(tmp_path: Path) -> None:
    whole = packed(birth("level"), "DEFLATE", "zlib")
    bomb = packed(b"\x00" * 300_000_000, "GZIP", "gzip")
    sent = [
        packed(birth("level"), "BROTLI", "zlib"),
        packed(birth("level"), "GZIP", "zlib"),
        packed(whole, "DEFLATE", "zlib"),
        packed(b"no payload", "DEFLATE", "zlib"),
        bomb,
        Payload(
            timestamp=1, uuid="SPBV1.0_COMPRESSED", body=zlib.compress(birth("x"))[:-8]
        ).SerializeToString(),
        whole,
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    found = decoder("sparkplug", tmp_path).decode(batch_of(*((BIRTH_KEY, value) for value in sent)))
    assert reasons(found) == [
        *((i, "not_sparkplug") for i in range(4)),
        (4, "too_large"),
        (5, "not_sparkplug"),
    ]
    assert len(rows(found)) == 1 and len(bomb) < 1 << 20
    assert time.process_time() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def templated(definition: bool = False, **members: float) -> Any:
    payload = Payload(timestamp=1638223073000, seq=1)
    metric = payload.metrics.add(name="pump", alias=7, datatype=19, timestamp=1638223073500)
    metric.template_value.is_definition = definition
    for alias, (name, value) in enumerate(members.items(), 20):
        metric.template_value.metrics.add(name=name, alias=alias, datatype=10, double_value=value)
    return payload


def test_members_of_templates_are_sensors_and_definitions_are_counted(tmp_path: Path) -> None:
    born = templated(speed=10.0, load=2.0)
    inner = born.metrics[0].template_value.metrics.add(name="motor", datatype=19)
    inner.template_value.metrics.add(name="amps", datatype=10, double_value=3.0)
    later = Payload(timestamp=1638223080000)
    later.metrics.add(alias=7, datatype=19).template_value.metrics.add(name="speed", double_value=11.0)
    by_alias = Payload(timestamp=1638223081000)
    by_alias.metrics.add(alias=21, double_value=4.0)
    as_json = {
        "timestamp": 1638223082000,
        "metrics": [
            {"name": "pump", "dataType": "Template", "value": {"metrics": [{"name": "speed", "value": 12}]}}
        ],
    }
    defined = templated(definition=True, speed=0.0)
    defined.metrics.add(name="level", double_value=1.0)
    sent = [
        (BIRTH_KEY, bytes(born.SerializeToString())),
        (DATA_KEY, bytes(later.SerializeToString())),
        (DATA_KEY, bytes(by_alias.SerializeToString())),
        (DATA_KEY, json.dumps(as_json).encode()),
        (DATA_KEY, bytes(defined.SerializeToString())),
    ]
    found = decoder("sparkplug", tmp_path).decode(batch_of(*sent))
    own = ("offset", "event_time", "asset", "seq", "quality")
    assert [{n: v for n, v in row.items() if n not in own} for row in rows(found)] == [
        {"pump/speed": 10.0, "pump/load": 2.0, "pump/motor/amps": 3.0},
        {"pump/speed": 11.0},
        {"pump/load": 4.0},
        {"pump/speed": 12.0},
        {"level": 1.0},
    ]
    assert rows(found)[0]["event_time"] == 1638223073_500_000_000
    assert found.counts["template_definition"] == 1 and not found.rejects


def test_templates_without_end_are_refused(tmp_path: Path) -> None:
    payload = Payload(timestamp=1638223073000)
    metric = payload.metrics.add(name="t")
    for _ in range(12):
        metric = metric.template_value.metrics.add(name="t")
    metric.double_value = 1.0
    found = decoder("sparkplug", tmp_path).decode(batch_of((BIRTH_KEY, bytes(payload.SerializeToString()))))
    assert reasons(found) == [(0, "too_deep")]


def test_data_sets_are_counted_and_alone_refused(tmp_path: Path) -> None:
    mixed, alone = Payload(timestamp=1638223073000), Payload(timestamp=1638223073000)
    for payload in (mixed, alone):
        payload.metrics.add(name="table", datatype=16, dataset_value=b"\x08\x01\x12\x01a")
    mixed.metrics.add(name="level", double_value=1.0)
    as_json = {
        "timestamp": 1638223082000,
        "metrics": [{"name": "table", "dataType": "DataSet", "value": {"columns": ["a"], "rows": [[1]]}}],
    }
    sent = [bytes(mixed.SerializeToString()), bytes(alone.SerializeToString()), json.dumps(as_json).encode()]
    found = decoder("sparkplug", tmp_path).decode(batch_of(*((DATA_KEY, value) for value in sent)))
    assert [row.get("level") for row in rows(found)] == [1.0] and "table" not in found.readings.column_names
    assert reasons(found) == [(1, "no_values"), (2, "no_values")]
    assert found.counts["data_set"] == 1  # what refused messages hold is in the letter


def test_arrays_are_sensors_by_place_and_other_bytes_are_no_numbers(tmp_path: Path) -> None:
    payload = Payload(timestamp=1638223073000)
    payload.metrics.add(name="f", datatype=30, bytes_value=struct.pack("<2f", 1.5, -2.0))
    payload.metrics.add(name="i", datatype=24, bytes_value=struct.pack("<i", -7))
    payload.metrics.add(name="b", datatype=32, bytes_value=struct.pack("<I", 3) + b"\xa0")
    payload.metrics.add(name="cut", datatype=31, bytes_value=b"1234567")
    payload.metrics.add(name="file", datatype=18, bytes_value=b"12")
    payload.metrics.add(name="untyped", bytes_value=b"12")
    found = decoder("sparkplug", tmp_path).decode(batch_of((BIRTH_KEY, bytes(payload.SerializeToString()))))
    own = ("offset", "event_time", "asset")
    assert [{n: v for n, v in row.items() if n not in own} for row in rows(found)] == [
        {"f[0]": 1.5, "f[1]": -2.0, "i[0]": -7.0, "b[0]": 1.0, "b[1]": 0.0, "b[2]": 1.0}
    ]
    assert found.counts["not_a_number"] == 3
