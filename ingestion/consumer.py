"""The Kafka loop: poll, hand over, commit what is durable. Everything else happens in the worker.

A committed offset is only a hint where to read on; the files decide what is handled. See docs/failures.md.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from ingestion.counts import IngestReport, SiteCounts
from ingestion.deadletter import Outbox, make_topics
from ingestion.errors import BrokerUnavailable, ContinuityError
from ingestion.eventtime import NS
from ingestion.faultpoint import reached
from ingestion.records import RecordBatch
from ingestion.settings import IngestSettings
from ingestion.store import Identity, PartitionStore
from ingestion.windowing import NEVER, Rules, Windows
from ingestion.worker import Worker, new_lane

_LOST_GROUP = (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
POLL_RECORDS = 10_000


@dataclass(frozen=True)
class Progress:
    """Where a running ingestion is: rows read so far and messages left up to the goal (None when it has no end)."""

    read: int
    remaining: int | None


def ingest(
    settings: IngestSettings,
    *,
    until: Literal["end"] | None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> IngestReport:
    """Bring every site's topic to disk as closed windows, exactly once.

    `until="end"` reads each partition up to the end it has at the start and returns; None runs until `stop` is set.
    Raises BrokerUnavailable, ContinuityError, StorageError; what is on disk and committed stays valid in every case.
    """
    loop = _Loop(settings, until == "end", progress, stop or threading.Event())
    try:
        return loop.run()
    except OffsetOutOfRangeError as error:
        raise ContinuityError(
            f"retention removed records not yet read: {error}; start again with --accept-gap"
        ) from error
    except KafkaError as error:
        raise BrokerUnavailable(
            f"{settings.bootstrap}: {type(error).__name__}: {error}; check broker and permissions"
        ) from error
    finally:
        loop.close()


class _Assignment(ConsumerRebalanceListener):
    """Only pauses and marks: anything that blocks would raise in the client's I/O thread."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self.gained: set[TopicPartition] = set()
        self.lost: set[TopicPartition] = set()

    def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        for partition in assigned:
            self._consumer.seek(partition, 0)
        self._consumer.pause(*assigned)
        self.gained |= set(assigned)

    def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        self.lost |= set(revoked)
        self.gained -= set(revoked)


