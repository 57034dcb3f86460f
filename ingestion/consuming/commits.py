"""What is durable becomes the group's offsets, together with the letters that make it so."""

import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from ingestion.consuming.assignment import Assignment
from ingestion.consuming.patience import Patience
from ingestion.consuming.sametopic import SameTopic
from ingestion.faultpoint import reached
from ingestion.outbox import NothingSent, Outbox
from ingestion.records import Place
from ingestion.settings import IngestSettings
from ingestion.watched import within
from ingestion.worker import Mark, Worker

_COMMIT_SECONDS = 10.0
_LOOK_SECONDS = 5.0


class Commits:
    """Remembers what the group was last told of each partition."""

    def __init__(
        self,
        settings: IngestSettings,
        consumer: Consumer,
        worker: Worker,
        outbox: Outbox,
        assignment: Assignment,
        same: SameTopic,
        stop: threading.Event,
    ) -> None:
        self._consumer, self._worker, self._outbox, self._assignment = consumer, worker, outbox, assignment
        self._same, self._stop = same, stop
        self._patience = Patience(settings.limits.broker_timeout)
        self._last: dict[Place, Mark] = {}

    def commit(self) -> bool:
        """Commit what is durable, letters included; False if it has to be tried again. Raises KafkaException, ContinuityError."""
        snapshot = self._worker.snapshot()
        self._assignment.retake(set(snapshot.retake))
        marks = {p: mark for p, mark in snapshot.marks.items() if p in self._assignment.position}
        fresh = {p: mark for p, mark in marks.items() if mark != self._last.get(p)}
        offsets = [TopicPartition(*place, mark.offset, mark.metadata) for place, mark in fresh.items()]
        try:
            if fresh and not self._stop.is_set():
                self._look(
                    {(topic, snapshot.topic_ids[topic, p]) for topic, p in fresh}, bool(snapshot.letters)
                )
            if snapshot.letters:
                self._outbox.send(snapshot.letters, offsets, self._consumer.consumer_group_metadata())
                self._worker.confirm(snapshot)
            elif offsets:
                self._tell(offsets)
        except NothingSent as failure:
            # Whether the transaction took place is for the broker to say: begin again from what it has.
            self._assignment.retake_all()
            self._patience.failed(failure.error)
            return False
        except KafkaException as failure:
            self._patience.failed(failure.args[0])
            return False
        self._worker.committed(marks)
        self._last = {**{p: m for p, m in self._last.items() if p in self._assignment.position}, **marks}
        if offsets or snapshot.letters:
            self._patience.mended()
        return True

    def _look(self, known: set[tuple[str, str]], letters: bool) -> None:
        """Letters carry the topic's id and are for good. An offset alone says under which id it was read, and `resume` holds
        that against the topic; looking now and then only tells the operator sooner."""
        now = time.monotonic()
        self._same.check(known, now if letters else now - _LOOK_SECONDS)

    def _tell(self, offsets: list[TopicPartition]) -> None:
        reached("before_commit")
        answer = within(
            _COMMIT_SECONDS, lambda: self._consumer.commit(offsets=offsets, asynchronous=False), self._stop
        )
        for done in answer or ():
            if done.error is not None:
                raise KafkaException(done.error)
        reached("after_commit")
