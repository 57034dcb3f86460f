"""JSON messages of a known shape as Arrow arrays, by compiled code outside the interpreter lock, equal to what Arrow's own reader makes of them.

What the code does not take it calls odd and leaves to the caller: see `Read`. The other half of this is `ingestion/native/messages.c`.
"""

import ctypes
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ingestion import native
from ingestion.decode.columns import is_utf8

OTHER, REAL, WHOLE, TEXT, TRUTH, OBJECT = range(6)
_KINDS = {
    REAL: pa.types.is_float64,
    WHOLE: pa.types.is_int64,
    TEXT: pa.types.is_string,
    TRUTH: pa.types.is_boolean,
    OBJECT: pa.types.is_struct,
}
_SENT = 1
_PADDING = bytes(8)
_MAX_CELLS = 16 << 20
_UNSAFE = frozenset(b'"\\' + bytes(range(32)))
_LOWEST, _HIGHEST = -342, 308


def _five(power: int) -> tuple[int, int]:
    """The 128 leading bits of `5**power`, in halves; of a negative power rounded up, as the algorithm asks (see `nearest` in the C source)."""
    if power < 0:
        inverse = 5**-power
        bits = (inverse - 1).bit_length()
        found = 2 ** (bits + 127 if power >= -27 else 2 * bits + 128) // inverse + 1
    else:
        found = 5**power << 128
    found >>= max(0, found.bit_length() - 128)
    return found >> 64, found & (2**64 - 1)


_FIVES = np.array([_five(power) for power in range(_LOWEST, _HIGHEST + 1)], dtype=np.uint64)

_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64


class _Plan(ctypes.Structure):
    """`struct plan`."""

    _fields_ = (
        ("fields", _COUNT),
        *((name, _POINTER) for name in ("kind", "slot", "first", "count", "name_from", "names", "fives")),
        ("lowest", _COUNT),
        ("highest", _COUNT),
    )


class _Columns(ctypes.Structure):
    """`struct columns`."""

    _fields_ = (
        ("most", _COUNT),
        *((name, _POINTER) for name in ("reals", "wholes", "begins", "ends", "truths", "sent")),
    )


def _loaded() -> ctypes.CDLL | None:
    found = native.library()
    if found is not None:
        found.read_messages.restype = _COUNT
        found.read_messages.argtypes = [
            ctypes.POINTER(_Plan),
            ctypes.POINTER(_Columns),
            ctypes.c_char_p,
            _COUNT,
            ctypes.c_int32,
            _COUNT,
            *(_POINTER,) * 3,
        ]
        found.gather_texts.restype = None
        found.gather_texts.argtypes = [ctypes.c_char_p, *(_POINTER,) * 3, _COUNT, _POINTER, _POINTER]
    return found


_LIBRARY = _loaded()


@dataclass(frozen=True)
class Read:
    """`array` of the shape's type, one value a message; `odd` bool[N]: messages that are not read, whose value is meaningless."""

    array: pa.Array
    odd: np.ndarray


class _Room:
    """Arrays for the values of so many rows, by kind of field."""

    def __init__(self, sizes: dict[int, int], fields: int, rows: int) -> None:
        self.reals = np.empty((sizes[REAL], rows))
        self.wholes = np.empty((sizes[WHOLE], rows), dtype=np.int64)
        self.begins, self.ends = (np.empty((sizes[TEXT], rows), dtype=np.int32) for _ in range(2))
        self.truths = np.empty((sizes[TRUTH], rows), dtype=np.uint8)
        self.sent = np.zeros((fields, rows), dtype=np.uint8)
        arrays = (self.reals, self.wholes, self.begins, self.ends, self.truths, self.sent)
        self.columns = _Columns(rows, *(array.ctypes.data for array in arrays))


