"""Messages per second of every decoder, one process, batches of 5,000 as the consumer hands them over.

    python benchmarks/decoding.py [--messages 50000] [--json]

Each message carries 5 sensors (one where the format is narrow), 40 assets take turns. Time is from bytes to the readings
table, the best of three passes, without Kafka and without windows. Avro schemas come from a folder.
"""

import argparse
import io
import json
import platform
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastavro
import numpy as np

from ingestion.decode import build_decoder
from ingestion.decode.sparkplugpb import Payload
from ingestion.records import RecordBatch
from ingestion.settings import DecodeRules, IngestSettings, Site

START_MS = 1_733_904_000_000
BATCH = 5_000
NAMES = ("temperature", "vibration", "pressure", "current", "speed")
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "SensorReading",
    "fields": [
        {"name": "asset", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        *({"name": name, "type": ["null", "double"]} for name in NAMES),
        {"name": "quality", "type": "int"},
        {"name": "seq", "type": "long"},
    ],
}
PARSED = fastavro.parse_schema(SCHEMA)
Made = tuple[str, bytes]


def _ts(i: int) -> int:
    """Event time, ms: a second between the readings of one of 40 assets."""
    return START_MS + i * 25


def _values(i: int) -> dict[str, float]:
    return {name: round(20.0 + k + (i * 37 % 1000) / 311, 4) for k, name in enumerate(NAMES)}


def _asset(i: int) -> str:
    return f"pump-{i % 40:02d}"


def _text(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _iso(i: int) -> str:
    return str(np.datetime64(_ts(i), "ms")) + "0000Z"


def _flat(i: int) -> Made:
    body = {"asset": _asset(i), "ts": _ts(i), "values": _values(i), "quality": 192, "seq": i}
    return "", _text(body)


def _narrow(i: int) -> Made:
    name = NAMES[i % 5]
    return "", _text({"asset": _asset(i), "ts": _ts(i), "sensor": name, "value": _values(i)[name]})


def _csv(i: int) -> Made:
    values = ",".join(map(str, _values(i).values()))
    return "", f"timestamp,asset,{','.join(NAMES)}\n{_ts(i)},{_asset(i)},{values}\n".encode()


def _sparkplug_json(i: int) -> Made:
    metrics = [
        {"name": n, "timestamp": _ts(i), "dataType": "Double", "value": v} for n, v in _values(i).items()
    ]
    return f"spBv1.0/G/DDATA/E/{_asset(i)}", _text({"timestamp": _ts(i), "metrics": metrics, "seq": i % 256})


def _sparkplug(i: int) -> Made:
    kind = "DBIRTH" if i < 40 else "DDATA"
    payload = Payload(timestamp=_ts(i), seq=i % 256)
    for alias, (name, value) in enumerate(_values(i).items()):
        named = {"name": name, "datatype": 10} if i < 40 else {}
        payload.metrics.add(alias=alias, timestamp=_ts(i), double_value=value, **named)
    return f"spBv1.0/G/{kind}/E/{_asset(i)}", bytes(payload.SerializeToString())


def _opcua(i: int) -> Made:
    payload = {name: {"Value": value, "SourceTimestamp": _iso(i)} for name, value in _values(i).items()}
    part = {
        "DataSetWriterName": _asset(i),
        "SequenceNumber": i,
        "MessageType": "ua-deltaframe",
        "Timestamp": _iso(i),
        "Payload": payload,
    }
    return "", _text(
        {"MessageId": str(i), "MessageType": "ua-data", "PublisherId": "plc", "Messages": [part]}
    )


def _uns(i: int) -> Made:
    name = NAMES[i % 5]
    path = f"umh.v1.acme.plant.press.{_asset(i)}._historian.{name}"
    return path, _text({"timestamp_ms": _ts(i), "value": _values(i)[name]})


def _edgex(i: int) -> Made:
    origin = (_ts(i)) * 1_000_000
    readings = [
        {
            "origin": origin,
            "deviceName": _asset(i),
            "resourceName": n,
            "valueType": "Float64",
            "value": f"{v:e}",
        }
        for n, v in _values(i).items()
    ]
    return "", _text({"apiVersion": "v3", "deviceName": _asset(i), "origin": origin, "readings": readings})


def _avro(i: int) -> Made:
    body = io.BytesIO()
    record = {"asset": _asset(i), "ts": _ts(i), **_values(i), "quality": 192, "seq": i}
    fastavro.schemaless_writer(body, PARSED, record)
    return "", struct.pack(">bI", 0, 1) + body.getvalue()


FORMATS: dict[str, tuple[str, Callable[[int], Made]]] = {
    "flat": ("flat", _flat),
    "narrow": ("narrow", _narrow),
    "csv": ("csv", _csv),
    "sparkplug_protobuf": ("sparkplug", _sparkplug),
    "sparkplug_json": ("sparkplug", _sparkplug_json),
    "opcua": ("opcua", _opcua),
    "uns": ("uns", _uns),
    "edgex": ("edgex", _edgex),
    "avro": ("avro", _avro),
}


def _batches(made: list[Made]) -> list[RecordBatch]:
    batches = []
    for at in range(0, len(made), BATCH):
        part = made[at : at + BATCH]
        offsets = np.arange(at, at + len(part), dtype=np.int64)
        keys = [key.encode() or None for key, _ in part]
        values: list[bytes | None] = [value for _, value in part]
        batches.append(RecordBatch("s", "t", 0, offsets, START_MS + offsets, keys, values, at + len(part)))
    return batches


def measure(messages: int) -> dict[str, dict[str, float]]:
    """Per format: messages and values a second, and bytes a message."""
    found = {}
    for label, (name, make) in FORMATS.items():
        made = [make(i) for i in range(messages)]
        batches, best, values = _batches(made), float("inf"), 0
        for _ in range(3):
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "1.avsc").write_text(json.dumps(SCHEMA))
                rules = DecodeRules(format=name, schema_registry=folder)
                decoder = build_decoder(IngestSettings((Site("s"),), "-", Path(folder), decode=rules))
                began = time.perf_counter()
                decoded = [decoder.decode(batch) for batch in batches]
                best = min(best, time.perf_counter() - began)
            assert sum(d.readings.num_rows for d in decoded) == messages, (label, decoded[0].rejects[:1])
            values = sum(
                d.readings.column(n).length() - d.readings.column(n).null_count
                for d in decoded
                for n in d.readings.column_names[5:]
            )
        found[label] = {
            "messages_per_s": round(messages / best),
            "values_per_s": round(values / best),
            "bytes_per_message": round(sum(len(v) for _, v in made) / messages),
        }
    return found


def main() -> None:
    """Print the figures, as a table or with `--json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    formats = measure(asked.messages)
    if asked.json:
        print(
            json.dumps(
                {"messages": asked.messages, "machine": platform.machine(), "formats": formats}, indent=2
            )
        )
        return
    for label, figures in formats.items():
        print(
            f"{label:20} {figures['messages_per_s']:>9,} messages/s {figures['values_per_s']:>10,} values/s"
        )


if __name__ == "__main__":
    main()
