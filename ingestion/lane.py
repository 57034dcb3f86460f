"""One assigned partition on its way to the disk: what is gathered, what is about to be published, which letters wait."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from ingestion.counts import SiteCounts
from ingestion.deadletter import Letter
from ingestion.decode import Decoder, build_decoder
from ingestion.observation import PublishTimes
from ingestion.records import Decoded, Imprint, RecordBatch, Reject
from ingestion.resume import Resume
from ingestion.settings import IngestSettings, Site
from ingestion.store import PartitionStore, Published, TakenOver
from ingestion.told import Told
from ingestion.windowing import Closed, Windows


@dataclass
class Lane:
    """`told` knows which messages have their letter; `letters` are not yet confirmed. `closing` are windows closed and
    not yet published, `read_at` is when the last of the records taken was read (monotonic s), `last_read` is that record, `lost`
    says that another process took over."""

    site: Site
    group: str
    store: PartitionStore
    windows: Windows
    decoder: Decoder
    counts: SiteCounts
    told: Told
    last_read: Imprint | None
    lost: bool = False
    pending_rows: int = 0
    letters: list[Letter] = field(default_factory=list)
    closing: list[Closed] = field(default_factory=list)
    read_at: float = 0.0

    def take(self, batch: RecordBatch, decoded: Decoded) -> list[Letter]:
        """Window a decoded batch; returns the letters that it adds."""
        counts = self.counts
        counts.read += decoded.readings.num_rows + len(decoded.rejects)
        counts.repaired.update(decoded.counts)
        readings = self._without_told(decoded.readings)
        letters = [self._dead(batch, reject) for reject in decoded.rejects]
        fresh = [letter for letter in letters if not self.told.has(letter.offset, self.told.dead)]
        for letter in fresh:
            self.told.dead.add(letter.offset)
        counts.dead.update(letter.reason for letter in fresh)
        counts.already_handled += len(letters) - len(fresh)
        step = self.windows.push(readings, batch.next_offset)
        counts.already_handled += step.already
        if step.too_late is not None:
            fresh += self._late(batch, step.too_late)
        self.closing += [
            replace(closed, last_read=batch.imprint(closed.position_at_close)) for closed in step.closed
        ]
        self.last_read = batch.imprint(batch.next_offset)
        self.pending_rows = sum(g.rows for g in self.windows.open.values()) + sum(
            closed.row_count for closed in self.closing
        )
        self.letters += fresh
        return fresh

    def close(self, windows: Iterable[Closed]) -> None:
        """Windows that were closed where reading is now."""
        self.closing += [replace(closed, last_read=self.last_read) for closed in windows]

    def publish(self, times: PublishTimes) -> None:
        """Bring what is closing to the disk, or give up if another process did. Raises StorageError, and then it is still closing."""
        began = time.monotonic()
        try:
            done = self.store.publish(self.closing)
        except TakenOver:
            self.give_up()
            return
        times.add(time.monotonic() - began)
        closed, self.closing = self.closing, []
        for window, published in zip(closed, done, strict=True):
            self.pending_rows -= window.row_count
            _count(self.counts, window, published)

    def give_up(self) -> None:
        """Nothing of this partition is published any more; its rows are read again by whoever takes it."""
        self.lost = True
        self.counts.left_open += self.pending_rows
        self.pending_rows = 0

    def forget_letters(self) -> int:
        """Drop the letters, whose messages are read again; returns their bytes."""
        size = sum(letter.size for letter in self.letters)
        for letter in self.letters:
            _uncount(self.counts, letter)
        self.letters.clear()
        return size

    def _without_told(self, readings: pa.Table) -> pa.Table:
        """Leave out messages that could not be read before and have their letter for it."""
        known = self.told.dead.among(readings.column("offset").to_numpy())
        if not known.any():
            return readings
        self.counts.already_handled += int(known.sum())
        return readings.filter(pa.array(~known))

    def _dead(self, batch: RecordBatch, reject: Reject) -> Letter:
        return Letter(
            self.site.dead_letter_topic,
            batch.topic,
            self.store.identity.topic_id,
            batch.partition,
            int(batch.offsets[reject.index]),
            batch.values[reject.index],
            reject.stage,
            reject.reason,
            reject.message,
            self.group,
        )

    def _late(self, batch: RecordBatch, rows: pa.Table) -> Iterable[Letter]:
        offsets, sizes = np.unique(rows.column("offset").to_numpy(), return_counts=True)
        for offset, count in zip(offsets.tolist(), sizes.tolist(), strict=True):
            if self.told.has(offset, self.told.late):
                self.counts.already_handled += count
                continue
            self.told.late.add(offset)
            self.counts.late += count
            self.counts.late_topic += count
            index = int(np.searchsorted(batch.offsets, offset))
            text = f"{count} reading(s) more than the allowed lateness behind the watermark"
            letter = self._dead(batch, Reject(index, "too_late", text, stage="window"))
            yield replace(letter, destination=self.site.late_topic, late_rows=count)


def new_lane(settings: IngestSettings, site: Site, start: Resume, counts: SiteCounts) -> Lane:
    """A freshly assigned partition; what its folder set aside as damaged is counted here."""
    counts.damaged_files += start.store.damaged
    return Lane(
        site,
        settings.group_id,
        start.store,
        start.windows,
        build_decoder(settings),
        counts,
        start.told,
        start.last_read,
    )


def _uncount(counts: SiteCounts, letter: Letter) -> None:
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
