"""Whether a log still holds the record that was read last.

A log that was cut (a leader elected that lacked the newest records, a volume restored from a copy) and then grew beyond our
position looks like one that simply went on. Offset and leader epoch name one record for ever, time and checksum tell where
epochs were set back too: so the last record that was read is read once more and compared.
"""

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ingestion.clients import LOG, native_options
from ingestion.records import Imprint
from ingestion.settings import IngestSettings

_FETCH_BYTES = 64 << 10


def changed(
    settings: IngestSettings, last_read: Mapping[tuple[str, int], Imprint], timeout: float
) -> dict[tuple[str, int], Imprint]:
    """What lies where `last_read` was, by topic and partition, for those where it is another record.

    A record that is gone, by compaction, cannot be compared; an older epoch behind it still shows another log.
    Raises KafkaException, also if none was seen for `timeout` seconds.
    """
    if not last_read:
        return {}
    # With a group's name, as the client asks for one, but without joining it.
    consumer = Consumer(
        {
            **native_options(settings.bootstrap, settings.client),
            "group.id": settings.group_id,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_uncommitted",
            "enable.partition.eof": True,
            "fetch.message.max.bytes": _FETCH_BYTES,
            "queued.max.messages.kbytes": 1024,
        },
        logger=LOG,
    )
    try:
        return _changed(consumer, dict(last_read), timeout)
    finally:
        consumer.close()


def _changed(
    consumer: Consumer, pending: dict[tuple[str, int], Imprint], timeout: float
) -> dict[tuple[str, int], Imprint]:
    found = {}
    consumer.assign([TopicPartition(*place, imprint.offset) for place, imprint in pending.items()])
    heard = time.monotonic()
    while pending:
        if time.monotonic() - heard > timeout:
            raise KafkaException(
                KafkaError(KafkaError._TIMED_OUT, "the last records were not seen again", retriable=True)
            )
        for message in consumer.consume(len(pending), 0.1):
            place = message.topic(), message.partition()
            if place not in pending:
                continue
            if message.error() is not None:
                raise KafkaException(message.error())
            expected, seen, heard = pending.pop(place), _imprint(message), time.monotonic()
            if seen.offset > expected.offset:
                differs = -1 < seen.epoch < expected.epoch
            else:
                differs = not seen.same(expected)
            if differs:
                found[place] = seen
            consumer.incremental_unassign([TopicPartition(*place)])
    return found


def _imprint(message: Any) -> Imprint:
    return Imprint.of(
        message.offset(), message.leader_epoch(), message.timestamp()[1], message.key(), message.value()
    )
