"""Decode, window, publish: everything between the Kafka loop and the disk, in a thread of its own.

The Kafka loop hands over batches and asks for a `Snapshot` of what is durable; nothing else crosses between the threads.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas  # noqa: F401  pyarrow imports it at first use; here, so that no worker does it mid-stream

from ingestion.deadletter import Letter
from ingestion.folderid import folder_id
from ingestion.lane import Lane
from ingestion.observation import PublishTimes
from ingestion.records import RecordBatch
from ingestion.resume import metadata
from ingestion.settings import IngestSettings
from ingestion.tasks import TaskThread

_SPARE = 8

Assure = Callable[[str, str, float], None]
"""`assure(topic, topic id, since)` returns once the topic was seen under this id later than `since` (monotonic s)."""


@dataclass(frozen=True)
class Mark:
    """What may be committed for a partition: offset and metadata."""

    offset: int
    metadata: str


@dataclass(frozen=True)
class Snapshot:
    """Letters that must be confirmed together with these marks, and the topic ids they were read under; `retake` lists lanes another
    process took over. `counts` says how many of the letters each lane gave. A lane that is about to publish has no part in it."""

    letters: list[Letter]
    marks: dict[Any, Mark]
    topic_ids: dict[Any, str]
    retake: list[Any]
    counts: list[tuple[Lane, int]]


class Worker(TaskThread):
    """Works on what is fed in order; `assure` comes before every publication. A failure ends it and is raised from `check`."""

    def __init__(self, settings: IngestSettings, assure: Assure) -> None:
        """Raises StorageError if the data folder cannot be used."""
        self._limit = settings.limits.max_buffered_bytes
        self._assure = assure
        self._folder = folder_id(settings.data_dir)
        self._state = threading.Lock()
        self._letter_bytes = 0
        self._read_to: dict[tuple[str, int], int] = {}
        """By topic id and partition, the offset below which records are counted."""
        self.lanes: dict[Any, Lane] = {}
        self.publishing = PublishTimes()
        super().__init__("ingest-worker")

    @property
    def letter_bytes(self) -> int:
        """Bytes of letters that wait to be confirmed."""
        return self._letter_bytes

    def open(self, key: Any, lane: Lane) -> None:
        """Take over a partition."""
        with self._state:
            self.lanes[key] = lane

    def drop(self, key: Any) -> None:
        """Forget a partition that is no longer ours; nothing of it is published any more."""
        with self._state:
            lane = self.lanes.pop(key, None)
            if lane is not None:
                lane.give_up()
                self._letter_bytes -= lane.forget_letters()

    def feed(self, key: Any, batch: RecordBatch, size: int) -> None:
        """Queue a batch of an open partition."""
        lane, read_at = self.lanes.get(key), time.monotonic()
        if lane is not None:
            self.put(lambda: self._batch(lane, batch, read_at), size)

    def close_windows(self, key: Any, reason: str) -> None:
        """Queue the closing of all open windows of a partition."""
        lane = self.lanes.get(key)
        if lane is not None:
            self.put(lambda: self._close(lane, reason))

    def advance(self, key: Any, position: int) -> None:
        """Queue the news that everything below `position` was read, though the last offsets held no message."""
        lane = self.lanes.get(key)
        if lane is not None:
            self.put(lambda: self._advance(lane, position))

    def snapshot(self) -> Snapshot:
        """What is durable now, and the letters that would make more of it so; `confirm` says that they are."""
        with self._state:
            found = Snapshot([], {}, {}, [key for key, lane in self.lanes.items() if lane.lost], [])
            for key, lane in self.lanes.items():
                if lane.lost or lane.closing:
                    continue
                offset, max_event = lane.windows.restart_point()
                settled = max(lane.told.upto, lane.windows.position)
                found.topic_ids[key] = lane.store.identity.topic_id
                told = lane.told.note(offset, settled)
                note = metadata(found.topic_ids[key], max_event, settled, lane.last_read, told, self._folder)
                found.marks[key] = Mark(offset, note)
                found.letters.extend(lane.letters)
                found.counts.append((lane, len(lane.letters)))
            return found

    def confirm(self, snapshot: Snapshot) -> None:
        """The snapshot's letters are at the broker."""
        with self._state:
            for lane, count in snapshot.counts:
                self._letter_bytes -= sum(letter.size for letter in lane.letters[:count])
                del lane.letters[:count]

    def committed(self, places: Iterable[Any]) -> None:
        """The group knows the marks of these partitions."""
        for place in places:
            lane = self.lanes.get(place)
            if lane is not None:
                lane.store.read_anew()

    def _batch(self, lane: Lane, batch: RecordBatch, read_at: float) -> None:
        if lane.lost:
            return
        decoded = lane.decoder.decode(batch)
        with self._state:
            if lane.lost:
                return
            lane.read_at = read_at
            self._count_messages(lane, batch)
            self._letter_bytes += sum(letter.size for letter in lane.take(batch, decoded))
            over = sum(other.windows.bytes for other in self.lanes.values()) - self._limit
            if over > 0:
                # Some more than that, so that many small windows are not sorted again for every batch.
                lane.close(lane.windows.close_largest(over + self._limit // _SPARE))
        self._publish(lane)

    def _count_messages(self, lane: Lane, batch: RecordBatch) -> None:
        """Each offset is counted once, however often the group makes us read it."""
        place = lane.store.identity.topic_id, batch.partition
        counted = max(lane.told.upto, self._read_to.get(place, 0))
        again = int(np.searchsorted(batch.offsets, counted))
        lane.counts.messages += len(batch.offsets) - again
        lane.counts.messages_again += again
        self._read_to[place] = max(counted, batch.next_offset)

    @staticmethod
    def _advance(lane: Lane, position: int) -> None:
        lane.windows.position = max(lane.windows.position, position)

    def _close(self, lane: Lane, reason: str) -> None:
        with self._state:
            if not lane.lost:
                lane.close(lane.windows.close_early(reason))
        self._publish(lane)

    def _publish(self, lane: Lane) -> None:
        """Without the lock until the topic is assured, so that the loop goes on; `closing` keeps the lane out of commits meanwhile."""
        if not lane.closing:
            return
        identity = lane.store.identity
        self._assure(identity.topic, identity.topic_id, lane.read_at)
        with self._state:
            if not lane.lost:
                lane.publish(self.publishing)
