"""A look at a topic: its newest records, in bounded time and number, without a consumer group and without any trace."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from ingestion.errors import InputDataError
from ingestion.records import RecordBatch
from ingestion.unreachable import unavailable

_MAX_BYTES = 128 << 20


@dataclass(frozen=True)
class Sample:
    """`batches` hold contiguous records, one a partition that has any; `held` is what the log holds, in offsets; `cut` says that
    time, or room for 128 MB, ran out before all records asked for were there."""

    topic: str
    partitions: int
    held: int
    batches: tuple[RecordBatch, ...]
    cut: bool

    @property
    def messages(self) -> int:
        """Records in the sample."""
        return sum(len(batch.values) for batch in self.batches)


def take_sample(
    bootstrap: str,
    client: Mapping[str, Any],
    topic: str,
    *,
    number: int = 10_000,
    seconds: float = 10.0,
    where: Literal["newest", "oldest"] = "newest",
) -> Sample:
    """Up to `number` records of a topic, shared by its partitions.

    Raises InputDataError (no such topic, nothing in it), BrokerUnavailable.
    """
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=min(number, 2000),
            **{"bootstrap_timeout_ms": int(seconds * 1000), **client},
        )
    except (KafkaError, OSError) as error:
        raise unavailable(bootstrap, error, f"topic {topic}") from error
    try:
        return _sample(consumer, topic, number, seconds, where)
    except KafkaError as error:
        raise unavailable(bootstrap, error, f"topic {topic}") from error
    finally:
        consumer.close(autocommit=False, timeout_ms=2000)


def _sample(consumer: KafkaConsumer, topic: str, number: int, seconds: float, where: str) -> Sample:
    limit = int(seconds * 1000)
    parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
    if not parts:
        raise InputDataError(f"there is no topic {topic!r}{_hint(topic, consumer.topics())}")
    starts = consumer.beginning_offsets(parts, timeout_ms=limit)
    ends = consumer.end_offsets(parts, timeout_ms=limit)
    filled = [part for part in parts if ends[part] > starts[part]]
    if not filled:
        raise InputDataError(f"topic {topic!r} is empty: send something first, or name another topic")
    share = max(1, number // len(filled))
    first = {p: max(starts[p], ends[p] - share) if where == "newest" else starts[p] for p in filled}
    last = {p: ends[p] if where == "newest" else min(ends[p], starts[p] + share) for p in filled}
    consumer.assign(filled)
    for part in filled:
        consumer.seek(part, first[part])
    found: dict[TopicPartition, list[Any]] = {part: [] for part in filled}
    until = time.monotonic() + seconds
    open_parts, size = set(filled), 0
    while open_parts and time.monotonic() < until and size < _MAX_BYTES:
        for part, records in consumer.poll(timeout_ms=200).items():
            found[part] += [record for record in records if record.offset < last[part]]
            size += sum(len(record.value or b"") for record in records)
        open_parts -= {part for part in open_parts if (consumer.position(part) or 0) >= last[part]}
    batches = tuple(_batch(part, records) for part, records in found.items() if records)
    if not batches:
        raise InputDataError(
            f"topic {topic!r}: no record was read within {seconds:g} s, although its log is {sum(ends.values()) - sum(starts.values())} "
            "offsets long; only transaction markers, or a slow broker: try a larger --seconds"
        )
    held = sum(ends[part] - starts[part] for part in parts)
    return Sample(topic, len(parts), held, batches, bool(open_parts))


def _hint(topic: str, known: set[str]) -> str:
    names = sorted(name for name in known if not name.startswith("__"))
    close = difflib.get_close_matches(topic, names, n=3, cutoff=0.5) or names[:5]
    return f"; there are {', '.join(close)}" if close else "; the cluster has no topics yet"


def _batch(part: TopicPartition, records: list[Any]) -> RecordBatch:
    return RecordBatch(
        site="sample",
        topic=part.topic,
        partition=part.partition,
        offsets=np.array([record.offset for record in records], dtype=np.int64),
        timestamps=np.array([record.timestamp for record in records], dtype=np.int64),
        keys=[record.key for record in records],
        values=[record.value for record in records],
        next_offset=records[-1].offset + 1,
    )
