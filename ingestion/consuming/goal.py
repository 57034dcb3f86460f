"""The end that a one-shot run reads up to, and how long it bears silence before that."""

import time

from confluent_kafka import Consumer

from ingestion.consuming.assignment import Assignment, bounds
from ingestion.errors import BrokerUnavailable
from ingestion.records import Place
from ingestion.settings import IngestSettings


def ends(consumer: Consumer, topics: list[str], timeout: float) -> dict[Place, int]:
    """The end of every partition of these topics now. Raises KafkaException."""
    known = consumer.list_topics(timeout=timeout).topics
    places = [(t, p) for t in topics if t in known for p in known[t].partitions]
    return {place: bounds(consumer, place, timeout).end for place in places}


class Goal:
    """`ends` holds the offset behind the last record of each partition when the run began."""

    def __init__(self, settings: IngestSettings, ends: dict[Place, int], assignment: Assignment) -> None:
        self._settings, self._ends, self._assignment = settings, ends, assignment
        self._began = self._heard = time.monotonic()

    def remaining(self) -> int:
        """Offsets left in the partitions that are ours."""
        return sum(max(0, self._ends.get(p, 0) - at) for p, at in self._assignment.position.items())

    def reached(self) -> bool:
        """Whether our partitions have been read to their ends. Raises BrokerUnavailable if the group never gave us any."""
        if not self._assignment.position:
            waited = time.monotonic() - self._began
            if waited > self._settings.limits.broker_timeout and self._assignment.heard <= self._began:
                raise BrokerUnavailable(
                    f"no partition assigned within {waited:.0f} s: is another process of group {self._settings.group_id!r} running?"
                )
            return not self._ends
        return self.remaining() == 0 and self._assignment.settled

    def bound_silence(self, busy: bool) -> None:
        """Raise BrokerUnavailable if nothing has been read for too long although there was nothing else to do."""
        limits, now = self._settings.limits, time.monotonic()
        self._heard = now if busy else max(self._heard, self._assignment.heard)
        silent = now - self._heard
        if silent > limits.session_timeout + 5 + limits.broker_timeout:
            raise BrokerUnavailable(
                f"{self._settings.bootstrap}: nothing read for {silent:.0f} s although {self.remaining()} messages are left; "
                "check the broker, then start again: the run continues where it was"
            )
