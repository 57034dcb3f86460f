"""OPC UA PubSub JSON (Part 14): network messages, lists of data set messages, or a single one; key and delta frames alike.

A delta frame lists only what changed; what it omits stays unknown here, and later steps hold the last value. Fields of one
source time become one row. Status codes become OPC quality: good 192, uncertain 64, bad 0 and no value.
"""

from typing import Any

from ingestion.decode.messages import BAD, GOOD, UNCERTAIN, Message, MessageDecoder, load_json, raw_time
from ingestion.decode.rows import Refused, Row
from ingestion.settings import IngestSettings

_FRAMES = ("ua-keyframe", "ua-deltaframe", "ua-event")


class OpcUa(MessageDecoder):
    """Decoder of one partition; keeps nothing between messages."""

    def read(self, message: Message) -> list[Row]:
        """See `MessageDecoder.read`."""
        content = load_json(message.value)
        publisher: Any = None
        if isinstance(content, dict):
            kind = content.get("MessageType")
            if kind == "ua-metadata" or "MetaData" in content:
                raise Refused("metadata", "a ua-metadata message carries no reading")
            publisher = content.get("PublisherId")
            parts = content.get("Messages", content) if kind in (None, "ua-data", *_FRAMES) else None
            if parts is None:
                raise Refused("no_values", f"MessageType {str(kind)[:40]!r} carries no reading")
        else:
            parts = content
        parts = parts if isinstance(parts, list) else [parts]
        self.bounded(len(parts))
        rows = [row for part in parts for row in self._data_set(part, publisher)]
        if not rows:
            raise Refused("keepalive", "keep-alive or empty frames carry no reading")
        return rows

    def _data_set(self, part: Any, publisher: Any) -> list[Row]:
        if not isinstance(part, dict):
            raise Refused("wrong_shape", f"expected a data set message, found {type(part).__name__}")
        if part.get("MessageType") == "ua-keepalive":
            return []
        fields = part.get("Payload")
        if not isinstance(fields, dict):
            raise Refused("wrong_shape", "expected an object as Payload of a data set message")
        asset = _asset(part, publisher)
        sequence = self.whole(part.get("SequenceNumber"), "seq", 63)
        frame_time = raw_time(part.get("Timestamp"))
        overall = _quality(part.get("Status"))
        rows: dict[Any, Row] = {}
        poor: dict[Any, int] = {}
        for name, field in fields.items():
            value, status, time = field, None, frame_time
            if isinstance(field, dict):
                value = field.get("Value", field.get("Body"))
                status = _quality(field.get("StatusCode"))
                found = field.get("SourceTimestamp") or field.get("ServerTimestamp")
                time = frame_time if found is None else raw_time(found)
                if isinstance(value, dict) and "Body" in value:
                    value = value["Body"]
            row = rows.get(time)
            if row is None:
                row = rows[time] = Row(time, asset, sequence, None)
            quality = min(q for q in (overall, status, GOOD) if q is not None)
            if quality < UNCERTAIN:
                self.counts["bad_quality_value"] += 1
                poor[time] = quality
                value = None
            else:
                row.quality = quality if row.quality is None else min(row.quality, quality)
            self.put_any(row, str(name), value)
        for time, quality in poor.items():
            if rows[time].quality is None:
                rows[time].quality = quality
        return [row for row in rows.values() if row.sensors or row.dropped]


def _asset(part: dict[str, Any], publisher: Any) -> str | None:
    name = part.get("DataSetWriterName")
    if isinstance(name, str) and name:
        return name[:256]
    writer = part.get("DataSetWriterId")
    known = [str(p)[:200] for p in (publisher, writer) if isinstance(p, (str, int)) and p != ""]
    return "/".join(known)[:256] or None


def _quality(status: Any) -> int | None:
    if isinstance(status, dict):
        status = status.get("Code", 0)
    if isinstance(status, str) and status.isascii() and status.isdigit() and len(status) < 12:
        status = int(status)
    if type(status) is not int or not 0 <= status < 2**32:
        return None if status is None else BAD
    return (GOOD, UNCERTAIN, BAD, BAD)[status >> 30]


def build(settings: IngestSettings) -> OpcUa:
    """The decoder for one partition."""
    return OpcUa(settings.decode, settings.event_time, settings.limits)
