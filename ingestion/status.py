"""Where every partition is, from files and broker alone: a running ingestion is neither asked nor disturbed."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ingestion.clients import LOG, native_options
from ingestion.compacted import listed, start_of
from ingestion.settings import IngestSettings, Site
from ingestion.unreachable import unavailable

_SOON = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class PartitionStatus:
    """One partition. `position` is the group's committed offset (None before the first commit), `lag` what lies behind it up to the
    log's end; `newest_event` is the largest event time before `position`, `last_window_end` the end of the newest window on disk, both
    in ns since 1970 UTC; `windows`, `addenda` and `files` are what lies on disk, members of compacted files included in the first two."""

    site: str
    topic: str
    partition: int
    log_start: int
    log_end: int
    position: int | None
    lag: int
    newest_event: int | None
    last_window_end: int | None
    windows: int
    addenda: int
    files: int


@dataclass(frozen=True)
class Status:
    """All partitions of the configured sites, and topics that do not exist."""

    partitions: list[PartitionStatus]
    missing_topics: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "lag": sum(part.lag for part in self.partitions),
            "partitions": [asdict(part) for part in self.partitions],
            "missing_topics": self.missing_topics,
        }


def status(settings: IngestSettings) -> Status:
    """Look once. Raises BrokerUnavailable, StorageError."""
    timeout = settings.limits.broker_timeout
    consumer = Consumer(
        {
            **native_options(settings.bootstrap, settings.client),
            # Never subscribed: a group that is only asked for its offsets sees no new member.
            "group.id": settings.group_id,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        },
        logger=LOG,
    )
    try:
        found, missing = [], []
        for site in settings.sites:
            numbers = _partitions(consumer, site.topic, timeout)
            if not numbers:
                missing.append(site.topic)
            for committed in _committed(consumer, site.topic, numbers, timeout):
                found.append(_status(consumer, settings, site, committed, timeout))
        return Status(found, missing)
    except KafkaException as error:
        raise unavailable(settings.bootstrap, error) from error
    finally:
        consumer.close()


def _partitions(consumer: Consumer, topic: str, timeout: float) -> list[int]:
    known = consumer.list_topics(topic, timeout=timeout).topics[topic]
    if known.error is not None and known.error.code() not in (
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
    ):
        raise KafkaException(KafkaError(known.error.code(), f"topic {topic}: {known.error.str()}"))
    return sorted(known.partitions)


def _committed(consumer: Consumer, topic: str, numbers: list[int], timeout: float) -> list[TopicPartition]:
    if not numbers:
        return []
    places = [TopicPartition(topic, number) for number in numbers]
    until = time.monotonic() + timeout
    while True:
        try:
            return consumer.committed(places, timeout=timeout)
        except KafkaException as error:
            # A cluster that was asked for the first time still makes the topic that holds offsets.
            if error.args[0].code() not in _SOON or time.monotonic() >= until:
                raise
            time.sleep(_PAUSE_SECONDS)


def _status(
    consumer: Consumer, settings: IngestSettings, site: Site, committed: TopicPartition, timeout: float
) -> PartitionStatus:
    number = committed.partition
    start, end = consumer.get_watermark_offsets(TopicPartition(site.topic, number), timeout=timeout)
    position = committed.offset if committed.offset >= 0 else None
    root = Path(settings.data_dir) / "windows" / site.name
    windows = addenda = files = 0
    last: int | None = None
    # A topic that was made anew has a folder with its id behind the name, beside that of the old one.
    for folder in sorted({*root.glob(f"{site.topic}/p{number}"), *root.glob(f"{site.topic}~*/p{number}")}):
        listing = listed(folder)
        names = [path.name for path in listing.plain]
        names += [name for compact in listing.compacts for name in compact.members]
        late = sum(".add-" in name for name in names)
        addenda, windows = addenda + late, windows + len(names) - late
        files += len(listing.plain) + len(listing.compacts)
        ends = (start_of(name.split("_")[1].split(".add-")[0].removesuffix(".parquet")) for name in names)
        last = max((*ends, *([] if last is None else [last])), default=None)
    return PartitionStatus(
        site.name,
        site.topic,
        number,
        start,
        end,
        position,
        max(0, end - max(start, position or 0)),
        _newest(committed.metadata),
        last,
        windows,
        addenda,
        files,
    )


def _newest(note: str | None) -> int | None:
    """The largest event time that the commit's note tells."""
    try:
        found = json.loads(note or "")["e"]
        return None if found is None else int(found)
    except (ValueError, KeyError, TypeError):
        return None
