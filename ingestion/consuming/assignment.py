"""Which partitions are ours, and where reading goes on in each. Gained partitions are taken only after their files are scanned."""

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ingestion.consuming.patience import Patience
from ingestion.consuming.samelog import changed
from ingestion.consuming.sametopic import SameTopic
from ingestion.consuming.silence import Silence
from ingestion.counts import SiteCounts
from ingestion.errors import ContinuityError
from ingestion.lane import new_lane
from ingestion.records import Place
from ingestion.resume import Bounds, Committed, Resume, resume
from ingestion.settings import IngestSettings
from ingestion.store import Identity
from ingestion.worker import Worker

_ASKING_SECONDS = 2.0


def bounds(consumer: Consumer, place: Place, timeout: float) -> Bounds:
    """What the log of a partition holds now. Raises KafkaException."""
    return Bounds(*consumer.get_watermark_offsets(TopicPartition(*place), timeout=timeout))


class Assignment:
    """`position` holds the open partitions and the offset that is read next in each; `silence` knows which of them have nothing to say,
    `heard` when anything was read at all (monotonic s)."""

    def __init__(
        self,
        settings: IngestSettings,
        consumer: Consumer,
        worker: Worker,
        same: SameTopic,
        counts: Mapping[str, SiteCounts],
    ) -> None:
        self._settings, self._consumer, self._worker = settings, consumer, worker
        self._same, self._counts = same, counts
        self._patience = Patience(settings.limits.broker_timeout)
        self._site_of = {site.topic: site for site in settings.sites}
        self._gained: set[Place] = set()
        self._lost: set[Place] = set()
        self._gap_at: dict[Place, int] = {}
        self.position: dict[Place, int] = {}
        self.silence = Silence(settings.event_time.idle_timeout)
        self.heard = time.monotonic()

    @property
    def partitions(self) -> list[TopicPartition]:
        """The open partitions as the client names them."""
        return [TopicPartition(*place) for place in self.position]

    @property
    def settled(self) -> bool:
        """Whether nothing waits to be taken or given up."""
        return not self._gained and not self._lost

    def subscribe(self, topics: list[str]) -> None:
        """Join the group."""
        self._consumer.subscribe(
            topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Nothing may be fetched before the partition's files are scanned, which `take` does after this poll.
        consumer.assign([])
        self._gained = {(p.topic, p.partition) for p in partitions}

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._lost |= {(p.topic, p.partition) for p in partitions}
        self._gained.clear()

    def advance(self, place: Place, position: int) -> None:
        """Everything below `position` was read."""
        self.position[place] = position
        self.heard = time.monotonic()
        self.silence.broken(place, self.heard)

    def end_seen(self, place: Place, offset: int) -> None:
        """The broker has nothing at or behind `offset` yet."""
        if place not in self.position:
            return
        if offset > self.position[place]:
            # Markers of transactions and aborted records hold no message, and are read all the same.
            self.advance(place, offset)
            self._worker.advance(place, offset)
        if offset == self.position[place]:
            self.silence.ended(place)

    def gap_seen(self, place: Place) -> None:
        """The log does not hold what is to be read next, or was cut: look at it again. Raises ContinuityError if that was done already."""
        offset = self.position.get(place)
        if offset is None:
            return
        if self._gap_at.get(place) == offset:
            raise ContinuityError(
                f"{place[0]}[{place[1]}]: offset {offset} is not in the log any more: start again"
            )
        self._gap_at[place] = offset
        self.retake({place})

    def give_up_lost(self) -> None:
        """Drop what the group took from us."""
        lost, self._lost = self._lost, set()
        for place in lost:
            self._drop(place)

    def retake(self, places: set[Place]) -> None:
        """Drop what is in memory of these partitions and begin from what is durable."""
        for place in places & self.position.keys():
            self._drop(place)
            self._gained.add(place)

    def retake_all(self) -> None:
        """`retake` every open partition."""
        self.retake(set(self.position))

    def _drop(self, place: Place) -> None:
        self._worker.drop(place)
        self.position.pop(place, None)
        self.silence.forget(place)

    def take(self, paused: bool) -> None:
        """Scan the files of gained partitions, check that the topics continue them, and read all open partitions.

        Raises ContinuityError, StorageError; KafkaException if the cluster has failed for too long.
        """
        if not self._gained:
            return
        try:
            starts = {
                place: self._resume(place, *known)
                for place, known in self._known(sorted(self._gained)).items()
            }
            self._check_logs(starts)
        except KafkaException as error:
            self._patience.failed(error.args[0])
            return
        for place, start in starts.items():
            site = self._site_of[place[0]]
            self._worker.open(place, new_lane(self._settings, site, start, self._counts[site.name]))
            self.advance(place, start.windows.position)
        self._gained = set()
        self._patience.mended()
        try:
            self._consumer.assign([TopicPartition(*place, at) for place, at in self.position.items()])
            if paused:
                self._consumer.pause(self.partitions)
        except KafkaException as error:
            self.retake_all()
            self._patience.failed(error.args[0])

    def _resume(self, place: Place, committed: Committed | None, log: Bounds) -> Resume:
        site, topic_id = self._site_of[place[0]], self._same.ids[place[0]]
        identity = Identity(site.name, self._same.cluster, place[0], topic_id, place[1])
        return resume(self._settings, identity, committed, log)

    def _check_logs(self, starts: dict[Place, Resume]) -> None:
        """Stop if a log holds other records than were read. Raises ContinuityError, KafkaException."""
        last_read = {place: start.last_read for place, start in starts.items() if start.last_read}
        for place, seen in changed(self._settings, last_read, _ASKING_SECONDS).items():
            if not self._settings.accept_gap:
                raise ContinuityError(
                    f"{place[0]}[{place[1]}]: at offset {last_read[place].offset} lies another record than was read there "
                    f"(leader epoch {last_read[place].epoch} then, {seen.epoch} now): the log was cut and written again, and "
                    f"what replaced offsets below {starts[place].reached} is not read: restore the log, or start with "
                    "--accept-gap to go on without that"
                )
            starts[place] = starts[place].past_the_gap()

    def _known(self, places: list[Place]) -> dict[Place, tuple[Committed | None, Bounds]]:
        """What group and log say about these partitions. Raises KafkaException."""
        # A topic may have been deleted and created again since it was last assigned.
        missing = self._same.learn(_ASKING_SECONDS)
        if any(topic in missing for topic, _ in places):
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        timeout = min(_ASKING_SECONDS, self._settings.limits.broker_timeout)
        found = {}
        asked: list[Any] = [TopicPartition(*place) for place in places]
        for at in self._consumer.committed(asked, timeout=timeout):
            if at.error is not None:
                raise KafkaException(at.error)
            place = at.topic, at.partition
            committed = Committed(at.offset, at.metadata or "") if at.offset >= 0 else None
            found[place] = committed, bounds(self._consumer, place, timeout)
        return found
