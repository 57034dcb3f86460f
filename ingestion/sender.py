"""Messages to Kafka by an idempotent producer whose failures are all ours by name, and the topics they need."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from ingestion.errors import BrokerUnavailable, IngestionError, InputDataError
from ingestion.unreachable import unavailable

MAX_UNCONFIRMED = 20_000


def create_topics(topics: Mapping[str, int], options: Mapping[str, Any], timeout: float) -> None:
    """Create those of `topics` (name to partitions) that do not exist; raises BrokerUnavailable within about `timeout` seconds."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    try:
        shared = {key: value for key, value in options.items() if key in KafkaAdminClient.DEFAULT_CONFIG}
        admin = KafkaAdminClient(**{"bootstrap_timeout_ms": int(timeout * 1000), **shared})
    except (KafkaError, OSError, ValueError) as error:
        raise _unavailable(error, options, "") from error
    try:
        missing = {name: count for name, count in topics.items() if name not in set(admin.list_topics())}
        for name, count in missing.items():
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics(
                    {name: {"num_partitions": count}}, timeout_ms=int(timeout * 1000), wait_for_metadata=True
                )
    except (KafkaError, OSError) as error:
        raise _unavailable(error, options, next(iter(topics))) from error
    finally:
        admin.close()


class Sender:
    """An idempotent producer with a bounded number of unconfirmed messages; every failure surfaces as one of ours."""

    def __init__(self, options: Mapping[str, Any], *, paced: bool, timeout: float) -> None:
        from kafka import KafkaProducer
        from kafka.errors import KafkaError

        self._errors = (KafkaError, OSError, ValueError)
        self._options, self._timeout = options, timeout
        self._waiting: deque[tuple[str, Any]] = deque()
        self._places: dict[tuple[str, bytes], int] = {}
        limit = int(timeout * 1000)
        try:
            self._producer = KafkaProducer(
                **{
                    "enable_idempotence": True,
                    "acks": "all",
                    "linger_ms": 5 if paced else 20,
                    "batch_size": 262_144,
                    "max_request_size": 10_000_000,
                    "max_block_ms": limit,
                    "bootstrap_timeout_ms": limit,
                    "request_timeout_ms": min(10_000, limit),
                    "delivery_timeout_ms": limit,
                    "reconnect_backoff_max_ms": 500,
                    **options,
                }
            )
        except self._errors as error:
            raise _unavailable(error, options, "") from error

    def send(self, topic: str, key: bytes, value: bytes, event_ms: int) -> None:
        """Hand one message over; waits only when too many are unconfirmed."""
        stamp = max(time.time_ns() // 1_000_000, event_ms)
        try:
            place = self._places.get((topic, key))
            if place is None:
                place = self._places[topic, key] = self._place(topic, key)
            future = self._producer.send(topic, value, key, partition=place, timestamp_ms=stamp)
            self._waiting.append((topic, future))
        except self._errors as error:
            raise _unavailable(error, self._options, topic) from error
        if len(self._waiting) > MAX_UNCONFIRMED:
            self.confirm(MAX_UNCONFIRMED // 2)

    def _place(self, topic: str, key: bytes) -> int:
        # Kafka's default choice, made once per asset: its hash in Python is a fifth of the cost of a message.
        from kafka.partitioner.default import murmur2

        partitions = sorted(self._producer.partitions_for(topic))
        return partitions[(murmur2(key) & 0x7FFFFFFF) % len(partitions)]

    def confirm(self, leave: int = 0) -> None:
        """Wait until at most `leave` messages are unconfirmed; raises for the first that failed."""
        while len(self._waiting) > leave:
            topic, future = self._waiting.popleft()
            try:
                future.get(timeout=self._timeout + 5)
            except self._errors as error:
                raise _unavailable(error, self._options, topic) from error

    def close(self) -> None:
        """Let go of the broker without waiting for what was not confirmed."""
        with contextlib.suppress(*self._errors):
            self._producer.close(timeout=0 if self._waiting else 5)


def _unavailable(error: Exception, options: Mapping[str, Any], topic: str) -> IngestionError:
    name = type(error).__name__
    if "Authorization" in name:
        return BrokerUnavailable(
            f"topic {topic}: {name}; these credentials may not write (or create) it, ask for the permission"
        )
    if "MessageSizeTooLarge" in name or "RecordTooLarge" in name:
        return InputDataError(
            f"topic {topic}: a reading is larger than the broker accepts (message.max.bytes)"
        )
    return unavailable(options["bootstrap_servers"], error, f"topic {topic}" if topic else "")
