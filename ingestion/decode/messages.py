"""What the formats read message by message share: one loop, one refusal per bad message, one columnar table at the end."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from ingestion import eventtime
from ingestion.decode.columns import Columns
from ingestion.decode.readings import from_columns, sensor_columns
from ingestion.decode.rows import (
    OWN_FIELDS,
    TIME_FIELDS,
    Refused,
    Row,
    bad_sensor_name,
    narrow_fields,
    number_of,
    parse_json,
)
from ingestion.decode.states import code_of
from ingestion.errors import IngestionError
from ingestion.records import Decoded, RecordBatch, Reject
from ingestion.settings import DecodeRules, EventTimeRules, Limits
from ingestion.tasks import heed

GOOD, UNCERTAIN, BAD = 192, 64, 0
MAX_ARRAY = 256


@dataclass(frozen=True)
class Message:
    """One record: `value` is never empty and within `max_message_bytes`; `offset` is its Kafka offset."""

    value: bytes
    key: bytes | None
    topic: str
    offset: int

    @property
    def path(self) -> str:
        """The record key as text, empty if it is not UTF-8 of at most 1024 bytes."""
        if not self.key or len(self.key) > 1024:
            return ""
        try:
            return self.key.decode()
        except UnicodeDecodeError:
            return ""


def load_json(value: bytes) -> Any:
    """Fast parse; what orjson refuses gets the lenient reader. Raises Refused (`not_json`, `too_deep`, `duplicate_key`)."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return parse_json(value)


