"""From what one poll brought to batches for the worker, one a partition, and the news that came between records."""

import itertools

import numpy as np
from confluent_kafka import KafkaError, Message

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

    def take(self, messages: list[Message]) -> None:
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

    def _feed(self, place: Place, records: list[Message]) -> int:
        """Hand over one partition's batch; returns the bytes of its values."""
        batch = _batch(self._name_of[place[0]], place, records)
        self._assignment.advance(place, batch.next_offset)
        size = sum(len(value) for value in batch.values if value is not None)
        self._worker.feed(place, batch, size)
        return size

    def _event(self, message: Message) -> None:
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


def _by_partition(messages: list[Message]) -> tuple[dict[Place, list[Message]], list[Message]]:
    """Records by partition in their order, and messages that are none. No line of Python runs for a single message, here and in `_batch`."""
    events: list[Message] = []
    errors = list(map(Message.error, messages))
    if any(errors):
        events = [message for message, error in zip(messages, errors, strict=True) if error is not None]
        messages = [message for message, error in zip(messages, errors, strict=True) if error is None]
    parts: dict[Place, list[Message]] = {}
    begin = 0
    places = zip(map(Message.topic, messages), map(Message.partition, messages), strict=True)
    for place, run in itertools.groupby(places):
        end = begin + len(list(run))
        parts.setdefault(place, []).extend(messages[begin:end])
        begin = end
    return parts, events


def _batch(site: str, place: Place, records: list[Message]) -> RecordBatch:
    count = len(records)
    first, last = (_epoch(records[at]) for at in (0, -1))
    # Epochs never fall along a log, so mostly two say all.
    epochs = [first] * count if first == last else [_epoch(record) for record in records]
    stamps = np.fromiter(itertools.chain.from_iterable(map(Message.timestamp, records)), np.int64, 2 * count)
    return RecordBatch(
        site=site,
        topic=place[0],
        partition=place[1],
        offsets=np.fromiter(map(Message.offset, records), np.int64, count),
        timestamps=stamps[1::2].copy(),
        keys=list(map(Message.key, records)),
        values=list(map(Message.value, records)),
        next_offset=records[-1].offset() + 1,
        epochs=np.array(epochs, dtype=np.int32),
    )


def _epoch(record: Message) -> int:
    epoch = record.leader_epoch()
    return -1 if epoch is None else epoch
