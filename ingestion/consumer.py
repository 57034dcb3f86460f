"""The Kafka loop: poll, hand over, commit what is durable. Everything else happens in the worker.

A committed offset is only a hint where to read on; the files decide what is handled. See docs/failures.md.
"""

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaException

from ingestion.clients import LOG, native_options
from ingestion.consuming.assignment import Assignment
from ingestion.consuming.commits import Commits
from ingestion.consuming.goal import Goal, ends
from ingestion.consuming.handover import POLL_RECORDS, Handover
from ingestion.consuming.looking import view
from ingestion.consuming.patience import Refusal
from ingestion.consuming.sametopic import SameTopic
from ingestion.counts import IngestReport, SiteCounts
from ingestion.deadletter import LETTER_BYTES
from ingestion.errors import BrokerUnavailable
from ingestion.observation import View
from ingestion.outbox import Outbox
from ingestion.settings import IngestSettings
from ingestion.topics import Topics
from ingestion.unreachable import unavailable
from ingestion.watched import within
from ingestion.worker import Worker

_POLL_SECONDS = 0.1
_HOLD_SECONDS = 0.5
_PREFETCH_KB = 8 << 10
_MANY_LETTERS = 8 << 20
_DRAIN_SECONDS = 600.0
_CLOSE_SECONDS = 5.0
_SPARE_SECONDS = 2.0
_HEARTBEAT_MS = 500


@dataclass(frozen=True)
class Progress:
    """Where a running ingestion is: rows read so far and messages left up to the goal (None when it has no end)."""

    read: int
    remaining: int | None
    view: View | None = None


Tell = Callable[[Progress], None]


