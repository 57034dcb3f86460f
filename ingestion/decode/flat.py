"""Flat JSON telemetry: `{"t":1}`, `{"ts":..,"values":{..}}`, a list of either, with optional `asset`, `quality`, `seq`.

A batch is parsed in columns. Where that fails the messages that the compiled reader does not take are set apart, and those halved until the
unusual ones stand alone; they are read one by one, so a bad message costs itself and never its neighbours. Where halving finds nothing but
unusual ones, what is left of the batch is read one by one at once.
"""

from collections import Counter

import numpy as np

from ingestion.decode import columns
from ingestion.decode.columns import NotColumnar
from ingestion.decode.pieces import unite, usable
from ingestion.decode.readings import Piece, from_columns, from_rows
from ingestion.decode.rows import Refused, Row, rows_of
from ingestion.decode.shape import Shape, parts
from ingestion.records import Decoded, RecordBatch, Reject
from ingestion.settings import DecodeRules, EventTimeRules, Limits
from ingestion.tasks import heed

_ALONE = 8
_NEW_SHAPES = 8
_IN_VAIN = 32
"""Attempts in a row in which columns read nothing; one costs as much as some twenty messages read one by one, and halving 5,000 takes 1,000."""


class FlatJson:
    """Decoder of one partition; remembers the shape its messages had, to spare type inference."""

    def __init__(self, rules: DecodeRules, times: EventTimeRules, limits: Limits) -> None:
        self._rules = rules
        self._times = times
        self._limits = limits
        self._shape = Shape(rules.max_sensors)
        self._sensors: set[str] = set()
        self._enough = _NEW_SHAPES
        self._vain = 0

    def decode(self, batch: RecordBatch) -> Decoded:
        """See `ingestion.decode.Decoder`."""
        indices = np.arange(len(batch.values), dtype=np.int64)
        good = usable(batch, self._limits.max_message_bytes)
        pieces: list[Piece] = []
        self._enough, self._vain = self._shape.extended + _NEW_SHAPES, 0
        if not good.all():
            pieces.append(self._one_by_one(indices[~good], batch))
        self._group(indices[good], batch, pieces)
        return unite(pieces)

    def _group(self, indices: np.ndarray, batch: RecordBatch, pieces: list[Piece]) -> None:
        heed()
        if len(indices) == 0:
            return
        if self._shape.extended > self._enough or self._vain >= _IN_VAIN:
            # Names that change with every message are not worth learning, nor is one good message among many that are not worth the search.
            pieces.append(self._one_by_one(indices, batch))
            return
        whole = len(indices) == len(batch.values)
        values: list[bytes] = batch.values if whole else [batch.values[i] for i in indices]  # type: ignore[assignment]
        try:
            found = self._columns(values)
        except NotColumnar as error:
            self._vain += 1
            if len(indices) <= _ALONE:
                pieces.append(self._one_by_one(indices, batch))
                return
            for part in parts(values, error.odd):
                self._group(indices[part], batch, pieces)
            return
        if found.odd.any():
            odd = np.unique(found.parent[found.odd])
            pieces.append(self._one_by_one(indices[odd], batch))
            self._group(np.delete(indices, odd), batch, pieces)
            return
        self._vain = 0
        pieces.append(from_columns(found, indices, batch, self._times, self._rules))

    def _columns(self, values: list[bytes]) -> columns.Columns:
        messages = self._shape.parse(values)
        found = columns.flatten(messages, self._rules.states)
        names = self._sensors | found.sensors.keys()
        strict = self._rules.sensors and self._rules.unknown_sensors == "reject"
        if len(names) > self._rules.max_sensors or (strict and not names <= set(self._rules.sensors)):
            raise NotColumnar("sensors need a decision per message")
        self._sensors = names
        self._shape.keep()
        return found

    def _one_by_one(self, indices: np.ndarray, batch: RecordBatch) -> Piece:
        rows: list[Row] = []
        parent: list[int] = []
        rejects: list[Reject] = []
        counts: Counter[str] = Counter()
        for index in indices.tolist():
            heed()
            try:
                found = rows_of(batch.values[index], self._rules, self._limits, counts)
                names = {name for row in found for name in row.sensors}
                if len(self._sensors | names) > self._rules.max_sensors:
                    raise Refused(
                        "too_many_sensors", f"would be more than max_sensors = {self._rules.max_sensors}"
                    )
            except Refused as refused:
                rejects.append(Reject(index, refused.reason, str(refused)))
                continue
            self._sensors |= names
            rows += found
            parent += [index] * len(found)
        piece = from_rows(rows, np.array(parent, dtype=np.int64), batch, self._times)
        return Piece(piece.readings, rejects + piece.rejects, counts + piece.counts)
