"""Sparkplug B, protobuf as sent over MQTT or JSON as bridges write it, in any mix.

The topic is read from the payload's `topic` or from the record key. A metric that carries only an alias gets its name and
data type from the birth before it; a message in which one cannot be resolved is refused whole as `waiting_for_birth`.
Deaths are recorded by being refused as `death`; the aliases stay, since late data of before the death may follow.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ingestion.decode import sparkplugjson, sparkplugpb
from ingestion.decode.births import Births
from ingestion.decode.memory import Memory
from ingestion.decode.messages import Message, MessageDecoder, load_json, raw_time
from ingestion.decode.rows import BYTE_ORDER_MARK, Refused, Row
from ingestion.decode.sparkplugjson import split_json
from ingestion.decode.sparkplugmetric import Content, Metric, inflated, unpacked
from ingestion.records import Decoded, RecordBatch
from ingestion.settings import DecodeRules, EventTimeRules, IngestSettings, Limits

_TYPES = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH", "NCMD", "DCMD", "STATE")
_SIGNED = {"Int8": 8, "Int16": 16, "Int32": 32, "Int64": 64, 1: 8, 2: 16, 3: 32, 4: 64}
_TEXTUAL = ("String", "Text", "UUID", "Bytes", "File", "Template", 12, 14, 15, 17, 18, 19)
_DATA_SET = ("DataSet", 16)
MAX_TEMPLATES = 8
_BAD_BELOW = 64


class Address(NamedTuple):
    """Where a message came from; `kind` is empty where the topic is unknown."""

    kind: str
    device: str
    asset: str | None


class Sparkplug(MessageDecoder):
    """Decoder of one partition."""

    def __init__(
        self, rules: DecodeRules, times: EventTimeRules, limits: Limits, data_dir: Path | None = None
    ) -> None:
        super().__init__(rules, times, limits)
        self._data_dir = data_dir
        self._births: Births | None = None

    def decode(self, batch: RecordBatch) -> Decoded:
        """See `ingestion.decode.Decoder`. Raises StorageError if births cannot be kept."""
        memory = Memory(self._data_dir, batch, self.rules.learned_from) if self._data_dir else None
        if self._births is None:
            self._births = Births(memory.load().get("births") if memory else None)
        decoded = super().decode(batch)
        if self._births.changed and memory:
            memory.save({**memory.load(), "births": self._births.tables})
            self._births.changed = False
        return decoded

    def read(self, message: Message) -> list[Row]:
        """See `MessageDecoder.read`."""
        if _is_json(message.value):
            topic, body = split_json(load_json(message.value))
            address, content = _json_address(topic, message), sparkplugjson.content_of(body, self.bounded)
        else:
            address, content = _address(message.path), sparkplugpb.content_of(message.value, self.bounded)
        if content.packed is not None:
            content = self._opened(content, content.packed)
        if address.kind in ("NDEATH", "DDEATH"):
            raise Refused("death", f"{address.kind} of {address.device}")
        if address.kind in ("NCMD", "DCMD", "STATE"):
            raise Refused("no_values", f"{address.kind} carries no reading")
        if address.kind in ("NBIRTH", "DBIRTH", ""):
            self._learn(address, message.offset, content.metrics)
        seq = self.whole(content.seq, "seq", 63)
        found = list(self._resolved(address, message.offset, content.metrics))
        self.bounded(len(found))
        return self._rows(address, raw_time(content.time), seq, found)

    def _opened(self, outer: Content, packed: bytes) -> Content:
        value = inflated(packed, outer.algorithm, self.limits.max_message_bytes)
        inner = (
            sparkplugjson.content_of(split_json(load_json(value))[1], self.bounded)
            if _is_json(value)
            else sparkplugpb.content_of(value, self.bounded)
        )
        if inner.packed is not None:
            raise Refused("not_sparkplug", "compressed twice")
        return inner if inner.time is not None else inner._replace(time=outer.time)

    def _learn(self, address: Address, offset: int, metrics: Iterable[Metric]) -> None:
        table = {str(alias): [name, kind] for alias, name, kind in _aliases(metrics, "", 0)}
        if self._births is None:
            return
        if address.kind:
            self._births.learn(address.device, offset, table)
        elif table:
            self._births.extend(address.device, offset, table)

    def _resolved(
        self, address: Address, offset: int, metrics: Iterable[Metric], path: str = "", depth: int = 0
    ) -> "Iterator[tuple[str, Any, Metric]]":
        """Whole names, data types and metrics; a template's members come as `template/member`."""
        for metric in metrics:
            name, kind = path + metric.name if metric.name else None, metric.kind
            if not name and metric.alias is not None:
                born = self._births.find(address.device, offset, str(metric.alias)) if self._births else None
                if born is None:
                    text = f"alias {metric.alias} of {address.device!r} is in no birth before offset {offset}"
                    raise Refused("waiting_for_birth", text)
                name, kind = born[0], kind or born[1]
            if not name:
                raise Refused("wrong_shape", "a metric without name and alias")
            if name == "bdSeq" or name.startswith(("Node Control/", "Device Control/")):
                continue
            if metric.definition:
                self.counts["template_definition"] += 1
            elif metric.members is not None:
                if depth == MAX_TEMPLATES:
                    raise Refused("too_deep", f"templates nested deeper than {MAX_TEMPLATES}")
                members = [m if m.time is not None else m._replace(time=metric.time) for m in metric.members]
                yield from self._resolved(address, offset, members, name + "/", depth + 1)
            elif kind in _DATA_SET:
                self.counts["data_set"] += 1
            else:
                yield name, kind, metric

    def _rows(
        self, address: Address, time: Any, seq: int | None, metrics: list[tuple[str, Any, Metric]]
    ) -> list[Row]:
        rows: dict[Any, Row] = {}
        poor: dict[Any, list[int]] = {}
        for name, kind, metric in metrics:
            moment = raw_time(metric.time) if metric.time is not None else time
            row = rows.get(moment)
            if row is None:
                row = rows[moment] = Row(moment, address.asset, seq, None)
            if metric.historical:
                self.counts["historical"] += 1
            value = metric.value
            quality = self.whole(metric.quality, "quality", 15)
            if quality is not None:
                if 0 <= quality < _BAD_BELOW:
                    self.counts["bad_quality_value"] += value is not None
                    value = None
                    poor.setdefault(moment, []).append(quality)
                else:
                    row.quality = quality if row.quality is None else min(row.quality, quality)
            if type(value) is not float or kind in _TEXTUAL:
                value = self._value(name, kind, value)
            self.put_any(row, name, value)
        for moment, values in poor.items():
            if rows[moment].quality is None:
                rows[moment].quality = min(values)
        return [row for row in rows.values() if row.sensors or row.dropped]

    def _value(self, name: str, kind: Any, value: Any) -> Any:
        """A value as a number, text or list of numbers; None, counted, if its data type is none of these."""
        if isinstance(value, bytes):
            value = unpacked(kind, value)
            self.counts["not_a_number"] += value is None
        elif (
            kind in _TEXTUAL
            and value is not None
            and not (isinstance(value, str) and name in self.rules.states)
        ):
            self.counts["not_a_number"] += 1
            return None
        elif type(value) is int and kind in _SIGNED:
            return _signed(value, _SIGNED[kind])
        return value


