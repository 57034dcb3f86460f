"""Narrow flat JSON, one sensor a message or a list of such: `{"asset":"pump-03","sensor":"temperature","ts":..,"value":71.2}`.

The name may also be called tag, metric, signal, name, point or measurement. Wide objects in between are read as well.
A batch is parsed in columns; what that cannot decide is read message by message, with the same outcome.
"""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decode.columns import Columns, NotColumnar, asset_of, children, time_of, typed
from ingestion.decode.messages import Message, MessageDecoder
from ingestion.decode.pieces import part_of, unite, usable
from ingestion.decode.readings import Piece, from_columns
from ingestion.decode.rows import SENSOR_FIELDS, VALUE_FIELDS, Row, bad_sensor_name, parse_json
from ingestion.decode.shape import Shape, parts
from ingestion.records import Decoded, RecordBatch, Reject
from ingestion.settings import DecodeRules, EventTimeRules, IngestSettings, Limits
from ingestion.tasks import heed

_ALONE = 64
_REST = 8


class NarrowJson(MessageDecoder):
    """Decoder of one partition; after a batch that columns could not read it rests from trying for eight times as many messages."""

    def __init__(self, rules: DecodeRules, times: EventTimeRules, limits: Limits) -> None:
        super().__init__(rules, times, limits)
        self._shape = Shape(rules.max_sensors)
        self._rest = self._alone = 0

    def read(self, message: Message) -> list[Row]:
        """See `MessageDecoder.read`."""
        content = parse_json(message.value)
        items = content if isinstance(content, list) else [content]
        self.bounded(len(items))
        return [self.flat_row(item) for item in items]

    def decode(self, batch: RecordBatch) -> Decoded:
        """See `ingestion.decode.Decoder`."""
        if 0 < len(batch.values) <= self._rest:
            self._rest -= len(batch.values)
            return super().decode(batch)
        self._rest = 0
        indices, self._alone = np.arange(len(batch.values), dtype=np.int64), 0
        good = usable(batch, self.limits.max_message_bytes)
        pieces: list[Piece] = []
        if not good.all():
            pieces.append(self._one_by_one(indices[~good], batch))
        self._group(indices[good], batch, pieces)
        if self._alone * 2 > len(indices):
            self._rest = _REST * len(indices)
        return unite(pieces)

    def _group(self, indices: np.ndarray, batch: RecordBatch, pieces: list[Piece]) -> None:
        heed()
        if len(indices) == 0:
            return
        try:
            piece, odd = self._columns(indices, batch)
        except NotColumnar as error:
            if len(indices) <= _ALONE and error.odd is None:
                pieces.append(self._one_by_one(indices, batch))
                return
            for part in parts(part_of(batch, indices).values, error.odd):  # type: ignore[arg-type]
                self._group(indices[part], batch, pieces)
            return
        if piece is not None:
            pieces.append(piece)
            return
        pieces.append(self._one_by_one(indices[odd], batch))
        self._group(np.delete(indices, odd), batch, pieces)

    def _one_by_one(self, indices: np.ndarray, batch: RecordBatch) -> Piece:
        self._alone += len(indices)
        found = super().decode(part_of(batch, indices))
        rejects = [Reject(int(indices[r.index]), r.reason, r.message, r.stage) for r in found.rejects]
        return Piece(found.readings, rejects, found.counts)

    def _columns(self, indices: np.ndarray, batch: RecordBatch) -> tuple[Piece | None, np.ndarray]:
        """The readings, or None and the positions in `indices` of messages to look at one by one. Raises NotColumnar."""
        values = part_of(batch, indices).values
        messages = self._shape.parse(values)  # type: ignore[arg-type]
        if messages.null_count:
            raise NotColumnar("null message")
        parent = np.arange(len(values), dtype=np.int64)
        if pa.types.is_list(messages.type):
            lengths = pc.list_value_length(messages).to_numpy()
            if (lengths == 0).any() or lengths.max() > self.limits.max_rows_per_message:
                raise NotColumnar("a list of unusual length")
            parent, messages = np.repeat(parent, lengths), messages.flatten()
        if not pa.types.is_struct(messages.type) or messages.null_count:
            raise NotColumnar("not objects")
        fields = children(messages)
        if "values" in {field.name for field in messages.type} and any(map(_may_be_wide, values)):
            raise NotColumnar("wide readings in between")
        name, value = _name(fields), _value(fields)
        asset = asset_of(fields)
        encoded = pc.dictionary_encode(name)
        names = encoded.dictionary.to_pylist()
        codes = encoded.indices.fill_null(-1).to_numpy()
        odd = (codes < 0) | value.is_null().to_numpy(zero_copy_only=False)
        for code, text in enumerate(names):
            if bad_sensor_name(text) or self._to_reject(text):
                odd |= codes == code
        if odd.any():
            return None, np.unique(parent[odd])
        counts: Counter[str] = Counter()
        kept = [text for text in names if not self._to_drop(text)]
        if len(self._sensors | set(kept)) > self.rules.max_sensors:
            raise NotColumnar("too many sensors")
        self._sensors |= set(kept)
        numbers = value.to_numpy(zero_copy_only=False)
        sensors = {}
        for code, text in enumerate(names):
            if text in kept:
                sensors[text] = pa.array(numbers, mask=codes != code)
            else:
                counts["unknown_sensor"] += int((codes == code).sum())
        found = Columns(
            parent,
            time_of(fields),
            asset,
            typed(fields.get("seq"), pa.types.is_integer),
            typed(fields.get("quality"), pa.types.is_integer),
            sensors,
            np.zeros(len(parent), dtype=bool),
            0,
        )
        self._shape.keep()
        piece = from_columns(found, indices, batch, self.times, self.rules)
        return Piece(piece.readings, piece.rejects, piece.counts + counts), np.array([], dtype=np.int64)

    def _to_reject(self, name: str) -> bool:
        return self._undeclared(name) and self.rules.unknown_sensors == "reject"

    def _to_drop(self, name: str) -> bool:
        return self._undeclared(name) and self.rules.unknown_sensors == "drop"

    def _undeclared(self, name: str) -> bool:
        return bool(self.rules.sensors) and name not in self.rules.sensors


def _may_be_wide(value: bytes | None) -> bool:
    return value is not None and (b'"values"' in value or b"\\u" in value)


def _name(fields: dict[str, pa.Array]) -> pa.Array:
    """The first field that holds a sensor's name. Raises NotColumnar."""
    for field in SENSOR_FIELDS:
        array = fields.get(field)
        if array is not None and pa.types.is_string(array.type):
            return array
        if array is not None and not (_is_number(array.type) or pa.types.is_nested(array.type)):
            raise NotColumnar("unexpected type")
    raise NotColumnar("no sensor name")


def _value(fields: dict[str, pa.Array]) -> pa.Array:
    """The one field that holds values, float64. Raises NotColumnar."""
    found = [fields[field] for field in VALUE_FIELDS if field in fields]
    if len(found) != 1 or not _is_number(found[0].type):
        raise NotColumnar("no value field, or several")
    return pc.cast(found[0], pa.float64(), safe=False)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def build(settings: IngestSettings) -> NarrowJson:
    """The decoder for one partition."""
    return NarrowJson(settings.decode, settings.event_time, settings.limits)