class Reader:
    """Reads messages of one type: a struct, or a list of structs, of numbers, texts, truth values, and structs of such."""

    def __init__(self, kind: pa.DataType) -> None:
        self._type = kind
        self._listed = pa.types.is_list(kind)
        self._struct = kind.value_type if self._listed else kind
        names, kinds, slots, first, count = [b""], [OBJECT], [0], [0], [0]
        self._sizes = dict.fromkeys(range(6), 0)

        def lay(parent: int, struct: pa.StructType) -> None:
            begin = first[parent] = len(names)
            count[parent] = struct.num_fields
            for field in struct:
                which = next((which for which, test in _KINDS.items() if test(field.type)), OTHER)
                names.append(field.name.encode())
                kinds.append(which)
                slots.append(self._sizes[which])
                self._sizes[which] += 1
                first.append(0)
                count.append(0)
            for at, field in enumerate(struct):
                if pa.types.is_struct(field.type):
                    lay(begin + at, field.type)

        known = pa.types.is_struct(self._struct)
        if known:
            lay(0, self._struct)
        # A name that JSON cannot show as it is would have to be compared unescaped.
        self.able = _LIBRARY is not None and known and not any(_UNSAFE.intersection(name) for name in names)
        """Whether `read` can be called."""
        self._kinds, self._slots, self._first = kinds, slots, first
        numbers = (kinds, slots, first, count, np.cumsum([0, *map(len, names)]))
        # Held for as long as the plan points to them.
        self._arrays = [np.array(part, dtype=np.int32) for part in numbers]
        self._names = ctypes.c_char_p(b"".join(names))
        pointers = [part.ctypes.data for part in self._arrays]
        name_pointer = ctypes.cast(self._names, _POINTER)
        self._plan = _Plan(len(kinds), *pointers, name_pointer, _FIVES.ctypes.data, _LOWEST, _HIGHEST)

    def read(self, values: list[bytes]) -> Read | None:
        """The messages, or None if lines do not tell them apart, they are not UTF-8, or of too many cells for one go."""
        assert _LIBRARY is not None
        text = b"".join((b"\n".join(values), b"\n", _PADDING))
        if not is_utf8(text):
            return None
        most = text.count(b"{") if self._listed else len(values)
        if most * len(self._kinds) > _MAX_CELLS or len(text) >= 2**31:
            return None
        room = _Room(self._sizes, len(self._kinds), most)
        ends, odd = np.empty(len(values), dtype=np.int64), np.empty(len(values), dtype=np.bool_)
        guess = np.empty(len(self._kinds), dtype=np.int32)
        rows = _LIBRARY.read_messages(
            ctypes.byref(self._plan),
            ctypes.byref(room.columns),
            text,
            len(text) - len(_PADDING),
            self._listed,
            len(values),
            *(array.ctypes.data for array in (ends, odd, guess)),
        )
        if rows < 0:
            return None
        array = self._array(0, self._struct, text, room, rows)
        if self._listed:
            offsets = np.concatenate(([0], ends)).astype(np.int32)
            array = pa.Array.from_buffers(
                self._type, len(values), [None, pa.py_buffer(offsets)], children=[array]
            )
        return Read(array, odd)

    def _array(self, field: int, kind: pa.DataType, text: bytes, room: _Room, rows: int) -> pa.Array:
        which, slot, sent = self._kinds[field], self._slots[field], room.sent[field, :rows]
        if which == OTHER:
            return pa.nulls(rows, kind)
        there = sent == _SENT
        valid = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
        if which == OBJECT:
            children = [
                self._array(self._first[field] + at, part.type, text, room, rows)
                for at, part in enumerate(kind)
            ]
            return pa.Array.from_buffers(kind, rows, [valid], children=children)
        if which == TEXT:
            return pa.Array.from_buffers(
                kind, rows, [valid, *_texts(text, room.begins[slot, :rows], room.ends[slot, :rows], sent)]
            )
        if which == TRUTH:
            values: np.ndarray = np.packbits(room.truths[slot, :rows], bitorder="little")
        else:
            values = room.wholes[slot, :rows] if which == WHOLE else room.reals[slot, :rows]
        return pa.Array.from_buffers(kind, rows, [valid, pa.py_buffer(values)])


def _texts(
    text: bytes, begins: np.ndarray, ends: np.ndarray, sent: np.ndarray
) -> tuple[pa.Buffer, pa.Buffer]:
    """Offsets and bytes of a column of texts."""
    assert _LIBRARY is not None
    size = int(np.where(sent == _SENT, ends - begins, 0).sum())
    offsets, out = np.empty(len(sent) + 1, dtype=np.int32), np.empty(size, dtype=np.uint8)
    arrays = [array.ctypes.data for array in (begins, ends, sent)]
    _LIBRARY.gather_texts(text, *arrays, len(sent), offsets.ctypes.data, out.ctypes.data)
    return pa.py_buffer(offsets), pa.py_buffer(out)
