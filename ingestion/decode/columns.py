"""Many flat JSON messages at once: joined into one buffer, parsed by Arrow outside the interpreter lock.

Each message is wrapped as `{"m":<value>}` on its own line. A wrapper adds at least one row or fails to parse, so as many
rows as messages proves that row i is message i, whatever the values hold. Anything unusual raises `NotColumnar`, and the
caller looks at the messages one by one.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ingestion.decode.rows import (
    OWN_FIELDS,
    SENSOR_FIELDS,
    TIME_FIELDS,
    VALUE_FIELDS,
    bad_sensor_name,
    depth_of,
    number_of,
)
from ingestion.decode.states import States, codes_of
from ingestion.tasks import heed

_HEAD, _BETWEEN, _TAIL = b'{"m":', b'}\n{"m":', b"}"
_LONG = 2048
_MAX_OPENERS = 256


class NotColumnar(Exception):
    """These messages need the literal reader; of `odd` (their positions), if given, the others can be tried without."""

    def __init__(self, why: str, odd: np.ndarray | None = None) -> None:
        super().__init__(why)
        self.odd = odd


@dataclass(frozen=True)
class Columns:
    """Rows of a group: `parent` int64[R], index of the message of each row; `time` numbers or text with nulls, or None;
    `sensors` by name, float64[R] with NaN still inside; `odd` bool[R], rows that the literal reader has to judge: no sensor has a value, or
    the only one has its name in a field beside it; `ignored` text and nested fields beside `values`;
    `counts` of texts that were read as numbers or are none."""

    parent: np.ndarray
    time: pa.Array | None
    asset: pa.Array | None
    seq: pa.Array | None
    quality: pa.Array | None
    sensors: dict[str, pa.Array]
    odd: np.ndarray
    ignored: int
    counts: Counter[str] = field(default_factory=Counter)


def parse(values: list[bytes], shape: pa.DataType | None) -> pa.Array:
    """The messages as one struct or list array, of exactly this type if one is given. Raises NotColumnar."""
    for value in values:
        # Arrow builds nested types recursively: depth in one message must stay far from its stack's end.
        if (
            len(value) > _LONG
            and value.count(b"{") + value.count(b"[") > _MAX_OPENERS
            and depth_of(value) > _MAX_OPENERS
        ):
            raise NotColumnar("deep")
    joined = b"".join((_HEAD, _BETWEEN.join(values), _TAIL))
    read = pj.ReadOptions(use_threads=False, block_size=len(joined) + 1)
    form = pj.ParseOptions()
    if shape is not None:
        form = pj.ParseOptions(explicit_schema=pa.schema([("m", shape)]), unexpected_field_behavior="error")
    if not is_utf8(joined):
        raise NotColumnar("not UTF-8")
    try:
        table = pj.read_json(pa.BufferReader(joined), read_options=read, parse_options=form)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise NotColumnar(str(error)) from None
    if table.num_rows != len(values) or table.num_columns != 1:
        raise NotColumnar("rows and messages differ")
    column = table.column(0)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def is_utf8(text: bytes) -> bool:
    """Whether the text is UTF-8, which no reader in columns looks at."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def flatten(messages: pa.Array, states: States) -> Columns:
    """Columns of parsed messages; text is a value where `states` has a code for it. Raises NotColumnar for every shape that needs a decision per message."""
    if messages.null_count:
        raise NotColumnar("null message")
    parent = np.arange(len(messages), dtype=np.int64)
    if pa.types.is_list(messages.type):
        lengths = pc.list_value_length(messages).to_numpy()
        if (lengths == 0).any():
            raise NotColumnar("empty list")
        parent = np.repeat(parent, lengths)
        messages = messages.flatten()
    if not pa.types.is_struct(messages.type) or messages.null_count:
        raise NotColumnar("not objects")
    fields = children(messages)
    time = time_of(fields)
    asset = asset_of(fields)
    seq, quality = (typed(fields.get(name), pa.types.is_integer) for name in ("seq", "quality"))
    sensors: dict[str, pa.Array] = {}
    counts: Counter[str] = Counter()
    inner = fields.get("values")
    if inner is not None and not pa.types.is_null(inner.type):
        if not pa.types.is_struct(inner.type):
            raise NotColumnar("values is not an object")
        for name, array in children(inner).items():
            sensors[name] = _sensor(name, array, states, counts)
    ignored = 0
    for name, array in fields.items():
        if name in OWN_FIELDS:
            continue
        if inner is not None and inner.null_count == 0 and not _numeric(array.type) and name not in states:
            ignored += len(array) - array.null_count
            continue
        if inner is not None and pa.types.is_string(array.type) and name not in states:
            # Whether such text is a value is for its own message to say, not for its neighbours.
            beside, texts = inner.is_valid(), len(array) - array.null_count
            array = pc.if_else(beside, pa.scalar(None, array.type), array)
            left = len(array) - array.null_count
            ignored += texts - left
            if not left:
                continue
        if name in sensors:
            raise NotColumnar("sensor beside and inside values")
        sensors[name] = _sensor(name, array, states, counts)
    if not sensors:
        raise NotColumnar("no sensors")
    odd = _silent(sensors.values(), len(parent))
    if any(pa.types.is_string(fields[name].type) for name in SENSOR_FIELDS if name in fields):
        # A value with its name in a text beside it: a narrow reading unless something else is read as well.
        odd |= _silent((array for name, array in sensors.items() if name not in VALUE_FIELDS), len(parent))
    return Columns(parent, time, asset, seq, quality, sensors, odd, ignored, counts)