def ingest(
    settings: IngestSettings,
    *,
    until: Literal["end"] | None,
    progress: Tell | None = None,
    stop: threading.Event | None = None,
) -> IngestReport:
    """Bring every site's topic to disk as closed windows, exactly once.

    `until="end"` reads each partition up to the end it has at the start and returns; None runs until `stop` is set.
    Raises BrokerUnavailable, ContinuityError, StorageError; what is on disk and committed stays valid in every case.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    report = IngestReport({site.name: SiteCounts() for site in settings.sites})
    try:
        with _few_collections():
            _ingest(settings, until == "end", report, progress, stop)
    except (KafkaException, BrokerUnavailable) as error:
        # Asked to end, a broker that does not answer is no failure: what is durable stays so.
        if not stop.is_set():
            if isinstance(error, BrokerUnavailable):
                raise
            raise unavailable(settings.bootstrap, error) from error
    report.seconds = time.monotonic() - began
    return report


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """A poll's messages are as many new objects, and none is garbage: counted as usual, they set off collections that cost a quarter of the loop."""
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(max(before[0], 5 * POLL_RECORDS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _ingest(
    settings: IngestSettings, to_end: bool, report: IngestReport, progress: Tell | None, stop: threading.Event
) -> None:
    """Fill the report. Every question at the start ends soon after `stop` is set."""
    timeout = settings.limits.broker_timeout
    topics = Topics(settings.bootstrap, settings.client, timeout)
    same = within(timeout + _SPARE_SECONDS, lambda: SameTopic(settings, topics, stop), stop)
    missing = within(timeout + _SPARE_SECONDS, same.learn, stop)
    report.missing_topics = sorted(missing)
    names = [s.topic for s in settings.sites if s.topic not in missing or not to_end]
    if not names:
        return
    letters = {name for s in settings.sites for name in (s.dead_letter_topic, s.late_topic)}
    config = {"max.message.bytes": str(LETTER_BYTES)}
    within(3 * timeout + _SPARE_SECONDS, lambda: topics.create(letters, config), stop)
    with contextlib.closing(_Loop(settings, names, same, report.sites, progress, stop)) as loop:
        loop.run(to_end)


class _Loop:
    """One member of the group, from joining to leaving."""

    def __init__(
        self,
        settings: IngestSettings,
        topics: list[str],
        same: SameTopic,
        counts: dict[str, SiteCounts],
        progress: Tell | None,
        stop: threading.Event,
    ) -> None:
        limits = settings.limits
        self._settings, self._topics, self._counts = settings, topics, counts
        self._progress, self._stop = progress, stop
        self._refusal = Refusal()
        # The outbox after what may fail by configuration alone: it holds a lock until it is closed.
        self._consumer = Consumer(_options(settings, self._refusal), logger=LOG)
        self._outbox = Outbox(
            settings.bootstrap,
            settings.client,
            settings.group_id,
            settings.data_dir,
            limits.broker_timeout,
            stop,
        )
        self._worker = Worker(settings, same.assure)
        self._assignment = Assignment(settings, self._consumer, self._worker, same, self._counts)
        self._handover = Handover(settings, self._assignment, self._worker)
        self._commits = Commits(
            settings, self._consumer, self._worker, self._outbox, self._assignment, same, stop
        )
        self._held = False
        self._listened = 0.0
        """When the last poll began, whose messages are known (monotonic s)."""

    def run(self, to_end: bool) -> None:
        """Read until the end, or until asked to stop."""
        goal = None
        if to_end:
            timeout = self._settings.limits.broker_timeout
            known = within(_DRAIN_SECONDS, lambda: ends(self._consumer, self._topics, timeout), self._stop)
            goal = Goal(self._settings, known, self._assignment)
        self._assignment.subscribe(self._topics)
        interval = self._settings.limits.commit_interval
        next_commit = time.monotonic() + interval
        while not self._stop.is_set():
            self._poll()
            if time.monotonic() >= next_commit or self._worker.letter_bytes > _MANY_LETTERS:
                self._commits.commit()
                self._idle_partitions()
                next_commit = time.monotonic() + interval
                self._tell(goal.remaining() if goal else None)
            if goal is not None:
                if goal.reached() and self._finish():
                    self._tell(0)
                    return
                goal.bound_silence(busy=self._held or not self._worker.idle)
        self._worker.end()
        self._commits.commit()

    def _poll(self) -> None:
        """Serve the group, hand over what was read, take what was gained."""
        self._listened = time.monotonic()
        messages = self._consumer.consume(self._handover.room, _POLL_SECONDS)
        self._worker.check()
        self._refusal.check()
        self._assignment.give_up_lost()
        if messages:
            self._handover.take(messages)
        self._assignment.take(paused=self._held)
        self._hold_or_resume()

    def _hold_or_resume(self) -> None:
        """Wait a moment for a worker that lags; if that is not enough, pause, so that the group still hears from us."""
        worker, limit = self._worker, self._settings.limits.max_queued_bytes
        if self._held and worker.queued_bytes <= limit // 2:
            self._consumer.resume(self._assignment.partitions)
            self._assignment.silence.listening_anew(time.monotonic())
            self._held = False
        elif not self._held and worker.queued_bytes > limit and not worker.wait_below(limit, _HOLD_SECONDS):
            self._consumer.pause(self._assignment.partitions)
            self._held = True

    def _idle_partitions(self) -> None:
        """Close the windows of partitions that are caught up and silent: time in which we did not listen is no silence."""
        if self._held or not self._worker.idle:
            return
        for place in self._assignment.silence.over(self._listened):
            lane = self._worker.lanes.get(place)
            if lane is not None and lane.windows.open:
                self._worker.close_windows(place, "idle")

    def _finish(self) -> bool:
        """Everything read becomes durable; False if part of it has to be read again."""
        self._worker.drain(_DRAIN_SECONDS)
        if self._settings.close_open:
            for place in self._assignment.position:
                self._worker.close_windows(place, "shutdown")
            self._worker.drain(_DRAIN_SECONDS)
        return self._commits.commit() and self._assignment.settled

    def _tell(self, remaining: int | None) -> None:
        if self._progress is not None:
            seen = view(self._assignment, self._worker, self._consumer, self._counts)
            self._progress(Progress(sum(c.read for c in self._counts.values()), remaining, seen))

    def close(self) -> None:
        """Stop the worker, leave the group, free the slot; open windows are dropped and read again next time."""
        self._worker.end()
        for place in list(self._worker.lanes):
            self._worker.drop(place)
        with contextlib.suppress(KafkaException, RuntimeError):
            within(_CLOSE_SECONDS, self._consumer.close, self._stop)
        self._outbox.close()


def _options(settings: IngestSettings, refusal: Refusal) -> dict[str, Any]:
    limits = settings.limits
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
        # A member learns of a rebalance by its heartbeat, and reads for nothing until then.
        "heartbeat.interval.ms": min(_HEARTBEAT_MS, int(limits.session_timeout * 200)),
        "socket.timeout.ms": max(1000, int(limits.broker_timeout * 1000)),
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": int(limits.metadata_interval * 1000),
        "queued.max.messages.kbytes": _PREFETCH_KB,
        "fetch.max.bytes": max(_PREFETCH_KB << 10, limits.max_message_bytes),
        "fetch.queue.backoff.ms": 5,
        "check.crcs": True,
        "error_cb": refusal.heard,
    }
