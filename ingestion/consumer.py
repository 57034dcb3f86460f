"""The Kafka loop: poll, hand over, commit what is durable. Everything else happens in the worker.

A committed offset is only a hint where to read on; the files decide what is handled. See docs/failures.md.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Code

from ingestion.clients import LOG, native_options
from ingestion.counts import IngestReport, SiteCounts
from ingestion.deadletter import LETTER_BYTES
from ingestion.errors import BrokerUnavailable, ContinuityError
from ingestion.faultpoint import reached
from ingestion.observation import PartitionView, View
from ingestion.outbox import NothingSent, Outbox
from ingestion.records import RecordBatch
from ingestion.resume import Bounds, Committed, resume
from ingestion.settings import IngestSettings
from ingestion.store import Identity
from ingestion.topics import Topics
from ingestion.watched import within
from ingestion.worker import Mark, Worker, new_lane

Place = tuple[str, int]
"""Topic and partition."""

POLL_RECORDS = 20_000
_FIRST_POLL = 1_000
_POLL_BYTES = 8 << 20
_POLL_SECONDS = 0.1
_HOLD_SECONDS = 0.5
_PREFETCH_KB = 8 << 10
_MANY_LETTERS = 8 << 20
_ASKING_SECONDS = 2.0
_COMMIT_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_ASSURE_SECONDS = 5.0
_REFUSED = {
    Code.TOPIC_AUTHORIZATION_FAILED,
    Code.GROUP_AUTHORIZATION_FAILED,
    Code.CLUSTER_AUTHORIZATION_FAILED,
    Code._AUTHENTICATION,
    Code.SASL_AUTHENTICATION_FAILED,
}


@dataclass(frozen=True)
class Progress:
    """Where a running ingestion is: rows read so far and messages left up to the goal (None when it has no end)."""

    read: int
    remaining: int | None
    view: View | None = None


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
    except KafkaException as error:
        raise BrokerUnavailable(
            f"{settings.bootstrap}: {_said(error)}; check broker and permissions"
        ) from error
    finally:
        loop.close()


def _said(error: Exception) -> str:
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], Code):
        return f"{error.args[0].name()}: {error.args[0].str()}"
    return f"{type(error).__name__}: {error}"


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
        self._topics: Topics | None = None
        self._worker: Worker | None = None
        self._outbox: Outbox | None = None
        self._consumer: Consumer | None = None
        self._position: dict[Place, int] = {}
        """Open partitions and the offset that is read next."""
        self._goal: dict[Place, int] = {}
        self._gained: set[Place] = set()
        self._lost: set[Place] = set()
        self._at_end: set[Place] = set()
        self._gap_at: dict[Place, int] = {}
        self._moved: dict[Place, float] = {}
        self._last: dict[Place, Mark] = {}
        self._held = False
        self._room = _FIRST_POLL
        """Messages to ask for at once: as many as are likely to fill `_POLL_BYTES`."""
        self._began = self._heard = self._assured = 0.0
        self._refusal: Code | None = None
        self._failing_since: float | None = None

    def run(self) -> IngestReport:
        """See `ingest`."""
        began = time.monotonic()
        settings = self._settings
        missing = self._describe()
        topics = [topic for topic in self._site_of if topic not in missing or not self._to_end]
        report = IngestReport(self._counts, sorted(missing))
        if not topics:
            return report
        assert self._topics is not None
        self._topics.create(
            {name for site in settings.sites for name in (site.dead_letter_topic, site.late_topic)},
            {"max.message.bytes": str(LETTER_BYTES)},
        )
        self._worker = Worker(settings)
        self._outbox = Outbox(
            settings.bootstrap,
            settings.client,
            settings.group_id,
            settings.data_dir,
            settings.limits.broker_timeout,
            self._stop,
        )
        self._consumer = Consumer(self._options(), logger=LOG)
        if self._to_end:
            self._goal = self._ends(topics)
        self._consumer.subscribe(
            topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )
        self._poll_until_done()
        report.seconds = time.monotonic() - began
        return report

    def _options(self) -> dict[str, Any]:
        settings, limits = self._settings, self._settings.limits
        return {
            **native_options(settings.bootstrap, settings.client),
            "group.id": settings.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            # Over several topics of few partitions, `range` would give the first member everything.
            "partition.assignment.strategy": "roundrobin",
            "session.timeout.ms": int(limits.session_timeout * 1000),
            "heartbeat.interval.ms": int(limits.session_timeout * 200),
            "socket.timeout.ms": max(1000, int(limits.broker_timeout * 1000)),
            "reconnect.backoff.max.ms": 1000,
            "topic.metadata.refresh.interval.ms": int(limits.metadata_interval * 1000),
            "queued.max.messages.kbytes": _PREFETCH_KB,
            "fetch.max.bytes": max(_PREFETCH_KB << 10, limits.max_message_bytes),
            "fetch.queue.backoff.ms": 5,
            "check.crcs": True,
            "error_cb": self._on_error,
        }

    def _on_error(self, error: Code) -> None:
        LOG.info("%s", error)
        if error.code() in _REFUSED:
            self._refusal = error

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Nothing may be fetched before the partition's files are scanned, which `_take` does after this poll.
        consumer.assign([])
        self._gained = {(p.topic, p.partition) for p in partitions}

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._lost |= {(p.topic, p.partition) for p in partitions}
        self._gained.clear()

    def _describe(self, timeout: float | None = None) -> set[str]:
        """Learn cluster id and topic ids; returns the topics that do not exist."""
        settings = self._settings
        if self._topics is None:
            self._topics = Topics(settings.bootstrap, settings.client, settings.limits.broker_timeout)
            self._cluster = self._topics.cluster_id()
        self._topic_ids = self._topics.ids(self._site_of, timeout)
        return self._site_of.keys() - self._topic_ids.keys()

    def _assure_same_topics(self) -> None:
        """A topic that was created again under a running process must not be taken for the old one."""
        now = time.monotonic()
        if now < self._assured + _ASSURE_SECONDS:
            return
        assert self._topics is not None
        current = self._topics.ids(self._topic_ids, _ASKING_SECONDS)
        for topic, known in self._topic_ids.items():
            if current.get(topic, known) != known:
                raise ContinuityError(
                    f"topic {topic} was created again while it was read (id {known} before, {current[topic]} now): "
                    "start again with --new-topic to read it beside the old windows"
                )
        self._assured = now

    def _ends(self, topics: list[str]) -> dict[Place, int]:
        assert self._consumer is not None
        timeout = self._settings.limits.broker_timeout
        known = self._consumer.list_topics(timeout=timeout).topics
        places = [(t, p) for t in topics if t in known for p in known[t].partitions]
        return {place: self._log(place, timeout).end for place in places}

    def _log(self, place: Place, timeout: float) -> Bounds:
        assert self._consumer is not None
        return Bounds(*self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=timeout))

    def _poll_until_done(self) -> None:
        worker, interval = self._worker, self._settings.limits.commit_interval
        assert worker is not None
        next_commit = time.monotonic() + interval
        self._heard = self._assured = self._began = time.monotonic()
        while not self._stop.is_set():
            self._poll()
            if time.monotonic() >= next_commit or worker.letter_bytes > _MANY_LETTERS:
                self._commit()
                self._idle_partitions()
                next_commit = time.monotonic() + interval
                self._tell(self._remaining())
            if self._to_end:
                if self._reached_goal() and self._finish():
                    self._tell(0)
                    return
                self._bound_silence()
        worker.end()
        self._commit()

    def _poll(self) -> None:
        """Serve the group, hand over what was read, take what was gained."""
        assert self._consumer is not None and self._worker is not None
        messages = self._consumer.consume(self._room, _POLL_SECONDS)
        self._worker.check()
        if self._refusal is not None:
            raise KafkaException(self._refusal)
        self._give_up_lost()
        if messages:
            self._hand_over(messages)
        self._take_gained()
        self._hold_or_resume()

    def _finish(self) -> bool:
        """Everything read becomes durable; False if part of it has to be read again."""
        worker = self._worker
        assert worker is not None
        worker.drain(600)
        if self._settings.close_open:
            for place in self._position:
                worker.close_windows(place, "shutdown")
            worker.drain(600)
        return self._commit() and not self._gained

    def _tell(self, remaining: int | None) -> None:
        if self._progress is not None:
            self._progress(Progress(sum(c.read for c in self._counts.values()), remaining, self._view()))

    def _view(self) -> View:
        worker, consumer = self._worker, self._consumer
        assert worker is not None and consumer is not None
        parts = []
        for place, position in self._position.items():
            lane = worker.lanes.get(place)
            if lane is None:
                continue
            _, end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            gathering, mark = list(lane.windows.open.values()), lane.windows.watermark
            parts.append(
                PartitionView(
                    lane.site.name,
                    *place,
                    position,
                    end if end >= 0 else None,
                    mark if mark > 0 else None,
                    len(gathering),
                    sum(window.rows for window in gathering),
                )
            )
        counts = {site: counts.to_dict() for site, counts in self._counts.items()}
        return View(tuple(parts), counts, worker.publishing.copy())

    def _reached_goal(self) -> bool:
        if not self._position:
            waited = time.monotonic() - self._began
            if waited > self._settings.limits.broker_timeout and self._heard == self._began:
                raise BrokerUnavailable(
                    f"no partition assigned within {waited:.0f} s: is another process of group {self._settings.group_id!r} running?"
                )
            return not self._goal
        return self._remaining() == 0 and not self._gained and not self._lost

    def _remaining(self) -> int | None:
        if not self._to_end:
            return None
        return sum(max(0, self._goal.get(p, 0) - at) for p, at in self._position.items())

    def _bound_silence(self) -> None:
        """Until the end is reached, silence is bounded."""
        limits, worker = self._settings.limits, self._worker
        assert worker is not None
        now = time.monotonic()
        if self._held or not worker.idle:
            self._heard = now
        silent = now - self._heard
        if silent > limits.session_timeout + 5 + limits.broker_timeout:
            raise BrokerUnavailable(
                f"{self._settings.bootstrap}: nothing read for {silent:.0f} s although {self._remaining()} messages are left; "
                "check the broker, then start again: the run continues where it was"
            )

    def _hand_over(self, messages: list[Any]) -> None:
        """Give the worker what was read, one batch a partition, and note where reading goes on."""
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
        size = sum(self._feed(place, records) for place, records in parts.items() if place in self._position)
        if size:
            self._room = max(1, min(POLL_RECORDS, _POLL_BYTES * len(messages) // size))
        # Behind the records: an end of partition says that everything before it has been handed over.
        for event in events:
            self._event(event)

    def _feed(self, place: Place, records: list[Any]) -> int:
        """Hand over one partition's batch; returns the bytes of its values."""
        assert self._worker is not None
        values = [record.value() for record in records]
        batch = RecordBatch(
            site=self._site_of[place[0]].name,
            topic=place[0],
            partition=place[1],
            offsets=np.array([record.offset() for record in records], dtype=np.int64),
            timestamps=np.array([record.timestamp()[1] for record in records], dtype=np.int64),
            keys=[record.key() for record in records],
            values=values,
            next_offset=records[-1].offset() + 1,
        )
        self._advance(place, batch.next_offset)
        self._at_end.discard(place)
        size = sum(len(value) for value in values if value is not None)
        self._worker.feed(place, batch, size)
        return size

    def _advance(self, place: Place, position: int) -> None:
        self._position[place] = position
        self._moved[place] = self._heard = time.monotonic()

    def _event(self, message: Any) -> None:
        """What comes instead of a record: the end of a partition, or an error."""
        assert self._worker is not None
        error, place = message.error(), (message.topic(), message.partition())
        if error.code() in _REFUSED:
            raise BrokerUnavailable(f"{self._settings.bootstrap}: {place[0]}: {error.name()}: {error.str()}")
        if place not in self._position:
            return
        if error.code() == Code._PARTITION_EOF:
            if message.offset() >= self._position[place]:
                self._at_end.add(place)
            if message.offset() > self._position[place]:
                # Markers of transactions and aborted records hold no message, and are read all the same.
                self._advance(place, message.offset())
                self._worker.advance(place, message.offset())
        elif error.code() == Code._AUTO_OFFSET_RESET:
            if self._gap_at.get(place) == message.offset():
                raise ContinuityError(
                    f"{place[0]}[{place[1]}]: offset {message.offset()} is not in the log any more: start again"
                )
            self._gap_at[place] = message.offset()
            self._retake({place})
        else:
            LOG.warning("%s[%d]: %s", *place, error)

    def _give_up_lost(self) -> None:
        assert self._worker is not None
        lost, self._lost = self._lost, set()
        for place in lost:
            self._drop(place)

    def _drop(self, place: Place) -> None:
        assert self._worker is not None
        self._worker.drop(place)
        self._position.pop(place, None)
        self._at_end.discard(place)
        self._last.pop(place, None)

    def _take_gained(self) -> None:
        """Scan the files of gained partitions, check that the topics continue them, and read all open partitions."""
        if not self._gained:
            return
        consumer, worker = self._consumer, self._worker
        assert consumer is not None and worker is not None
        try:
            known = self._known(sorted(self._gained))
        except KafkaException as error:
            self._failed(error.args[0])
            return
        for place, (committed, log) in known.items():
            site = self._site_of[place[0]]
            identity = Identity(site.name, self._cluster, place[0], self._topic_ids[place[0]], place[1])
            start = resume(self._settings, identity, committed, log)
            worker.open(place, new_lane(self._settings, site, start, self._counts[site.name]))
            self._advance(place, start.windows.position)
        self._gained = set()
        self._failing_since = None
        try:
            consumer.assign([TopicPartition(*place, at) for place, at in self._position.items()])
            if self._held:
                consumer.pause([TopicPartition(*place) for place in self._position])
        except KafkaException as error:
            self._retake(set(self._position))
            self._failed(error.args[0])

    def _known(self, places: list[Place]) -> dict[Place, tuple[Committed | None, Bounds]]:
        """What group and log say about these partitions. Raises KafkaException."""
        assert self._consumer is not None
        # A topic may have been deleted and created again since it was last assigned.
        missing = self._describe(_ASKING_SECONDS)
        if any(topic in missing for topic, _ in places):
            raise KafkaException(Code(Code.UNKNOWN_TOPIC_OR_PART))
        timeout = min(_ASKING_SECONDS, self._settings.limits.broker_timeout)
        found = {}
        for at in self._consumer.committed([TopicPartition(*place) for place in places], timeout=timeout):
            if at.error is not None:
                raise KafkaException(at.error)
            committed = Committed(at.offset, at.metadata or "") if at.offset >= 0 else None
            found[at.topic, at.partition] = committed, self._log((at.topic, at.partition), timeout)
        return found

    def _failed(self, error: Code) -> None:
        """A request failed: raise what waiting cannot mend, and what has not been mended for long."""
        if error.code() in _REFUSED or error.fatal():
            raise KafkaException(error)
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > self._settings.limits.broker_timeout:
            raise KafkaException(error)
        LOG.info("will try again: %s", error)

    def _retake(self, places: set[Place]) -> None:
        """Drop what is in memory of these partitions and begin from what is durable."""
        for place in places & self._position.keys():
            self._drop(place)
            self._gained.add(place)

    def _hold_or_resume(self) -> None:
        """Wait a moment for a worker that lags; if that is not enough, pause, so that the group still hears from us."""
        consumer, worker = self._consumer, self._worker
        assert consumer is not None and worker is not None
        limit = self._settings.limits.max_queued_bytes
        places = [TopicPartition(*place) for place in self._position]
        if self._held and worker.queued_bytes <= limit // 2:
            consumer.resume(places)
            self._held = False
        elif not self._held and worker.queued_bytes > limit and not worker.wait_below(limit, _HOLD_SECONDS):
            consumer.pause(places)
            self._held = True

    def _idle_partitions(self) -> None:
        """Close the windows of partitions that are caught up and silent; back-pressure does not count as silence."""
        worker = self._worker
        assert worker is not None
        if self._held or not worker.idle:
            return
        now = time.monotonic()
        for place in self._at_end & self._position.keys():
            lane = worker.lanes.get(place)
            silent = now - self._moved[place] > self._settings.event_time.idle_timeout
            if silent and lane is not None and lane.windows.open:
                worker.close_windows(place, "idle")

    def _commit(self) -> bool:
        """Commit what is durable, letters included; False if it has to be tried again."""
        consumer, worker, outbox = self._consumer, self._worker, self._outbox
        assert consumer is not None and worker is not None and outbox is not None
        snapshot = worker.snapshot()
        self._retake(set(snapshot.retake))
        marks = {place: mark for place, mark in snapshot.marks.items() if place in self._position}
        fresh = {place: mark for place, mark in marks.items() if mark != self._last.get(place)}
        offsets = [TopicPartition(*place, mark.offset, mark.metadata) for place, mark in fresh.items()]
        try:
            if offsets and not self._stop.is_set():
                self._assure_same_topics()
            if snapshot.letters:
                outbox.send(snapshot.letters, offsets, consumer.consumer_group_metadata())
                worker.confirm(snapshot)
            elif offsets:
                reached("before_commit")
                answer = within(
                    _COMMIT_SECONDS,
                    lambda: consumer.commit(offsets=offsets, asynchronous=False),
                    self._stop,
                )
                for done in answer or ():
                    if done.error is not None:
                        raise KafkaException(done.error)
                reached("after_commit")
        except NothingSent as failure:
            # Whether the transaction took place is for the broker to say: begin again from what it has.
            self._retake(set(self._position))
            self._failed(failure.error)
            return False
        except KafkaException as failure:
            self._failed(failure.args[0])
            return False
        self._last = marks
        self._failing_since = None
        return True

    def close(self) -> None:
        """Stop the worker, leave the group, free the slot; open windows are dropped and read again next time."""
        if self._worker is not None:
            self._worker.end()
            for place in list(self._worker.lanes):
                self._worker.drop(place)
        if self._consumer is not None:
            with contextlib.suppress(KafkaException, RuntimeError):
                within(_CLOSE_SECONDS, self._consumer.close, self._stop)
        if self._outbox is not None:
            self._outbox.close()
