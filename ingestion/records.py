"""The values handed from the Kafka loop to the decoder and on to windowing."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

RESERVED = ("offset", "event_time", "asset", "seq", "quality")
EVENT_TIME = pa.timestamp("ns", tz="UTC")
BASE_FIELDS = (
    pa.field("offset", pa.int64()),
    pa.field("event_time", EVENT_TIME),
    pa.field("asset", pa.string()),
    pa.field("seq", pa.int64()),
    pa.field("quality", pa.int16()),
)


@dataclass(frozen=True)
class RecordBatch:
    """Raw records of one partition in offset order.

    `offsets` int64[N]; `timestamps` int64[N], the record's own time in ms since 1970 UTC (-1 if the broker has none);
    `keys` and `values` are bytes or None; `next_offset` is the consumer's position after this batch.
    """

    site: str
    topic: str
    partition: int
    offsets: np.ndarray
    timestamps: np.ndarray
    keys: list[bytes | None]
    values: list[bytes | None]
    next_offset: int


@dataclass(frozen=True)
class Reject:
    """One message that cannot be kept: index in its batch, a reason from the documented list, and a line for people."""

    index: int
    reason: str
    message: str
    stage: str = "decode"


@dataclass
class Decoded:
    """What a decoder made of a batch.

    `readings` as documented in the architecture page (sorted by offset); `rejects` by ascending index; `counts` of what
    was repaired or dropped inside kept messages, by name.
    """

    readings: pa.Table
    rejects: list[Reject] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def empty_readings() -> pa.Table:
    """A readings table without rows and without sensors."""
    return pa.schema(BASE_FIELDS).empty_table()


def readings_schema(names: Iterable[str]) -> pa.Schema:
    """The schema of a readings table with these columns: the five base fields by name, a float64 for every sensor."""
    known = {field.name: field for field in BASE_FIELDS}
    return pa.schema([known.get(name) or pa.field(name, pa.float64()) for name in names])
