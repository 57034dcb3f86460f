"""EdgeX Foundry events, v2 and v3: bare, in an add-event request, or in a message-bus envelope (payload as object or base64).

Values are text in exponent notation; arrays become `name[0]`, `name[1]`, ... Readings of one device and origin are one row.
"""

import base64
import binascii
from typing import Any

import orjson

from ingestion.decode.messages import Message, MessageDecoder, asset_text, load_json, raw_time
from ingestion.decode.rows import Refused, Row
from ingestion.settings import IngestSettings

_NOT_NUMBERS = ("String", "StringArray", "Binary", "Object", "ObjectArray")


class EdgeX(MessageDecoder):
    """Decoder of one partition; keeps nothing between messages."""

    def read(self, message: Message) -> list[Row]:
        """See `MessageDecoder.read`."""
        content = load_json(message.value)
        items = content if isinstance(content, list) else [content]
        self.bounded(len(items))
        rows: list[Row] = []
        for item in items:
            rows += self._event(_event(item))
            self.bounded(len(rows))
        return rows

    def _event(self, event: dict[str, Any]) -> list[Row]:
        readings = event.get("readings")
        if not isinstance(readings, list):
            raise Refused("wrong_shape", "expected a list as readings of the event")
        self.bounded(len(readings))
        rows: dict[Any, Row] = {}
        for reading in readings:
            if not isinstance(reading, dict) or not isinstance(reading.get("resourceName"), str):
                raise Refused("wrong_shape", "expected readings with a text as resourceName")
            time = raw_time(reading.get("origin", event.get("origin")))
            asset = asset_text(reading.get("deviceName") or event.get("deviceName"))
            row = rows.get((time, asset))
            if row is None:
                row = rows[time, asset] = Row(time, asset, None, None)
            self.put_any(row, reading["resourceName"], self._value(reading))
        return list(rows.values())

    def _value(self, reading: dict[str, Any]) -> Any:
        kind, value = reading.get("valueType"), reading.get("value")
        if kind == "String" and isinstance(value, str) and reading["resourceName"] in self.rules.states:
            return value
        if kind in _NOT_NUMBERS:
            self.counts["not_a_number"] += 1
            return None
        if isinstance(kind, str) and kind.endswith("Array") and isinstance(value, str):
            try:
                found = orjson.loads(value)
            except orjson.JSONDecodeError:
                found = value.strip("[] ").split(",")
            return found if isinstance(found, list) else [found]
        if isinstance(value, str):
            try:
                return float(value)  # the format's own notation, no repair to be counted
            except ValueError:
                pass
        return value


def _event(item: Any) -> dict[str, Any]:
    for _ in range(4):
        if not isinstance(item, dict):
            break
        if "readings" in item:
            return item
        inner = item.get("event", item.get("payload"))
        if isinstance(inner, str):
            try:
                inner = load_json(base64.b64decode(inner, validate=True))
            except (binascii.Error, ValueError):
                raise Refused("wrong_shape", "the envelope's payload is not base64") from None
        item = inner
    raise Refused("wrong_shape", "expected an EdgeX event with readings")


def build(settings: IngestSettings) -> EdgeX:
    """The decoder for one partition."""
    return EdgeX(settings.decode, settings.event_time, settings.limits)
