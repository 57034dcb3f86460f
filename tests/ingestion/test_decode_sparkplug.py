import json
from pathlib import Path

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