def _silent(sensors: Iterable[pa.Array], rows: int) -> np.ndarray:
    """bool[R], where none of the sensors has a value."""
    silent = np.ones(rows, dtype=bool)
    for array in sensors:
        if array.null_count == 0:
            return np.zeros(rows, dtype=bool)
        silent &= array.is_null().to_numpy(zero_copy_only=False)
    return silent


def children(array: pa.StructArray) -> dict[str, pa.Array]:
    """The fields of a struct array by name, without those that are only known from other messages."""
    named = ((array.type.field(i).name, child) for i, child in enumerate(array.flatten()))
    return {n: child for n, child in named if child.null_count < len(child) or _numeric(child.type)}


def typed(array: pa.Array | None, accepts: object) -> pa.Array | None:
    """The array, None if it is missing or empty of values. Raises NotColumnar for another type."""
    if array is None or pa.types.is_null(array.type):
        return None
    if not accepts(array.type):  # type: ignore[operator]
        raise NotColumnar("unexpected type")
    return array


def asset_of(fields: dict[str, pa.Array]) -> pa.Array | None:
    """The machines' names, of which whole numbers are some. Raises NotColumnar for others and for one of more than 256 characters."""
    asset = fields.get("asset")
    if asset is not None and pa.types.is_integer(asset.type):
        return pc.cast(asset, pa.string())
    asset = typed(asset, pa.types.is_string)
    if asset is not None and len(asset) and (pc.max(pc.utf8_length(asset)).as_py() or 0) > 256:
        raise NotColumnar("long asset")
    return asset


def time_of(fields: dict[str, pa.Array]) -> pa.Array | None:
    """Of each message the first time field that has a value. Raises NotColumnar."""
    known = [
        fields[name] for name in TIME_FIELDS if name in fields and not pa.types.is_null(fields[name].type)
    ]
    sent = [array for array in known if array.null_count < len(array)] or known[:1]
    if len({array.type for array in sent}) > 1:
        raise NotColumnar("times of several types")
    found = sent if len(sent) < 2 else [pc.coalesce(*sent)]
    if found and not (
        pa.types.is_integer(found[0].type)
        or pa.types.is_floating(found[0].type)
        or pa.types.is_string(found[0].type)
    ):
        raise NotColumnar("unexpected time type")
    if found and pa.types.is_floating(found[0].type) and (pc.max(pc.abs(found[0])).as_py() or 0) >= 2**53:
        raise NotColumnar("whole times beyond what a float64 holds")
    return found[0] if found else None


def _sensor(name: str, array: pa.Array, states: States, counts: Counter[str]) -> pa.Array:
    if bad_sensor_name(name):
        raise NotColumnar("bad sensor name")
    if name in states and pa.types.is_string(array.type):
        codes = codes_of(array, states[name])
        if codes is None:
            raise NotColumnar("a state without a code")
        return codes
    if pa.types.is_string(array.type):
        return _numbers(array, counts)
    if not _numeric(array.type):
        raise NotColumnar("sensor is not a number")
    return array if array.type == pa.float64() else pc.cast(array, pa.float64(), safe=False)


def _numbers(texts: pa.Array, counts: Counter[str]) -> pa.Array:
    """Text as the literal reader takes it, each different text looked at once."""
    encoded = texts.dictionary_encode()
    often = pc.value_counts(encoded.indices.drop_null())
    different = encoded.dictionary.to_pylist()
    numbers: list[float | None] = [None] * len(different)
    found: Counter[str] = Counter()
    for place, times in zip(often.field(0).to_pylist(), often.field(1).to_pylist(), strict=True):
        heed()
        numbers[place] = number_of(different[place], found)
        for why in found:
            counts[why] += times
        found.clear()
    return pa.array(numbers, pa.float64()).take(encoded.indices)


def _numeric(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    )