class MessageDecoder:
    """Base of the decoders of one partition that look at each message. Subclasses give `read`."""

    def __init__(self, rules: DecodeRules, times: EventTimeRules, limits: Limits) -> None:
        self.rules = rules
        self.times = times
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self._sensors: set[str] = set()

    def read(self, message: Message) -> list[Row]:
        """Rows of one message, at least one. Raises Refused with a documented reason."""
        raise NotImplementedError

    def decode(self, batch: RecordBatch) -> Decoded:
        """See `ingestion.decode.Decoder`."""
        total: Counter[str] = Counter()
        rows: list[Row] = []
        parent: list[int] = []
        rejects: list[Reject] = []
        offsets = batch.offsets.tolist()
        for index, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            heed()
            self.counts = Counter()
            try:
                found = self._checked(value, key, batch.topic, offsets[index])
            except Refused as refused:
                rejects.append(Reject(index, refused.reason, str(refused)[:500]))
                continue
            except IngestionError:
                raise
            except Exception as error:  # a decoder must not end the plant's ingestion
                text = f"{type(error).__name__}: {error}"[:300]
                rejects.append(Reject(index, "decoder_failed", text))
                continue
            if self.counts:
                total.update(self.counts)
            rows += found
            parent += [index] * len(found)
        self.counts = total
        return self._table(rows, np.array(parent, dtype=np.int64), batch, rejects)

    def _checked(self, value: bytes | None, key: bytes | None, topic: str, offset: int) -> list[Row]:
        if value is None:
            raise Refused("null_value", "the record has no value")
        if not value.strip():
            raise Refused("empty_value", "the record's value is empty")
        if len(value) > self.limits.max_message_bytes:
            limit = self.limits.max_message_bytes
            raise Refused("too_large", f"{len(value)} bytes, more than max_message_bytes = {limit}")
        rows = self.read(Message(value, key, topic, offset))
        if not rows:
            raise Refused("no_values", "no sensor value in the message")
        self.bounded(len(rows))
        fresh = {name for row in rows for name in row.sensors if name not in self._sensors}
        if fresh:
            if len(self._sensors) + len(fresh) > self.rules.max_sensors:
                limit = self.rules.max_sensors
                raise Refused("too_many_sensors", f"would be more than max_sensors = {limit}")
            self._sensors |= fresh
        return rows

    def bounded(self, number: int) -> None:
        """Refuse a message of more parts than `max_rows_per_message` before work is spent on it."""
        if number > self.limits.max_rows_per_message:
            raise Refused("too_large", f"{number} readings, more than {self.limits.max_rows_per_message}")

    def put(self, row: Row, name: str, raw: Any) -> None:
        """Add one value. Raises Refused for a name that cannot be a column or is not allowed here."""
        if name not in self._sensors:
            reason = bad_sensor_name(name)
            if reason:
                text = f"sensor name {name[:80]!r} is reserved, empty, too long or unprintable; rename it"
                raise Refused(reason, text)
            if self.rules.sensors and name not in self.rules.sensors:
                if self.rules.unknown_sensors == "reject":
                    raise Refused("unknown_sensor", f"sensor {name[:80]!r} is not declared")
                if self.rules.unknown_sensors == "drop":
                    self.counts["unknown_sensor"] += 1
                    row.dropped += 1
                    return
        if type(raw) is float and -1.7e308 < raw < 1.7e308:
            row.sensors[name] = raw
        elif isinstance(raw, str) and name in self.rules.states:
            row.sensors[name] = code = code_of(raw, self.rules.states[name])
            if code is None:
                self.counts[f"unknown_state:{name}"] += 1
        else:
            row.sensors[name] = self.number(raw)

    def put_any(self, row: Row, name: str, raw: Any) -> None:
        """As `put`; a list becomes `name[0]`, `name[1]`, ..., an object is ignored and counted."""
        if isinstance(raw, (list, tuple)) and len(raw) <= MAX_ARRAY:
            for i, part in enumerate(raw):
                if isinstance(part, (dict, list, tuple)):
                    self.counts["ignored_field"] += 1
                else:
                    self.put(row, f"{name[:300]}[{i}]", part)
        elif isinstance(raw, (dict, list, tuple)):
            self.counts["ignored_field"] += 1
        else:
            self.put(row, name, raw)

    def number(self, raw: Any) -> float | None:
        """A finite float64, or None, counted by why."""
        return number_of(raw, self.counts)

    def whole(self, raw: Any, name: str, bits: int) -> int | None:
        """An integer that fits `bits` (sign excluded), else None and counted."""
        if raw is None:
            return None
        if isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) < 20:
            raw = int(raw)
        if isinstance(raw, float) and raw.is_integer():
            raw = int(raw)
        if type(raw) is not int or not -(2**bits) <= raw < 2**bits:
            self.counts[f"bad_{name}"] += 1
            return None
        return raw

    def flat_row(self, item: Any) -> Row:
        """One reading object: wide (`values` or fields beside the own ones) or narrow (sensor name and value as fields)."""
        if not isinstance(item, dict):
            raise Refused(
                "wrong_shape", f"expected an object with sensor values, found {type(item).__name__}"
            )
        time = next((item[name] for name in TIME_FIELDS if item.get(name) is not None), None)
        row = Row(
            raw_time(time),
            asset_text(item.get("asset")),
            self.whole(item.get("seq"), "seq", 63),
            self.whole(item.get("quality"), "quality", 15),
        )
        named = narrow_fields(item)
        if named is not None:
            self.put_any(row, item[named[0]], item[named[1]])
            if not row.sensors and not row.dropped:
                raise Refused("no_values", "no sensor value in the message")
            return row
        inner = item.get("values")
        if inner is not None and not isinstance(inner, dict):
            raise Refused("wrong_shape", f"expected an object in 'values', found {type(inner).__name__}")
        for name, raw in (inner or {}).items():
            self.put_any(row, str(name), raw)
        for name, raw in item.items():
            if name in OWN_FIELDS:
                continue
            if isinstance(raw, str) and inner is not None and name not in self.rules.states:
                self.counts["ignored_field"] += 1
            else:
                self.put_any(row, str(name), raw)
        if not row.sensors and not row.dropped:
            raise Refused("no_values", "no sensor value in the message")
        return row

    def _table(
        self, rows: list[Row], parent: np.ndarray, batch: RecordBatch, rejects: list[Reject]
    ) -> Decoded:
        size = len(rows)
        found = Columns(
            np.arange(size, dtype=np.int64),
            self._times([row.time for row in rows]),
            pa.array([row.asset for row in rows], pa.string()),
            pa.array([row.seq for row in rows], pa.int64()),
            pa.array([row.quality for row in rows], pa.int16()),
            sensor_columns(rows),
            np.zeros(size, dtype=bool),
            0,
        )
        # Columns.parent indexes the positions given beside it; here every row brings its own.
        piece = from_columns(found, parent, batch, replace(self.times, unit="ns"), self.rules)
        merged = sorted(rejects + piece.rejects, key=lambda r: r.index)
        return Decoded(piece.readings, merged, self.counts + piece.counts)

    def _times(self, raw: list[Any]) -> pa.Array:
        """int64 ns; null where the message has no time, -1 where it has none that can be read."""
        kinds = {type(time) for time in raw}
        if str in kinds:
            raw = [
                int(t) if type(t) is str and len(t) < 19 and t.isascii() and t.isdigit() else t for t in raw
            ]
            kinds = {type(time) for time in raw}
        if kinds == {int} and max(raw) < 2**63 and min(raw) >= -(2**63):
            times = eventtime.from_numbers(np.array(raw, dtype=np.int64), self.times)
        elif kinds == {str} and max(map(len, raw)) <= 64:
            times = eventtime.from_text(pa.array(raw, pa.string()), self.times)
        else:
            ns = np.full(len(raw), -1, dtype=np.int64)
            seen: dict[Any, int | None] = {}
            for i, time in enumerate(raw):
                key = (type(time), time)
                if key not in seen:
                    seen[key] = eventtime.one_time(time, self.times, self.counts)
                found = seen[key]
                ns[i] = -1 if found is None else found
            return pa.array(ns, mask=np.array([time is None for time in raw], dtype=bool))
        self.counts.update(times.counts)
        return pa.array(np.where(times.bad, -1, times.ns))


def raw_time(raw: Any) -> Any:
    """The time as sent, if it is a number, text or missing. Raises Refused (`bad_timestamp`)."""
    if isinstance(raw, str) and not raw.isascii():
        raise Refused("bad_timestamp", f"expected digits or ISO 8601 as time, found {raw[:40]!a}")
    if raw is None or (isinstance(raw, (int, float, str)) and not isinstance(raw, bool)):
        return raw
    raise Refused("bad_timestamp", f"expected a number or text as time, found {type(raw).__name__}")


def asset_text(raw: Any) -> str | None:
    """The asset's name or None. Raises Refused (`bad_asset`)."""
    if raw is None or raw == "":
        return None
    if isinstance(raw, (str, int)) and not isinstance(raw, bool):
        text = str(raw)
        # Half a character: JSON that holds one is refused before, a user's decoder may give one.
        if len(text) <= 256 and (text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)):
            return text
    raise Refused("bad_asset", "expected text of at most 256 characters as asset")
