"""Decode, window, publish: everything between the Kafka loop and the disk, in a thread of its own.

The Kafka loop hands over batches and asks for a `Snapshot` of what is durable; nothing else crosses between the threads.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas  # noqa: F401  pyarrow imports it at first use; here, so that no worker does it mid-stream
import pyarrow as pa

from ingestion.counts import SiteCounts
from ingestion.deadletter import Letter
from ingestion.decode import Decoder, build_decoder
from ingestion.observation import PublishTimes
from ingestion.records import RecordBatch, Reject
from ingestion.resume import Resume, metadata
from ingestion.settings import IngestSettings, Site
from ingestion.store import PartitionStore, Published, TakenOver
from ingestion.windowing import Closed, Windows


@dataclass
class Lane:
    """One assigned partition. `settled` is the position below which letters are already confirmed; `letters` are not yet."""

    site: Site
    store: PartitionStore
    windows: Windows
    decoder: Decoder
    counts: SiteCounts
    settled: int
    lost: bool = False
    pending_rows: int = 0
    letters: list[Letter] = field(default_factory=list)


@dataclass(frozen=True)
class Mark:
    """What may be committed for a partition: offset and metadata."""

    offset: int
    metadata: str


@dataclass(frozen=True)
class Snapshot:
    """Letters that must be confirmed together with these marks; `retake` lists lanes another process took over.
    `counts` says how many of the letters each lane gave."""

    letters: list[Letter]
    marks: dict[Any, Mark]
    retake: list[Any]
    counts: list[tuple[Lane, int]]


class Worker:
    """Runs tasks in order. An exception inside ends it and is raised from `check`."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._tasks: deque[tuple[Callable[[], None], int]] = deque()
        self._ready = threading.Condition()
        self._state = threading.Lock()
        self._queued = 0
        self._busy = False
        self._ended = False
        self._failure: BaseException | None = None
        self._letter_bytes = 0
        self.lanes: dict[Any, Lane] = {}
        self.publishing = PublishTimes()
        self._thread = threading.Thread(target=self._run, name="ingest-worker", daemon=True)
        self._thread.start()

    @property
    def queued_bytes(self) -> int:
        """Bytes of record values handed over and not yet worked on."""
        return self._queued

    @property
    def letter_bytes(self) -> int:
        """Bytes of letters that wait to be confirmed."""
        return self._letter_bytes

    def wait_below(self, limit: int, timeout: float) -> bool:
        """Wait until at most `limit` bytes are queued; False if time ran out."""
        end = time.monotonic() + timeout
        with self._ready:
            while self._queued > limit and self._failure is None:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._ready.wait(left)
        return True

    @property
    def idle(self) -> bool:
        """Whether all tasks are done."""
        return not self._tasks and not self._busy

    def check(self) -> None:
        """Raise what ended the worker, if anything did."""
        if self._failure is not None:
            raise self._failure

    def drain(self, timeout: float) -> bool:
        """Wait until all tasks are done; False if time ran out."""
        end = time.monotonic() + timeout
        with self._ready:
            while (self._tasks or self._busy) and self._failure is None:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._ready.wait(min(left, 0.2))
        self.check()
        return True

    def end(self) -> None:
        """Drop what is queued and let the current task finish."""
        with self._ready:
            self._ended = True
            self._tasks.clear()
            self._ready.notify_all()
        self._thread.join()

    def open(self, key: Any, lane: Lane) -> None:
        """Take over a partition."""
        with self._state:
            self.lanes[key] = lane

    def drop(self, key: Any) -> None:
        """Forget a partition that is no longer ours; nothing of it is published any more."""
        with self._state:
            lane = self.lanes.pop(key, None)
            if lane is not None:
                self._give_up(lane)
                for letter in lane.letters:
                    _uncount(lane.counts, letter)
                    self._letter_bytes -= letter.size
                lane.letters.clear()

    def feed(self, key: Any, batch: RecordBatch, size: int) -> None:
        """Queue a batch of an open partition."""
        lane = self.lanes.get(key)
        if lane is not None:
            self._put(lambda: self._batch(lane, batch), size)

    def close_windows(self, key: Any, reason: str) -> None:
        """Queue the closing of all open windows of a partition."""
        lane = self.lanes.get(key)
        if lane is not None:
            self._put(lambda: self._publish(lane, lane.windows.close_early(reason)), 0)

    def advance(self, key: Any, position: int) -> None:
        """Queue the news that everything below `position` was read, though the last offsets held no message."""
        lane = self.lanes.get(key)
        if lane is not None:
            self._put(lambda: self._advance(lane, position), 0)

    def snapshot(self) -> Snapshot:
        """What is durable now, and the letters that would make more of it so; `confirm` says that they are."""
        with self._state:
            letters: list[Letter] = []
            marks, retake, counts = {}, [], []
            for key, lane in self.lanes.items():
                if lane.lost:
                    retake.append(key)
                    continue
                offset, max_event = lane.windows.restart_point()
                settled = max(lane.settled, lane.windows.position)
                marks[key] = Mark(offset, metadata(lane.store.identity.topic_id, max_event, settled))
                letters += lane.letters
                counts.append((lane, len(lane.letters)))
            return Snapshot(letters, marks, retake, counts)

    def confirm(self, snapshot: Snapshot) -> None:
        """The snapshot's letters are at the broker."""
        with self._state:
            for lane, count in snapshot.counts:
                self._letter_bytes -= sum(letter.size for letter in lane.letters[:count])
                del lane.letters[:count]

    def _put(self, task: Callable[[], None], size: int) -> None:
        with self._ready:
            self._queued += size
            self._tasks.append((task, size))
            self._ready.notify_all()

    def _run(self) -> None:
        while True:
            with self._ready:
                self._busy = False
                self._ready.notify_all()
                while not self._tasks and not self._ended:
                    self._ready.wait()
                if self._ended:
                    return
                task, size = self._tasks.popleft()
                self._busy = True
            try:
                task()
            except BaseException as error:
                with self._ready:
                    self._failure = error
                    self._busy = False
                    self._ready.notify_all()
                return
            with self._ready:
                self._queued -= size
                self._ready.notify_all()

    def _batch(self, lane: Lane, batch: RecordBatch) -> None:
        if lane.lost:
            return
        decoded = lane.decoder.decode(batch)
        with self._state:
            if lane.lost:
                return
            counts = lane.counts
            counts.messages += len(batch.values)
            counts.read += decoded.readings.num_rows + len(decoded.rejects)
            counts.repaired.update(decoded.counts)
            letters = [self._dead(lane, batch, reject) for reject in decoded.rejects]
            fresh = [letter for letter in letters if letter.offset >= lane.settled]
            counts.dead.update(letter.reason for letter in fresh)
            counts.already_handled += len(letters) - len(fresh)
            step = lane.windows.push(decoded.readings, batch.next_offset)
            counts.already_handled += step.already
            if step.too_late is not None:
                fresh += self._late(lane, batch, step.too_late)
            lane.pending_rows = sum(g.rows for g in lane.windows.open.values()) + sum(
                c.row_count for c in step.closed
            )
            closed = step.closed
            lane.letters += fresh
            self._letter_bytes += sum(letter.size for letter in fresh)
            limit = self._settings.limits.max_buffered_bytes
            while sum(other.windows.bytes for other in self.lanes.values()) > limit:
                largest = lane.windows.largest()
                if largest is None:
                    break
                closed = closed + lane.windows.close_early("limit", largest)
            self._store(lane, closed)

    @staticmethod
    def _advance(lane: Lane, position: int) -> None:
        lane.windows.position = max(lane.windows.position, position)

    @staticmethod
    def _give_up(lane: Lane) -> None:
        lane.lost = True
        lane.counts.left_open += lane.pending_rows
        lane.pending_rows = 0

    def _publish(self, lane: Lane, closed: list[Closed]) -> None:
        with self._state:
            if not lane.lost:
                self._store(lane, closed)

    def _store(self, lane: Lane, closed: list[Closed]) -> None:
        if not closed:
            return
        try:
            began = time.monotonic()
            done = lane.store.publish(closed)
            self.publishing.add(time.monotonic() - began)
        except TakenOver:
            self._give_up(lane)
            return
        for window, published in zip(closed, done, strict=True):
            lane.pending_rows -= window.row_count
            _count(lane.counts, window, published)

    def _dead(self, lane: Lane, batch: RecordBatch, reject: Reject) -> Letter:
        return Letter(
            lane.site.dead_letter_topic,
            batch.topic,
            lane.store.identity.topic_id,
            batch.partition,
            int(batch.offsets[reject.index]),
            batch.values[reject.index],
            reject.stage,
            reject.reason,
            reject.message,
        )

    def _late(self, lane: Lane, batch: RecordBatch, rows: pa.Table) -> list[Letter]:
        offsets = rows.column("offset").to_numpy()
        known = offsets < lane.settled
        lane.counts.already_handled += int(known.sum())
        lane.counts.late += int((~known).sum())
        lane.counts.late_topic += int((~known).sum())
        letters = []
        for offset in np.unique(offsets[~known]):
            index = int(np.searchsorted(batch.offsets, offset))
            rows = int((offsets == offset).sum())
            text = f"{rows} reading(s) more than the allowed lateness behind the watermark"
            reject = Reject(index, "too_late", text, stage="window")
            letter = self._dead(lane, batch, reject)
            letters.append(replace(letter, destination=lane.site.late_topic, late_rows=rows))
        return letters


def new_lane(settings: IngestSettings, site: Site, start: Resume, counts: SiteCounts) -> Lane:
    """A freshly assigned partition; what its folder set aside as damaged is counted here."""
    counts.damaged_files += start.store.damaged
    return Lane(site, start.store, start.windows, build_decoder(settings), counts, start.settled)


def _uncount(counts: SiteCounts, letter: Letter) -> None:
    """A letter that was never confirmed: its message is read again."""
    if letter.late_rows:
        counts.late -= letter.late_rows
        counts.late_topic -= letter.late_rows
    else:
        counts.dead[letter.reason] -= 1
    counts.left_open += letter.late_rows or 1


def _count(counts: SiteCounts, window: Closed, published: Published) -> None:
    if published.adopted:
        counts.already_handled += window.row_count
        return
    counts.duplicate += published.duplicates
    if published.late:
        counts.late += published.rows
    else:
        counts.kept += published.rows
    counts.windows += published.kind == "base"
    counts.addenda += published.kind == "addendum"