def _is_json(value: bytes) -> bool:
    return value.removeprefix(BYTE_ORDER_MARK).lstrip()[:1] in (b"{", b"[")


def _aliases(metrics: Iterable[Metric], path: str, depth: int) -> Iterator[tuple[int, str, Any]]:
    """Alias, whole name and data type of what has both, template members included."""
    for metric in metrics:
        if not metric.name or metric.definition or depth > MAX_TEMPLATES:
            continue
        if metric.alias is not None:
            yield metric.alias, path + metric.name, metric.kind
        yield from _aliases(metric.members or (), f"{path}{metric.name}/", depth + 1)


def _signed(value: int, bits: int) -> int:
    if 0 <= value < 1 << (bits - 1) or value < 0:
        return value
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _address(path: str) -> Address:
    parts = path.split("/")
    if parts[0] == "spBv1.0" and len(parts) in (4, 5) and parts[2] in _TYPES:
        asset = "/".join(parts[3:])[:256]
        return Address(parts[2], f"{parts[1]}/{asset}", asset)
    return Address("", path[:512], None)


def _json_address(topic: Any, message: Message) -> Address:
    if isinstance(topic, dict):
        parts = [topic.get(n) for n in ("namespace", "groupId", "type", "edgeNodeId", "deviceId")]
        return _address("/".join(str(part)[:256] for part in parts if part))
    return _address(topic if isinstance(topic, str) else message.path)


def build(settings: IngestSettings) -> Sparkplug:
    """The decoder for one partition."""
    return Sparkplug(settings.decode, settings.event_time, settings.limits, settings.data_dir)
