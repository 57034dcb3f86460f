"""From what one poll brought to batches for the worker, one a partition, and the news that came between records."""

from typing import Any

import numpy as np
from confluent_kafka import KafkaError

from ingestion.clients import LOG
from ingestion.consuming.assignment import Assignment
from ingestion.consuming.patience import REFUSED
from ingestion.errors import BrokerUnavailable
from ingestion.records import Place, RecordBatch
from ingestion.settings import IngestSettings
from ingestion.worker import Worker

POLL_RECORDS = 20_000
_FIRST_POLL = 1_000
_POLL_BYTES = 8 << 20


class Handover:
    """`room` is how many messages to ask for at once: as many as are likely to fill `_POLL_BYTES`."""

    def __init__(self, settings: IngestSettings, assignment: Assignment, worker: Worker) -> None:
        self._bootstrap = settings.bootstrap
        self._name_of = {site.topic: site.name for site in settings.sites}
        self._assignment, self._worker = assignment, worker
        self.room = _FIRST_POLL

    def take(self, messages: list[Any]) -> None:
        """Give the worker what was read of open partitions and note where reading goes on. Raises BrokerUnavailable, ContinuityError."""
        parts, events = _by_partition(messages)
        size = sum(
            self._feed(place, records)
            for place, records in parts.items()
            if place in self._assignment.position
        )
        if size:
            self.room = max(1, min(POLL_RECORDS, _POLL_BYTES * len(messages) // size))
        # Behind the records: an end of partition says that everything before it has been handed over.
        for event in events:
            self._event(event)

    def _feed(self, place: Place, records: list[Any]) -> int:
        """Hand over one partition's batch; returns the bytes of its values."""
        batch = _batch(self._name_of[place[0]], place, records)
        self._assignment.advance(place, batch.next_offset)
        size = sum(len(value) for value in batch.values if value is not None)
        self._worker.feed(place, batch, size)
        return size

    def _event(self, message: Any) -> None:
        """What comes instead of a record: the end of a partition, or an error."""
        error, place = message.error(), (message.topic(), message.partition())
        if error.code() in REFUSED:
            raise BrokerUnavailable(f"{self._bootstrap}: {place[0]}: {error.name()}: {error.str()}")
        if error.code() == KafkaError._PARTITION_EOF:
            self._assignment.end_seen(place, message.offset())
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._assignment.gap_seen(place)
        else:
            LOG.warning("%s[%s]: %s", *place, error)


def _by_partition(messages: list[Any]) -> tuple[dict[Place, list[Any]], list[Any]]:
    """Records by partition in their order, and messages that are none."""
    parts: dict[Place, list[Any]] = {}
    events = []
    place, part = ("", -1), []
    for message in messages:
        if message.error() is not None:
            events.append(message)
            continue
        at = message.topic(), message.partition()
        if at != place:
            place, part = at, parts.setdefault(at, [])
        part.append(message)
    return parts, events


def _batch(site: str, place: Place, records: list[Any]) -> RecordBatch:
    first, last = (_epoch(records[at]) for at in (0, -1))
    # Epochs never fall along a log, so mostly two say all.
    epochs = [first] * len(records) if first == last else [_epoch(record) for record in records]
    return RecordBatch(
        site=site,
        topic=place[0],
        partition=place[1],
        offsets=np.array([record.offset() for record in records], dtype=np.int64),
        timestamps=np.array([record.timestamp()[1] for record in records], dtype=np.int64),
        keys=[record.key() for record in records],
        values=[record.value() for record in records],
        next_offset=records[-1].offset() + 1,
        epochs=np.array(epochs, dtype=np.int32),
    )


def _epoch(record: Any) -> int:
    epoch = record.leader_epoch()
    return -1 if epoch is None else epoch
