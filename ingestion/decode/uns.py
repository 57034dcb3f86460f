"""Unified Namespace: `umh.v1.<enterprise>.<site>.<area>.<line>..._<contract>.<tag>` as record key or topic.

The asset is the location before the contract, the sensor is the tag behind it. The payload has one time and, by the
convention, one `value`; other names beside the time become sensors below the tag.
"""

from typing import Any

from ingestion.decode.messages import MAX_ARRAY, Message, MessageDecoder, load_json, raw_time
from ingestion.decode.rows import TIME_FIELDS, Refused, Row
from ingestion.settings import IngestSettings

_DEPTH = 8


class UnifiedNamespace(MessageDecoder):
    """Decoder of one partition; keeps nothing between messages."""

    def read(self, message: Message) -> list[Row]:
        """See `MessageDecoder.read`."""
        content = load_json(message.value)
        if not isinstance(content, dict):
            raise Refused("wrong_shape", f"expected an object, found {type(content).__name__}")
        location, tag = split_path(message.path) or split_path(message.topic) or (None, "")
        if location is None:
            raise Refused("no_path", "neither key nor topic is umh.v1.<location>._<contract>.<tag>")
        time = next((content[name] for name in TIME_FIELDS if content.get(name) is not None), None)
        row = Row(raw_time(time), location, None, None)
        for name, raw in content.items():
            if name not in TIME_FIELDS:
                below = tag if name == "value" and tag else f"{tag}.{name}".lstrip(".")
                self._add(row, below, raw, _DEPTH)
        if not row.sensors and not row.dropped:
            raise Refused("no_values", "no value beside the time")
        return [row]

    def _add(self, row: Row, name: str, raw: Any, depth: int) -> None:
        if isinstance(raw, dict):
            if depth == 0 or len(raw) > MAX_ARRAY:
                raise Refused(
                    "too_deep", f"{name[:80]!r}: nested deeper than {_DEPTH} or wider than {MAX_ARRAY}"
                )
            for inner, value in raw.items():
                self._add(row, f"{name}.{inner}", value, depth - 1)
        else:
            self.put_any(row, name, raw)


def split_path(path: str) -> tuple[str, str] | None:
    """`(location, tag)` of a path separated by dots or slashes, None if it is not of this form."""
    parts = path.replace("/", ".").split(".")
    if parts[:2] != ["umh", "v1"]:
        return None
    at = next((i for i, part in enumerate(parts) if i > 2 and part.startswith("_")), None)
    if at is None:
        return None
    return ".".join(parts[2:at])[:256], ".".join(parts[at + 1 :])


def build(settings: IngestSettings) -> UnifiedNamespace:
    """The decoder for one partition."""
    return UnifiedNamespace(settings.decode, settings.event_time, settings.limits)
