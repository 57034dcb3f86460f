"""The values handed from the Kafka loop to the decoder and on to windowing."""

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

Place = tuple[str, int]
"""Topic and partition."""

RESERVED = ("offset", "event_time", "asset", "seq", "quality")
EVENT_TIME = pa.timestamp("ns", tz="UTC")
BASE_FIELDS = (
    pa.field("offset", pa.int64()),
    pa.field("event_time", EVENT_TIME),
    pa.field("asset", pa.string()),
    pa.field("seq", pa.int64()),
    pa.field("quality", pa.int16()),
)


class Imprint(NamedTuple):
    """By what a record is known again: its place, the epoch of the leader that took it (-1 if unknown), its own time in ms since
    1970 UTC, and the CRC-32 of key and value."""

    offset: int
    epoch: int
    timestamp: int
    checksum: int

    @classmethod
    def of(
        cls, offset: int, epoch: int | None, timestamp: int, key: bytes | None, value: bytes | None
    ) -> "Imprint":
        """The imprint of a record as a client gives it."""
        checksum = zlib.crc32(value or b"", zlib.crc32(key or b""))
        return cls(offset, -1 if epoch is None else epoch, timestamp, checksum)

    def same(self, other: "Imprint") -> bool:
        """Whether both can be the same record: an epoch that is not known agrees with any."""
        return self[2:] == other[2:] and (self.epoch == other.epoch or -1 in (self.epoch, other.epoch))


@dataclass(frozen=True)
class RecordBatch:
    """Raw records of one partition in offset order.

    `offsets` int64[N]; `timestamps` int64[N], the record's own time in ms since 1970 UTC (-1 if the broker has none);
    `keys` and `values` are bytes or None; `next_offset` is the consumer's position after this batch; `epochs` int32[N], the
    epochs of the leaders that took the records (-1 if unknown), None if nobody asked.
    """

    site: str
    topic: str
    partition: int
    offsets: np.ndarray
    timestamps: np.ndarray
    keys: list[bytes | None]
    values: list[bytes | None]
    next_offset: int
    epochs: np.ndarray | None = None

    def imprint(self, below: int) -> Imprint:
        """The imprint of the last record below this offset, at least the first one's."""
        at = max(0, int(np.searchsorted(self.offsets, below)) - 1)
        epoch = None if self.epochs is None else int(self.epochs[at])
        return Imprint.of(
            int(self.offsets[at]), epoch, int(self.timestamps[at]), self.keys[at], self.values[at]
        )


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
