"""What the messages of one partition look like: learned from small samples, then demanded of big groups.

A known shape spares type inference and reads `5` and `5.5` alike. Only small groups may bring new fields: Arrow gives every
field a cell in every row, so that a group in which each message invents a name of its own would fill the memory.
Lists, objects with `values`, times as text or with a fraction, and machines named by numbers are kinds of their own, and only what was read to the end is learned: a shape that joins what
contradicts itself (a sensor inside and outside `values`) would send every later message to the literal reader.
"""

import re

import numpy as np
import pyarrow as pa

from ingestion.decode.columns import NotColumnar, parse
from ingestion.decode.reader import Reader
from ingestion.decode.rows import BYTE_ORDER_MARK, TIME_FIELDS

_SAMPLE = 128
_MAX_CELLS = 16 << 20
_BESIDE_SENSORS = 64
_FEW = 8
_REST = 16
_VALUES, _TEXT_TIME, _SPLIT_TIME, _WHOLE_ASSET, _LISTED = 1, 2, 4, 8, 16
_TIME = re.compile(rb'"(?:%s)"\s*:\s*(?:(")|-?\d+([.eE])|[-\d])' % "|".join(TIME_FIELDS).encode())
_ASSET = re.compile(rb'"asset"\s*:\s*[-\d]')


class Shape:
    """The fields seen so far and their types, for single objects and for lists of objects."""

    def __init__(self, max_sensors: int) -> None:
        self._max_fields = max_sensors + _BESIDE_SENSORS
        self._known: dict[int, pa.DataType] = {}
        self._readers: dict[int, Reader] = {}
        self._new: tuple[int, pa.DataType, Reader] | None = None
        self._rest = 0
        self.extended = 0
        """How often new fields were looked at."""

    def parse(self, values: list[bytes]) -> pa.Array:
        """The messages as one struct or list array, new fields included if the group is small; `keep` learns them. Raises NotColumnar."""
        self._new = None
        if values[0].startswith(BYTE_ORDER_MARK):
            values = [value.removeprefix(BYTE_ORDER_MARK) for value in values]
        kind = _kind(values[0])
        known = self._known.get(kind)
        if known is not None:
            try:
                return self._of_shape(values, known, self._readers[kind])
            except NotColumnar as error:
                if len(values) > _SAMPLE or error.odd is not None:
                    raise
        if any(_kind(value) != kind for value in values):
            raise NotColumnar("messages of several kinds")
        sample = self._sample(values, kind >= _LISTED)
        inferred = parse(sample, None).type
        if _leaves(inferred) > self._max_fields:
            raise NotColumnar("many fields")
        found = _united(known or pa.null(), inferred, "")
        if _leaves(found) > self._max_fields:
            raise NotColumnar("many fields")
        self.extended += 1
        self._new = kind, found, Reader(found)
        return self._of_shape(values, found, self._new[2])

    def keep(self) -> None:
        """Learn what was new in the messages parsed last, which were read to the end."""
        if self._new is not None:
            kind, self._known[kind], self._readers[kind] = self._new
            self._new = None

    def _of_shape(self, values: list[bytes], known: pa.DataType, reader: Reader) -> pa.Array:
        """Messages of a known shape, by the compiled reader as far as it takes them. Raises NotColumnar."""
        if self._rest or not reader.able:
            self._rest = max(0, self._rest - 1)
            return parse(values, known)
        found = reader.read(values)
        if found is None:
            return self._without_reader(values, known)
        odd = np.flatnonzero(found.odd)
        if not len(odd):
            return found.array
        try:
            if len(odd) * _FEW > len(values):
                return self._without_reader(values, known)
            others = parse([values[at] for at in odd.tolist()], known)
        except NotColumnar as error:
            raise NotColumnar(str(error), odd if len(odd) < len(values) else None) from None
        places = np.arange(len(values))
        places[odd] = len(values) + np.arange(len(odd))
        return pa.concat_arrays([found.array, others]).take(pa.array(places))

    def _without_reader(self, values: list[bytes], known: pa.DataType) -> pa.Array:
        found = parse(values, known)
        # What Arrow takes and the compiled reader does not is not worth two readings.
        self._rest = _REST
        return found

    def _sample(self, values: list[bytes], listed: bool) -> list[bytes]:
        """The first messages, as far as they cannot make too many cells. Raises NotColumnar if not even one fits."""
        colons = objects = 0
        for taken, value in enumerate(values[:_SAMPLE]):
            fields = value.count(b":")
            colons, objects = colons + fields, objects + value.count(b"{") + 1
            if colons * objects > _MAX_CELLS or (not listed and fields > self._max_fields):
                if taken == 0:
                    raise NotColumnar("many fields")
                return values[:taken]
        return values[:_SAMPLE]


def parts(values: list[bytes], odd: np.ndarray | None) -> list[np.ndarray]:
    """Positions of messages that columns did not take together, in groups to try: without the odd ones, by kind, or in halves."""
    at = np.arange(len(values))
    if odd is not None:
        return [np.delete(at, odd), odd]
    kinds = np.array([_kind(value) for value in values])
    if (kinds != kinds[0]).any():
        # Who comes first has the first say on sensors, of which there may be only so many.
        return [at[kinds == kind] for kind in dict.fromkeys(kinds.tolist())]
    return [at[: len(at) // 2], at[len(at) // 2 :]]


def _kind(value: bytes) -> int:
    """Which messages may be of one shape: a column is of one type, and gateways differ in how they write times and name machines."""
    kind = _VALUES if b'"values"' in value else 0
    time = _TIME.search(value)
    if time is not None and time.lastindex is not None:
        kind |= _TEXT_TIME if time.lastindex == 1 else _SPLIT_TIME
    if _ASSET.search(value) is not None:
        kind |= _WHOLE_ASSET
    return kind | (_LISTED if value.lstrip()[:1] == b"[" else 0)


def _leaves(kind: pa.DataType) -> int:
    if pa.types.is_list(kind):
        return _leaves(kind.value_type)
    return sum(_leaves(field.type) for field in kind) if pa.types.is_struct(kind) else 1


def _united(one: pa.DataType, other: pa.DataType, name: str) -> pa.DataType:
    """A type that reads what both read. Raises NotColumnar if there is none."""
    for kind, rest in ((one, other), (other, one)):
        if pa.types.is_null(kind):
            return rest if pa.types.is_null(rest) else _plain(rest, name)
    one, other = _plain(one, name), _plain(other, name)
    if one == other:
        return one
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        fields = {field.name: field.type for field in one}
        for field in other:
            fields[field.name] = _united(fields.get(field.name, pa.null()), field.type, field.name)
        return pa.struct(list(fields.items()))
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_united(one.value_type, other.value_type, name))
    raise NotColumnar("a field of two types")


def _plain(kind: pa.DataType, name: str) -> pa.DataType:
    """Numbers of sensors are float64, whole or not; text stays text, even if it looks like a time."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain(field.type, field.name)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type, name))
    if pa.types.is_integer(kind) and name not in (*TIME_FIELDS, "asset", "seq", "quality"):
        return pa.float64()
    return kind
