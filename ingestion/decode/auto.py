"""Recognise a partition's format from its first records, say which, and keep to it, also after a restart."""

import logging
from collections import Counter
from dataclasses import replace
from typing import Any

from ingestion import decode as formats
from ingestion.decode.memory import Memory
from ingestion.decode.messages import load_json, narrow_fields
from ingestion.decode.rows import TIME_FIELDS, Refused
from ingestion.decode.sparkplugmetric import COMPRESSED
from ingestion.decode.sparkplugpb import Payload
from ingestion.decode.uns import split_path
from ingestion.records import Decoded, RecordBatch
from ingestion.settings import IngestSettings

_LOG = logging.getLogger("ingestion.decode")
_SAMPLE = 200
_LONGEST = 256 << 10
_SURE = 5


class Auto:
    """Decoder of one partition; `chosen` is the format's name once known. Until then messages are read as flat JSON."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._decoder: formats.Decoder | None = None
        self.chosen = ""

    def decode(self, batch: RecordBatch) -> Decoded:
        """See `ingestion.decode.Decoder`. Raises StorageError if the choice cannot be kept."""
        if self._decoder is None:
            self.chosen = self._choose(batch)
            rules = replace(self._settings.decode, format=self.chosen or "flat")
            decoder = formats.build_decoder(replace(self._settings, decode=rules))
            if not self.chosen:
                return decoder.decode(batch)
            self._decoder = decoder
        return self._decoder.decode(batch)

    def _choose(self, batch: RecordBatch) -> str:
        memory = Memory(self._settings.data_dir, batch, self._settings.decode.learned_from)
        saved = memory.load()
        known = saved.get("format")
        if known in formats.FORMATS and known != "auto":
            return str(known)
        name, votes = recognise(batch.keys, batch.values, batch.topic)
        if name:
            memory.save({**saved, "format": name})
            _LOG.info(
                "%s/%d: recognised format %s from %d of the first %d records; set `format` to decide otherwise",
                batch.topic,
                batch.partition,
                name,
                votes,
                min(len(batch.values), _SAMPLE),
            )
        return name


def recognise(keys: list[bytes | None], values: list[bytes | None], topic: str) -> tuple[str, int]:
    """`(format, records that speak for it)` of the first records; an empty name if none is readable."""
    votes: Counter[str] = Counter()
    for key, value in zip(keys[:_SAMPLE], values[:_SAMPLE], strict=True):
        if value and len(value) <= _LONGEST:
            name = _recognise_one(key, value, topic)
            if name:
                votes[name] += 1
    return votes.most_common(1)[0] if votes else ("", 0)


def _recognise_one(key: bytes | None, value: bytes, topic: str) -> str:
    path = (key or b"")[:1024].decode("utf-8", "replace")
    if value[0] == 0 and len(value) > _SURE:
        return "avro"
    if value.lstrip()[:1] not in (b"{", b"["):
        return _not_json(path, value)
    try:
        content = load_json(value)
    except Refused:
        return ""
    item = content[0] if isinstance(content, list) and content else content
    if not isinstance(item, dict):
        return ""
    if split_path(path) or split_path(topic):
        return "uns"
    return _by_fields(item, path)


def _by_fields(item: dict[str, Any], path: str) -> str:
    payload = item.get("payload")
    if path.startswith("spBv1.0/") or isinstance(item.get("metrics"), list):
        return "sparkplug"
    if isinstance(payload, dict) and isinstance(payload.get("metrics"), list):
        return "sparkplug"
    if str(item.get("MessageType", "")).startswith("ua-") or (
        isinstance(item.get("Payload"), dict) and ("DataSetWriterId" in item or "DataSetWriterName" in item)
    ):
        return "opcua"
    if any(
        isinstance(part, dict) and isinstance(part.get("readings"), list)
        for part in (item, item.get("event"), payload)
    ):
        return "edgex"
    return "narrow" if narrow_fields(item) else "flat"


def _not_json(path: str, value: bytes) -> str:
    if path.startswith("spBv1.0/"):
        return "sparkplug"
    try:
        line = value.decode("utf-8-sig").splitlines()[0]
    except (UnicodeDecodeError, IndexError):
        line = ""
    if line.isprintable() or "\t" in line:
        fields = line.replace(";", ",").replace("\t", ",").split(",")
        if len(fields) >= 3 or (len(fields) == 2 and any(name in TIME_FIELDS for name in fields)):
            return "csv"
    try:
        found = Payload.FromString(value)
    except Exception:  # hostile bytes: the parser's own error types differ by version
        return ""
    known = found.metrics and found.HasField("timestamp")
    return "sparkplug" if known or found.uuid == COMPRESSED else ""


def build(settings: IngestSettings) -> Auto:
    """The decoder for one partition."""
    return Auto(settings)