class _Loop:
    def __init__(
        self,
        settings: IngestSettings,
        to_end: bool,
        progress: Callable[[Progress], None] | None,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._to_end = to_end
        self._progress = progress
        self._stop = stop
        self._site_of = {site.topic: site for site in settings.sites}
        self._counts = {site.name: SiteCounts() for site in settings.sites}
        self._worker: Worker | None = None
        self._outbox: Outbox | None = None
        self._consumer: KafkaConsumer | None = None
        self._listener: _Assignment | None = None
        self._open: set[TopicPartition] = set()
        self._goal: dict[TopicPartition, int] = {}
        self._held = False
        self._moved: dict[TopicPartition, float] = {}
        self._last: dict[TopicPartition, Any] = {}
        self._topics: list[str] = []
        self._heard = 0.0
        self._joined_again = False

    def run(self) -> IngestReport:
        """See `ingest`."""
        began = time.monotonic()
        settings, limits = self._settings, self._settings.limits
        missing = self._describe()
        topics = [topic for topic in self._site_of if topic not in missing or not self._to_end]
        report = IngestReport(self._counts, sorted(missing))
        if not topics:
            return report
        make_topics(
            settings.bootstrap,
            settings.client,
            {name for site in settings.sites for name in (site.dead_letter_topic, site.late_topic)},
            limits.broker_timeout,
        )
        self._worker = Worker(settings)
        self._outbox = Outbox(
            settings.bootstrap, settings.client, settings.group_id, settings.data_dir, limits.broker_timeout
        )
        self._consumer = self._client()
        partitions = [
            TopicPartition(t, p) for t in topics for p in sorted(self._consumer.partitions_for_topic(t) or ())
        ]
        if self._to_end:
            self._goal = self._ends(partitions)
        self._topics = topics
        self._listener = _Assignment(self._consumer)
        self._consumer.subscribe(topics, listener=self._listener)
        self._poll_until_done()
        report.seconds = time.monotonic() - began
        return report

    def _client(self) -> KafkaConsumer:
        settings, limits = self._settings, self._settings.limits
        return KafkaConsumer(
            bootstrap_servers=settings.bootstrap,
            group_id=settings.group_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=POLL_RECORDS,
            session_timeout_ms=int(limits.session_timeout * 1000),
            heartbeat_interval_ms=int(limits.session_timeout * 200),
            **settings.client,
        )

    def _join_again(self) -> None:
        """Replace a client that no longer gets anywhere: kafka-python 3.0.12 can lose a join and then stays out for good."""
        worker, old = self._worker, self._consumer
        assert worker is not None and old is not None
        with contextlib.suppress(KafkaError):
            consumer = self._client()
            for partition in self._open:
                worker.drop(partition)
            self._open.clear()
            self._held = False
            self._listener = _Assignment(consumer)
            self._consumer = consumer
            consumer.subscribe(self._topics, listener=self._listener)
            old.close(autocommit=False, timeout_ms=1000)

    def _bound_silence(self) -> None:
        """Until the end is reached, silence is bounded: join again once, then say that the broker does not answer."""
        limits, worker = self._settings.limits, self._worker
        assert worker is not None
        now = time.monotonic()
        if self._held or not worker.idle:
            self._heard = now
        silent, patience = now - self._heard, limits.session_timeout + 5
        if silent > patience and not self._joined_again:
            self._joined_again = True
            self._join_again()
        elif silent > patience + limits.broker_timeout:
            raise BrokerUnavailable(
                f"{self._settings.bootstrap}: nothing read for {silent:.0f} s although {self._remaining()} messages are left; "
                "check the broker, then start again: the run continues where it was"
            )

    def _describe(self) -> set[str]:
        """Learn cluster id and topic ids; returns the topics that do not exist."""
        admin = KafkaAdminClient(bootstrap_servers=self._settings.bootstrap, **self._settings.client)
        try:
            self._cluster = str(admin.describe_cluster()["cluster_id"])
            present = set(admin.list_topics())
            found = [topic for topic in self._site_of if topic in present]
            self._topic_ids = {}
            for entry in admin.describe_topics(found) if found else []:
                self._topic_ids[entry["name"]] = str(entry["topic_id"])
            return set(self._site_of) - present
        finally:
            admin.close()

    def _ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        assert self._consumer is not None
        timeout = int(self._settings.limits.broker_timeout * 1000)
        return dict(self._consumer.end_offsets(partitions, timeout_ms=timeout))

    def _poll_until_done(self) -> None:
        worker = self._worker
        assert self._consumer is not None and worker is not None
        limits = self._settings.limits
        next_commit = time.monotonic() + limits.commit_interval
        first = self._heard = time.monotonic()
        while not self._stop.is_set():
            polled = self._consumer.poll(timeout_ms=200)
            worker.check()
            self._rebalanced()
            for partition, records in polled.items():
                if partition in self._open and records:
                    self._hand_over(partition, records)
            self._hold_or_resume()
            if time.monotonic() >= next_commit:
                self._commit()
                self._idle_partitions()
                next_commit = time.monotonic() + limits.commit_interval
                if self._progress is not None:
                    self._progress(Progress(sum(c.read for c in self._counts.values()), self._remaining()))
            if self._to_end:
                if self._reached_goal(first):
                    break
                self._bound_silence()
        if self._stop.is_set():
            return
        worker.drain(600)
        if self._settings.close_open:
            for partition in self._open:
                worker.close_windows(partition, "shutdown")
            worker.drain(600)
        self._commit()
        if self._progress is not None:
            self._progress(Progress(sum(c.read for c in self._counts.values()), 0))

    def _reached_goal(self, first: float) -> bool:
        consumer = self._consumer
        assert consumer is not None
        if not self._open:
            waited = time.monotonic() - first
            if consumer.assignment() == set() and waited > self._settings.limits.broker_timeout:
                raise BrokerUnavailable(
                    f"no partition assigned within {waited:.0f} s: is another process of group {self._settings.group_id!r} running?"
                )
            return not self._goal
        return self._remaining() == 0 and consumer.assignment() == self._open

    def _remaining(self) -> int | None:
        if not self._to_end or self._consumer is None:
            return None
        left = [max(0, self._goal.get(p, 0) - (self._consumer.position(p) or 0)) for p in self._open]
        return sum(left)

    def _hand_over(self, partition: TopicPartition, records: list[Any]) -> None:
        assert self._worker is not None and self._consumer is not None
        values = [record.value for record in records]
        batch = RecordBatch(
            site=self._site_of[partition.topic].name,
            topic=partition.topic,
            partition=partition.partition,
            offsets=np.array([record.offset for record in records], dtype=np.int64),
            timestamps=np.array([record.timestamp for record in records], dtype=np.int64),
            keys=[record.key for record in records],
            values=values,
            next_offset=self._consumer.position(partition) or records[-1].offset + 1,
        )
        self._moved[partition] = self._heard = time.monotonic()
        self._joined_again = False
        self._worker.feed(partition, batch, sum(len(value) for value in values if value is not None))

    def _rebalanced(self) -> None:
        listener, worker, consumer = self._listener, self._worker, self._consumer
        assert listener is not None and worker is not None and consumer is not None
        lost, listener.lost = listener.lost, set()
        for partition in lost:
            worker.drop(partition)
            self._open.discard(partition)
        gained, listener.gained = listener.gained, set()
        for partition in sorted(gained & consumer.assignment()):
            self._take(partition)

    def _take(self, partition: TopicPartition) -> None:
        """Scan the partition's files, check that the topic continues them, seek and resume."""
        consumer, worker, settings = self._consumer, self._worker, self._settings
        assert consumer is not None and worker is not None
        timeout = int(settings.limits.broker_timeout * 1000)
        site = self._site_of[partition.topic]
        topic_id = self._topic_ids.get(partition.topic) or self._late_topic_id(partition.topic)
        identity = Identity(site.name, self._cluster, partition.topic, topic_id, partition.partition)
        length = int(settings.event_time.window * NS)
        store = PartitionStore(settings.data_dir, identity, length).scan()
        committed = consumer.committed(partition, metadata=True, timeout_ms=timeout)
        note = _note(committed.metadata if committed is not None else "")
        other = {f.topic_id for f in store.footers} | ({note["t"]} if note else set())
        if other - {topic_id}:
            if not settings.new_topic:
                raise ContinuityError(
                    f"topic {partition.topic} was created again (id {topic_id}, on disk {sorted(other - {topic_id})[0]}): "
                    "start with --new-topic to read it beside the old windows"
                )
            store = PartitionStore(settings.data_dir, identity, length).scan(new_folder=True)
            if note and note["t"] != topic_id:
                committed, note = None, None
        log_start = consumer.beginning_offsets([partition], timeout_ms=timeout)[partition]
        log_end = consumer.end_offsets([partition], timeout_ms=timeout)[partition]
        start = committed.offset if committed is not None and note and not store.damaged else log_start
        if committed is not None and not note:
            start = log_start
        settled = int(note["s"]) if note else log_start
        if start < log_start and not settings.accept_gap:
            raise ContinuityError(
                f"{partition.topic}[{partition.partition}]: offsets {start} to {log_start - 1} were removed by retention before "
                "they were read: start with --accept-gap to go on without them"
            )
        if start > log_end or settled > log_end:
            raise ContinuityError(
                f"{partition.topic}[{partition.partition}]: position {max(start, settled)} is beyond the log's end {log_end}: "
                "the log was cut; restore it or start with another group and data folder"
            )
        start = max(start, log_start)
        resumed = note is not None and not store.damaged and note["e"] is not None
        largest = int(note["e"]) if resumed and note else NEVER
        windows = Windows(Rules.of(settings.event_time), start, largest, store.handled)
        worker.open(partition, new_lane(settings, site, store, windows, self._counts[site.name], settled))
        self._open.add(partition)
        self._moved[partition] = self._heard = time.monotonic()
        consumer.seek(partition, start)
        if not self._held:
            consumer.resume(partition)

    def _late_topic_id(self, topic: str) -> str:
        self._describe()
        return self._topic_ids.get(topic, "")

    def _hold_or_resume(self) -> None:
        consumer, worker = self._consumer, self._worker
        assert consumer is not None and worker is not None
        limit = self._settings.limits.max_queued_bytes
        if not self._held and worker.queued_bytes > limit:
            consumer.pause(*self._open)
            self._held = True
        elif self._held and worker.queued_bytes < limit // 2:
            consumer.resume(*(self._open & consumer.assignment()))
            self._held = False

    def _idle_partitions(self) -> None:
        """Close the windows of partitions that are caught up and silent; back-pressure does not count as silence."""
        consumer, worker = self._consumer, self._worker
        assert consumer is not None and worker is not None
        now = time.monotonic()
        for partition in self._open:
            lane = worker.lanes.get(partition)
            if self._held or not worker.idle or lane is None or not lane.windows.open:
                continue
            end = consumer.highwater(partition)
            caught_up = end is None or (consumer.position(partition) or 0) >= end
            if caught_up and now - self._moved[partition] > self._settings.event_time.idle_timeout:
                worker.close_windows(partition, "idle")

    def _commit(self) -> None:
        consumer, worker, outbox = self._consumer, self._worker, self._outbox
        assert consumer is not None and worker is not None and outbox is not None
        snapshot = worker.snapshot()
        marks = {
            partition: OffsetAndMetadata(mark.offset, mark.metadata, -1)
            for partition, mark in snapshot.marks.items()
            if partition in self._open
        }
        try:
            if snapshot.letters:
                outbox.send(snapshot.letters, marks, consumer.group_metadata())
            elif marks and marks != self._last:
                reached("before_commit")
                consumer.commit(marks, timeout_ms=int(self._settings.limits.broker_timeout * 1000))
                reached("after_commit")
            self._last = marks
        except _LOST_GROUP:
            for partition in list(self._open):
                self._retake(partition)
        for partition in snapshot.retake:
            self._retake(partition)

    def _retake(self, partition: TopicPartition) -> None:
        consumer, worker, listener = self._consumer, self._worker, self._listener
        assert consumer is not None and worker is not None and listener is not None
        worker.drop(partition)
        self._open.discard(partition)
        if partition in consumer.assignment():
            consumer.pause(partition)
            listener.gained.add(partition)

    def close(self) -> None:
        """Stop the worker, leave the group, free the slot; open windows are dropped and read again next time."""
        if self._worker is not None:
            self._worker.end()
            for partition in list(self._worker.lanes):
                self._worker.drop(partition)
        if self._consumer is not None:
            with contextlib.suppress(KafkaError):
                self._consumer.close(autocommit=False, timeout_ms=5000)
        if self._outbox is not None:
            with contextlib.suppress(KafkaError):
                self._outbox.close()


def _note(text: str | None) -> dict[str, Any] | None:
    try:
        note = json.loads(text or "")
        return note if {"t", "e", "s"} <= note.keys() else None
    except (ValueError, AttributeError):
        return None
