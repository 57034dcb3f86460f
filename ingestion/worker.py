"""Decode, window, publish: everything between the Kafka loop and the disk, in a thread of its own.

The Kafka loop hands over batches and asks for a `Snapshot` of what is durable; nothing else crosses between the threads.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas  # noqa: F401  pyarrow imports it at first use; here, so that no worker does it mid-stream
import pyarrow as pa

from ingestion.counts import SiteCounts
from ingestion.deadletter import Letter
from ingestion.decode import Decoder, build_decoder
from ingestion.records import RecordBatch, Reject
from ingestion.settings import IngestSettings, Site
from ingestion.store import PartitionStore, Published, TakenOver
from ingestion.windowing import NEVER, Closed, Windows


@dataclass
class Lane:
    """One assigned partition. `settled` is the position below which letters are already confirmed."""

    site: Site
    store: PartitionStore
    windows: Windows
    decoder: Decoder
    counts: SiteCounts
    settled: int
    last_batch: float
    lost: bool = False
    pending_rows: int = 0


@dataclass(frozen=True)
class Mark:
    """What may be committed for a partition: offset and metadata."""

    offset: int
    metadata: str


@dataclass(frozen=True)
class Snapshot:
    """Letters that must be confirmed together with these marks; `retake` lists lanes another process took over."""

    letters: list[Letter]
    marks: dict[Any, Mark]
    retake: list[Any]


def metadata(topic_id: str, max_event: int, settled: int) -> str:
    """What a commit says beside the offset: topic id, largest event time before it, position of confirmed letters."""
    return json.dumps(
        {"t": topic_id, "e": None if max_event <= NEVER else max_event, "s": settled}, separators=(",", ":")
    )


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
        self._letters: list[Letter] = []
        self.lanes: dict[Any, Lane] = {}
        self._thread = threading.Thread(target=self._run, name="ingest-worker", daemon=True)
        self._thread.start()

    @property
    def queued_bytes(self) -> int:
        """Bytes of record values handed over and not yet worked on."""
        return self._queued

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
                lane.lost = True
                lane.counts.left_open += lane.pending_rows
                lane.pending_rows = 0

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

    def snapshot(self) -> Snapshot:
        """What is durable now. The letters are handed out once."""
        with self._state:
            letters, self._letters = self._letters, []
            marks, retake = {}, []
            for key, lane in self.lanes.items():
                if lane.lost:
                    retake.append(key)
                    continue
                offset, max_event = lane.windows.restart_point()
                settled = max(lane.settled, lane.windows.position)
                marks[key] = Mark(offset, metadata(lane.store.identity.topic_id, max_event, settled))
            return Snapshot(letters, marks, retake)

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
            lane.last_batch = time.monotonic()
            closed = step.closed
            self._letters += fresh
            limit = self._settings.limits.max_buffered_bytes
            while sum(other.windows.bytes for other in self.lanes.values()) > limit:
                largest = lane.windows.largest()
                if largest is None:
                    break
                closed = closed + lane.windows.close_early("limit", largest)
            self._store(lane, closed)

    def _publish(self, lane: Lane, closed: list[Closed]) -> None:
        with self._state:
            if not lane.lost:
                self._store(lane, closed)

    def _store(self, lane: Lane, closed: list[Closed]) -> None:
        if not closed:
            return
        try:
            done = lane.store.publish(closed)
        except TakenOver:
            lane.lost = True
            lane.counts.left_open += lane.pending_rows
            lane.pending_rows = 0
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
            text = f"{int((offsets == offset).sum())} reading(s) more than the allowed lateness behind the watermark"
            reject = Reject(index, "too_late", text, stage="window")
            letter = self._dead(lane, batch, reject)
            letters.append(Letter(**{**letter.__dict__, "destination": lane.site.late_topic}))
        return letters


def new_lane(
    settings: IngestSettings,
    site: Site,
    store: PartitionStore,
    windows: Windows,
    counts: SiteCounts,
    settled: int,
) -> Lane:
    """A freshly assigned partition; what its folder set aside as damaged is counted here."""
    counts.damaged_files += store.damaged
    return Lane(site, store, windows, build_decoder(settings), counts, settled, time.monotonic())


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
