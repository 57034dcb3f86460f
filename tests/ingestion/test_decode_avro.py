import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fastavro
import pytest

from ingestion.errors import BrokerUnavailable, InputDataError
from tests.ingestion.decoding import batch_of, decoder, reasons, rows

SCHEMA = {
    "type": "record",
    "name": "SensorReading",
    "fields": [
        {"name": "asset", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "temperature", "type": ["null", "double"]},
        {"name": "vibration", "type": ["null", "double"]},
        {"name": "quality", "type": "int"},
        {"name": "seq", "type": "long"},
    ],
}
READING = {
    "asset": "pump-03",
    "ts": 1733904005123,
    "temperature": 71.25,
    "vibration": None,
    "quality": 192,
    "seq": 7,
}
EXPECTED = {
    "offset": 0,
    "event_time": 1733904005_123_000_000,
    "asset": "pump-03",
    "seq": 7,
    "quality": 192,
    "temperature": 71.25,
}


def encoded(number: int = 5, **changed: Any) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(SCHEMA), {**READING, **changed})
    return b"\0" + number.to_bytes(4, "big") + body.getvalue()


@pytest.fixture
def registry() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            known = self.path == "/schemas/ids/5"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"schema": json.dumps(SCHEMA)}).encode() if known else b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_schemas_come_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "5.avsc").write_text(json.dumps(SCHEMA))
    found = decoder("avro", tmp_path, schema_registry=str(tmp_path)).decode(
        batch_of(encoded(), encoded(6), encoded()[:-1], encoded() + b"x", b"{}")
    )
    assert rows(found) == [EXPECTED]
    assert reasons(found) == [(1, "unknown_schema"), (2, "not_avro"), (3, "not_avro"), (4, "not_avro")]


def test_schemas_come_from_a_registry_and_are_asked_for_once(
    tmp_path: Path, registry: tuple[str, list[str]]
) -> None:
    url, asked = registry
    reader = decoder("avro", tmp_path, schema_registry=url)
    for _ in range(2):
        found = reader.decode(batch_of(encoded(), encoded(6)))
        assert rows(found) == [EXPECTED]
        assert reasons(found) == [(1, "unknown_schema")]
    assert asked == ["/schemas/ids/5", "/schemas/ids/6"]


def test_an_absent_registry_stops_instead_of_refusing_good_messages(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="schema registry"):
        decoder("avro", tmp_path, schema_registry="http://127.0.0.1:9").decode(batch_of(encoded()))
    with pytest.raises(InputDataError, match="schema_registry"):
        decoder("avro", tmp_path)


@pytest.mark.parametrize(
    "field",
    [
        {"type": "array", "items": "null"},
        {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}},
        ["null", "SensorReading"],
    ],
)
def test_schemas_that_allow_endless_work_are_refused(tmp_path: Path, field: Any) -> None:
    schema = {**SCHEMA, "fields": [{"name": "bomb", "type": field}]}
    (tmp_path / "5.avsc").write_text(json.dumps(schema))
    found = decoder("avro", tmp_path, schema_registry=str(tmp_path)).decode(batch_of(encoded()))
    assert reasons(found) == [(0, "bad_schema")]
