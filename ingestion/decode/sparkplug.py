"""Sparkplug B, protobuf as sent over MQTT or JSON as bridges write it, in any mix.

The topic is read from the payload's `topic` or from the record key. A metric that carries only an alias gets its name and
data type from the birth before it; a message in which one cannot be resolved is refused whole as `waiting_for_birth`.
Deaths are recorded by being refused as `death`; the aliases stay, since late data of before the death may follow.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ingestion.decode.births import Births
from ingestion.decode.memory import Memory
from ingestion.decode.messages import Message, MessageDecoder, load_json, raw_time
from ingestion.decode.rows import Refused, Row
from ingestion.decode.sparkplugpb import VALUES, Payload
from ingestion.records import Decoded, RecordBatch
from ingestion.settings import DecodeRules, EventTimeRules, IngestSettings, Limits

_TYPES = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH", "NCMD", "DCMD", "STATE")
_SIGNED = {"Int8": 8, "Int16": 16, "Int32": 32, "Int64": 64, 1: 8, 2: 16, 3: 32, 4: 64}
_TEXTUAL = ("String", "Text", "UUID", "Bytes", "File", "DataSet", "Template", 12, 14, 15, 16, 17, 18, 19)
_BAD_BELOW = 64


class Metric(NamedTuple):
    """One metric as sent, either encoding."""

    name: str | None
    alias: int | None
    time: Any
    kind: Any
    value: Any
    historical: bool
    quality: Any


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
        if message.value.lstrip()[:1] in (b"{", b"["):
            content = load_json(message.value)
            address, body = _json_address(content, message)
            time, seq, metrics = body.get("timestamp"), body.get("seq"), _json_metrics(body, self)
        else:
            address = _address(message.path)
            time, seq, metrics = _parse(message.value, self)
        if address.kind in ("NDEATH", "DDEATH"):
            raise Refused("death", f"{address.kind} of {address.device}")
        if address.kind in ("NCMD", "DCMD", "STATE"):
            raise Refused("no_values", f"{address.kind} carries no reading")
        found = list(metrics)
        if address.kind in ("NBIRTH", "DBIRTH", ""):
            self._learn(address, message.offset, found)
        return self._rows(address, message.offset, raw_time(time), self.whole(seq, "seq", 63), found)

    def _learn(self, address: Address, offset: int, metrics: list[Metric]) -> None:
        table = {str(m.alias): [m.name, m.kind] for m in metrics if m.alias is not None and m.name}
        if self._births is None:
            return
        if address.kind:
            self._births.learn(address.device, offset, table)
        elif table:
            self._births.extend(address.device, offset, table)

    def _rows(
        self, address: Address, offset: int, time: Any, seq: int | None, metrics: list[Metric]
    ) -> list[Row]:
        rows: dict[Any, Row] = {}
        poor: dict[Any, list[int]] = {}
        for metric in metrics:
            name, kind = metric.name, metric.kind
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
            if (
                kind in _TEXTUAL
                and value is not None
                and not (isinstance(value, str) and name in self.rules.states)
            ):
                self.counts["not_a_number"] += 1
                value = None
            elif type(value) is int and kind in _SIGNED:
                value = _signed(value, _SIGNED[kind])
            self.put_any(row, name, value)
        for moment, values in poor.items():
            if rows[moment].quality is None:
                rows[moment].quality = min(values)
        return [row for row in rows.values() if row.sensors or row.dropped]


def _signed(value: int, bits: int) -> int:
    if 0 <= value < 1 << (bits - 1) or value < 0:
        return value
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _parse(value: bytes, decoder: Sparkplug) -> tuple[Any, Any, Iterator[Metric]]:
    payload = Payload()
    try:
        payload.ParseFromString(value)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("not_sparkplug", f"not a Sparkplug B payload: {error}"[:200]) from None
    if not payload.HasField("timestamp") and not payload.metrics:
        raise Refused("not_sparkplug", "no timestamp and no metric: not a Sparkplug B payload")
    decoder.bounded(len(payload.metrics))
    time = payload.timestamp if payload.HasField("timestamp") else None
    return time, payload.seq if payload.HasField("seq") else None, map(_from_protobuf, payload.metrics)


def _from_protobuf(metric: Any) -> Metric:
    try:
        given = {field.name: value for field, value in metric.ListFields()}
    except UnicodeDecodeError as error:
        raise Refused("not_sparkplug", f"text is not UTF-8: {error.reason}") from None
    if isinstance(given.get("name"), bytes):  # what the C parser gives for text that is not UTF-8
        raise Refused("not_sparkplug", "a metric name is not UTF-8")
    value = None if given.get("is_null") else next((given[name] for name in VALUES if name in given), None)
    quality = None
    if "properties" in given:
        for key, prop in zip(metric.properties.keys, metric.properties.values, strict=False):
            if key == "Quality":
                quality = prop.int_value or prop.long_value
    return Metric(
        given.get("name"),
        given.get("alias"),
        given.get("timestamp"),
        given.get("datatype"),
        value,
        given.get("is_historical", False),
        quality,
    )


def _address(path: str) -> Address:
    parts = path.split("/")
    if parts[0] == "spBv1.0" and len(parts) in (4, 5) and parts[2] in _TYPES:
        asset = "/".join(parts[3:])[:256]
        return Address(parts[2], f"{parts[1]}/{asset}", asset)
    return Address("", path[:512], None)


def _json_address(content: Any, message: Message) -> tuple[Address, dict[str, Any]]:
    if not isinstance(content, dict):
        raise Refused("wrong_shape", f"expected an object, found {type(content).__name__}")
    topic = content.get("topic")
    body = content.get("payload") if "payload" in content else content
    if not isinstance(body, dict):
        raise Refused("wrong_shape", f"expected an object as payload, found {type(body).__name__}")
    if isinstance(topic, dict):
        parts = [topic.get(n) for n in ("namespace", "groupId", "type", "edgeNodeId", "deviceId")]
        return _address("/".join(str(part)[:256] for part in parts if part)), body
    return _address(topic if isinstance(topic, str) else message.path), body


def _json_metrics(body: dict[str, Any], decoder: Sparkplug) -> Iterator[Metric]:
    metrics = body.get("metrics", [])
    if not isinstance(metrics, list):
        raise Refused("wrong_shape", f"expected a list as metrics, found {type(metrics).__name__}")
    decoder.bounded(len(metrics))
    return map(_from_json, metrics)


def _from_json(metric: Any) -> Metric:
    if not isinstance(metric, dict):
        raise Refused("wrong_shape", f"expected an object as metric, found {type(metric).__name__}")
    get = metric.get
    name, alias = get("name"), get("alias")
    if isinstance(alias, str) and alias.isascii() and alias.isdigit() and len(alias) < 20:
        alias = int(alias)
    if not (name is None or isinstance(name, str)) or not (alias is None or type(alias) is int):
        raise Refused("wrong_shape", "expected text as metric name and a whole number as alias")
    kind = next((get(n) for n in ("dataType", "datatype", "type") if n in metric), None)
    if get("isNull") is True or get("is_null") is True:
        value = None
    elif "value" in metric:
        value = metric["value"]
    else:
        value = next(
            (get(n) for n in (*VALUES, *map(_camel, VALUES)) if n in metric and "bytes" not in n), None
        )
    return Metric(
        name,
        alias,
        get("timestamp"),
        kind if isinstance(kind, (str, int)) else None,
        value,
        get("isHistorical") is True or get("is_historical") is True,
        _json_quality(get("properties")),
    )


def _camel(name: str) -> str:
    head, _, tail = name.partition("_")
    return head + tail.capitalize()


def _json_quality(properties: Any) -> Any:
    if not isinstance(properties, dict):
        return None
    found = properties.get("Quality")
    if isinstance(found, dict):
        return found.get("value")
    return found


def build(settings: IngestSettings) -> Sparkplug:
    """The decoder for one partition."""
    return Sparkplug(settings.decode, settings.event_time, settings.limits, settings.data_dir)
