"""Recognise a partition's format from its first records, say which, and keep to it, also after a restart."""

import logging
from collections import Counter
from collections.abc import Sequence
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
_SAMPLE, _ENOUGH = 200, 20
_LONGEST = 256 << 10
_SURE = 5


class Auto:
    """Decoder of one partition; `chosen` is the format's name, empty until a record is recognised, which is flat JSON until then.

    The choice stands once `_ENOUGH` records are recognised, or `_SAMPLE` looked at: one odd message at the start of a topic must not
    decide how all others are read. Until then most votes so far decide.
    """

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._decoder: formats.Decoder | None = None
        self._votes: Counter[str] = Counter()
        self._looked = 0
        self._stands = False
        self.chosen = ""

    def decode(self, batch: RecordBatch) -> Decoded:
        """See `ingestion.decode.Decoder`. Raises StorageError if the choice cannot be kept."""
        if not self._stands:
            self._look(batch)
        assert self._decoder is not None
        return self._decoder.decode(batch)

    def _look(self, batch: RecordBatch) -> None:
        memory = Memory(self._settings.data_dir, batch, self._settings.decode.learned_from)
        saved = memory.load()
        known = saved.get("format")
        if known in formats.FORMATS and known != "auto":
            self._stands = True
            self._read_as(str(known))
            return
        left = _SAMPLE - self._looked
        self._votes += recognised(batch.keys[:left], batch.values[:left], batch.topic)
        if not self._settings.decode.schema_registry:
            del self._votes["avro"]
        self._looked += min(left, len(batch.values))
        name, votes = self._votes.most_common(1)[0] if self._votes else ("", 0)
        self._stands = bool(name) and (self._votes.total() >= _ENOUGH or self._looked >= _SAMPLE)
        self._read_as(name)
        if self._stands:
            memory.save({**saved, "format": name})
            _LOG.info(
                "%s/%d: recognised format %s from %d of the first %d records; set `format` to decide otherwise",
                batch.topic,
                batch.partition,
                name,
                votes,
                self._looked,
            )

    def _read_as(self, name: str) -> None:
        if self._decoder is None or name != self.chosen:
            rules = replace(self._settings.decode, format=name or "flat")
            self._decoder = formats.build_decoder(replace(self._settings, decode=rules))
            self.chosen = name


def recognised(keys: Sequence[bytes | None], values: Sequence[bytes | None], topic: str) -> Counter[str]:
    """By format the records that speak for it."""
    votes: Counter[str] = Counter()
    for key, value in zip(keys, values, strict=True):
        if value and len(value) <= _LONGEST:
            name = _recognise_one(key, value, topic)
            if name:
                votes[name] += 1
    return votes


def recognise(keys: list[bytes | None], values: list[bytes | None], topic: str) -> tuple[str, int]:
    """`(format, records that speak for it)` of the first records; an empty name if none is readable."""
    votes = recognised(keys[:_SAMPLE], values[:_SAMPLE], topic)
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
