"""What a scorer reads: telemetry from a stored position, and its own alerts and memory of before. Partitions are assigned by hand."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError, TopicAlreadyExistsError

from ingestion.errors import BrokerUnavailable
from ingestion.records import RecordBatch
from ingestion.unreachable import unavailable
from pipeline.scoring.alerts import AlertEvent, event_of_message
from pipeline.scoring.memory import Memory, memory_topic
from pipeline.scoring.settings import ScoreSettings, ScoringFailed, alert_topic

_POLL_RECORDS = 10_000
_FALLBACK_HISTORY = 200_000
_FIRST_HISTORY = 5_000
"""Messages that a scorer reads back to fill its buffers when it runs for the first time."""
_UNKNOWN_TOPIC = 3

Result = TypeVar("Result")


@dataclass(frozen=True)
class Position:
    """Where a partition goes on: `committed` is the first undecided offset, `resume` where reading back starts; `removed` undecided offsets
    before it are no longer in the log."""

    resume: int
    committed: int
    removed: int = 0


class Telemetry:
    """Consumer of the sites' telemetry topics, or of other topics that belong to sites."""

    def __init__(self, settings: ScoreSettings, site_of: Mapping[str, str] | None = None) -> None:
        """Connect; `site_of` names the site of each topic if they are not those of the telemetry. Raises BrokerUnavailable."""
        self._timeout_ms = int(settings.limits.broker_timeout * 1000)
        self._site_of = site_of or {site.topic: site.name for site in settings.sites}
        self._bootstrap = settings.bootstrap
        self._start_group = settings.start_group
        self._client = dict(settings.client)
        self._consumer = self._guarded(
            lambda: KafkaConsumer(
                bootstrap_servers=settings.bootstrap,
                group_id=settings.group_id,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                max_poll_records=_POLL_RECORDS,
                **settings.client,
            )
        )

    def _guarded(self, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except AuthorizationError as error:
            raise ScoringFailed(
                f"{self._bootstrap}: not allowed ({error}); grant Read on the topics and the group"
            ) from error
        except (KafkaError, OSError) as error:
            raise unavailable(self._bootstrap, error) from error

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Partitions of a topic, empty if there is no such topic."""
        found = self._guarded(lambda: self._consumer.partitions_for_topic(topic))
        return [TopicPartition(topic, number) for number in sorted(found or ())]

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Current ends (after the last committed message)."""
        found: dict[TopicPartition, int] = self._guarded(
            lambda: self._consumer.end_offsets(list(partitions), timeout_ms=self._timeout_ms)
        )
        return found

    def stored(self, partition: TopicPartition) -> Position:
        """The group's stored position, clamped to what the log still holds."""
        first = self._guarded(
            lambda: self._consumer.beginning_offsets([partition], timeout_ms=self._timeout_ms)
        )[partition]
        found = self._guarded(
            lambda: self._consumer.committed(partition, metadata=True, timeout_ms=self._timeout_ms)
        )
        if found is None:
            begin = max(first, self._guarded(lambda: self._read_by_start_group(partition)))
            return Position(max(first, begin - _FIRST_HISTORY), begin)
        try:
            resume = int(json.loads(found.metadata)["resume"])
        except (ValueError, KeyError, TypeError):
            resume = found.offset - _FALLBACK_HISTORY
        committed = max(first, found.offset)
        return Position(min(max(first, resume), committed), committed, committed - found.offset)

    def _read_by_start_group(self, partition: TopicPartition) -> int:
        """First offset that the group this scorer follows has not read; 0 without such a group or position."""
        if self._start_group is None:
            return 0
        with contextlib.closing(
            KafkaConsumer(
                bootstrap_servers=self._bootstrap,
                group_id=self._start_group,
                enable_auto_commit=False,
                **self._client,
            )
        ) as follower:
            return follower.committed(partition, timeout_ms=self._timeout_ms) or 0

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets, others not."""
        self._consumer.assign(list(positions))
        for partition, offset in positions.items():
            self._consumer.seek(partition, offset)

    def assigned(self) -> list[TopicPartition]:
        """Partitions being read."""
        return sorted(self._consumer.assignment())

    def position(self, partition: TopicPartition) -> int:
        """Offset of the next message, past control records. Raises BrokerUnavailable."""
        found: int = self._guarded(lambda: self._consumer.position(partition, timeout_ms=self._timeout_ms))
        return found

    def poll(self, seconds: float) -> list[RecordBatch]:
        """What has arrived, one batch a partition; empty after `seconds` without any."""
        records = self._guarded(lambda: self._consumer.poll(timeout_ms=int(seconds * 1000)))
        return [
            RecordBatch(
                site=self._site_of[tp.topic],
                topic=tp.topic,
                partition=tp.partition,
                offsets=np.fromiter((r.offset for r in found), np.int64, len(found)),
                timestamps=np.fromiter((r.timestamp for r in found), np.int64, len(found)),
                keys=[r.key for r in found],
                values=[r.value for r in found],
                next_offset=self.position(tp),
            )
            for tp, found in records.items()
            if found
        ]

    def close(self) -> None:
        """Disconnect within bounds."""
        with contextlib.suppress(KafkaError, OSError):
            self._consumer.close(autocommit=False, timeout_ms=3000)


def ensure_topics(settings: ScoreSettings) -> None:
    """Create the alert and memory topics that do not exist yet, with the broker's default partitions and replication.

    Raises:
        BrokerUnavailable: the broker does not answer.
        ScoringFailed: this user may not create topics.
    """
    wanted: dict[str, dict[str, Any]] = {alert_topic(site.name): {} for site in settings.sites}
    for site in settings.sites:
        wanted[memory_topic(site.name)] = {"configs": {"cleanup.policy": "compact"}}
    admin = None
    try:
        admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap, **settings.client)
        missing = [
            topic["name"]
            for topic in admin.describe_topics(list(wanted))
            if topic["error_code"] == _UNKNOWN_TOPIC
        ]
        for name in missing:
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics(
                    {name: wanted[name]},
                    timeout_ms=int(settings.limits.broker_timeout * 1000),
                    wait_for_metadata=True,
                )
    except AuthorizationError as error:
        raise ScoringFailed(
            f"{', '.join(wanted)}: this user may not create topics ({error}); create them or grant Create"
        ) from error
    except (KafkaError, OSError) as error:
        raise unavailable(settings.bootstrap, error) from error
    finally:
        if admin is not None:
            admin.close()


def last_alerts(settings: ScoreSettings) -> dict[str, dict[str, tuple[str, AlertEvent]]]:
    """The last alert of each machine as the sites' alert topics tell: site -> asset -> (state, event).

    Messages of other writers are passed over. Raises BrokerUnavailable.
    """
    found: dict[str, dict[str, tuple[str, AlertEvent]]] = {site.name: {} for site in settings.sites}
    for site, _, value in _whole_topics(settings, alert_topic):
        with contextlib.suppress(ValueError):
            asset, state, event = event_of_message(value)
            known = found[site].get(asset)
            if known is None or event.start_ns >= known[1].start_ns:
                found[site][asset] = (state, event)
    return found


def last_memories(settings: ScoreSettings) -> dict[str, dict[str, Memory]]:
    """What was last remembered of each machine: site -> asset -> memory. Messages of other writers are passed over.

    Raises BrokerUnavailable.
    """
    found: dict[str, dict[str, Memory]] = {site.name: {} for site in settings.sites}
    for site, key, value in _whole_topics(settings, memory_topic):
        memory = Memory.of_bytes(value)
        if memory is not None:
            found[site][key.decode("utf-8", "replace")] = memory
    return found


def _whole_topics(
    settings: ScoreSettings, topic_of: Callable[[str], str]
) -> Iterator[tuple[str, bytes, bytes]]:
    """Site, key and value of all messages of each site's topic, each partition in order. Raises BrokerUnavailable."""
    site_of = {topic_of(site.name): site.name for site in settings.sites}
    reader = Telemetry(settings, site_of)
    try:
        partitions = [tp for topic in site_of for tp in reader.partitions(topic)]
        if not partitions:
            return
        ends = reader.ends(partitions)
        reader.assign(dict.fromkeys(partitions, 0))
        silent = 0
        while any(reader.position(tp) < end for tp, end in ends.items()):
            batches = reader.poll(0.5)
            silent = 0 if batches else silent + 1
            if silent > 2 * settings.limits.broker_timeout:
                late = next(tp.topic for tp, end in ends.items() if reader.position(tp) < end)
                raise BrokerUnavailable(f"{settings.bootstrap}: {late} cannot be read to its end")
            for batch in batches:
                for key, value in zip(batch.keys, batch.values, strict=True):
                    yield batch.site, key or b"", value or b""
    finally:
        reader.close()
