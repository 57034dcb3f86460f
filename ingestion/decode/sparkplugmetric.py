"""What a Sparkplug B payload says, whichever encoding it came in, and how its compressed and packed values are opened.

Eclipse Sparkplug 3.0, sections 6.4.4 to 6.4.16 (data types, templates, arrays) and the compressed envelope of Eclipse Tahu.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ingestion.decode.rows import Refused

COMPRESSED = "SPBV1.0_COMPRESSED"
_WINDOW_BITS = {"GZIP": (31,), "DEFLATE": (15, -15), "": (47, -15)}
_ARRAYS = {
    "Int8Array": "<i1",
    "Int16Array": "<i2",
    "Int32Array": "<i4",
    "Int64Array": "<i8",
    "UInt8Array": "<u1",
    "UInt16Array": "<u2",
    "UInt32Array": "<u4",
    "UInt64Array": "<u8",
    "FloatArray": "<f4",
    "DoubleArray": "<f8",
}
_ARRAYS_FROM = 22
_BOOLEANS = ("BooleanArray", 32)
_NUMBERED = dict(enumerate(_ARRAYS, _ARRAYS_FROM))


class Metric(NamedTuple):
    """One metric as sent; `members` are those of a template, of a definition or an instance."""

    name: str | None
    alias: int | None
    time: Any
    kind: Any
    value: Any
    historical: bool
    quality: Any
    members: "tuple[Metric, ...] | None" = None
    definition: bool = False


Bounded = Callable[[int], None]
"""Raises Refused (`too_large`) for so many metrics, before they are looked at."""


class Content(NamedTuple):
    """One payload; `packed` holds another one, compressed by `algorithm`."""

    time: Any
    seq: Any
    metrics: tuple[Metric, ...]
    packed: bytes | None = None
    algorithm: str = ""


def envelope(time: Any, seq: Any, packed: bytes, metrics: tuple[Metric, ...]) -> Content:
    """A payload that holds a compressed one; a metric names the algorithm."""
    named = next((m.value for m in metrics if m.name == "algorithm" and isinstance(m.value, str)), "")
    return Content(time, seq, (), packed, named.upper())


def inflated(packed: bytes, algorithm: str, limit: int) -> bytes:
    """What was compressed, at most `limit` bytes. Raises Refused (`not_sparkplug`, `too_large`)."""
    if algorithm not in _WINDOW_BITS:
        raise Refused("not_sparkplug", f"compressed by {algorithm[:40]!r}: expected DEFLATE or GZIP")
    for bits in _WINDOW_BITS[algorithm]:
        opener = zlib.decompressobj(bits)
        try:
            found = opener.decompress(packed, limit + 1)
        except zlib.error:
            continue
        if len(found) > limit:
            raise Refused("too_large", f"more than max_message_bytes = {limit} when inflated")
        if opener.eof:
            return found
    raise Refused("not_sparkplug", "the compressed payload is damaged")


def unpacked(kind: Any, value: bytes) -> list[Any] | None:
    """The numbers of an array metric; None if it holds none or is damaged."""
    if kind in _BOOLEANS:
        count = int.from_bytes(value[:4], "little")
        bits = np.unpackbits(np.frombuffer(value[4:], dtype=np.uint8))
        return bits[:count].tolist() if len(value) >= 4 and len(bits) - 8 < count <= len(bits) else None
    form = _ARRAYS.get(_NUMBERED.get(kind, "") if isinstance(kind, int) else str(kind))
    if form is None or len(value) % int(form[2]):
        return None
    found: list[Any] = np.frombuffer(value, dtype=form).tolist()
    return found
