"""Tumbling event-time windows of one partition. Pure: no clock, no disk, no Kafka.

The watermark is the largest event time of all earlier messages minus the allowed out-of-orderness. Every decision is a
function of the sequence of messages alone, never of how they were batched, so reading a partition again decides the same.
A message is atomic: all its rows are judged by the watermark before it. A window closes at the end of the message that
moves the watermark to its end; `position_at_close`, that message's offset + 1, separates what the window holds from
what is late. Late rows gather in a pending addendum that closes one window length of event time after it opened.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ingestion.eventtime import NS
from ingestion.settings import EventTimeRules

NEVER = -(2**62)


@dataclass(frozen=True)
class Rules:
    """Window length, allowed out-of-orderness and allowed lateness, all in ns."""

    length: int
    disorder: int
    lateness: int

    @classmethod
    def of(cls, rules: EventTimeRules) -> "Rules":
        """The integer form of the configured seconds."""
        return cls(int(rules.window * NS), int(rules.out_of_orderness * NS), int(rules.allowed_lateness * NS))


@dataclass
class Gathering:
    """Rows of one window that are not yet on disk. `max_before` is the partition's largest event time before
    `first_offset`, which lets a restart at that offset see the same watermark. `closes_at` is a watermark in ns."""

    start: int
    first_offset: int
    max_before: int
    closes_at: int
    late: bool
    tables: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Closed:
    """A decision to publish: window start in ns, its rows in offset order, and what the footer must say."""

    start: int
    rows: pa.Table
    first_offset: int
    position_at_close: int
    watermark: int
    reason: str


@dataclass
class Step:
    """What one batch led to: windows to publish in this order, rows too late to keep, rows already on disk."""

    closed: list[Closed] = field(default_factory=list)
    too_late: pa.Table | None = None
    already: int = 0


class Windows:
    """The state of one partition. `handled` maps a window's start to the position below which its rows are on disk."""

    def __init__(
        self, rules: Rules, position: int, max_event: int = NEVER, handled: dict[int, int] | None = None
    ) -> None:
        self.rules = rules
        self.position = position
        self.max_event = max_event
        self.handled = dict(handled or {})
        self.open: dict[int, Gathering] = {}

    @property
    def bytes(self) -> int:
        """Size of the rows gathered, in bytes."""
        return sum(g.bytes for g in self.open.values())

    @property
    def watermark(self) -> int:
        """Current watermark, ns; far negative before the first reading."""
        return self.max_event - self.rules.disorder

    def restart_point(self) -> tuple[int, int]:
        """(offset, largest event time before it): reading again from here loses and doubles nothing."""
        if not self.open:
            return self.position, self.max_event
        return min((g.first_offset, g.max_before) for g in self.open.values())

    def push(self, readings: pa.Table, next_position: int) -> Step:
        """Take a batch's readings (offsets ascending, all at or above `position`) and move to `next_position`."""
        step = Step()
        if readings.num_rows:
            self._judge(readings, step)
        self.position = max(self.position, next_position)
        step.closed.sort(key=lambda closed: (closed.position_at_close, closed.start))
        return step

    def close_early(self, reason: str, start: int | None = None) -> list[Closed]:
        """Close one window, or all, at the current position: idle, limit or shutdown."""
        starts = sorted(self.open) if start is None else [start]
        return [self._close(s, self.position, self.watermark, reason) for s in starts]

    def largest(self) -> int | None:
        """Start of the window that holds the most bytes."""
        return max(self.open, key=lambda s: self.open[s].bytes) if self.open else None

    def _judge(self, readings: pa.Table, step: Step) -> None:
        length, disorder = self.rules.length, self.rules.disorder
        offsets = readings.column("offset").to_numpy()
        times = readings.column("event_time").cast(pa.int64()).to_numpy()
        largest = np.maximum.accumulate(np.concatenate(([self.max_event], times)))
        first = np.searchsorted(offsets, offsets, side="left")
        before = largest[first]
        starts = times // length * length
        too_late = starts + length + self.rules.lateness <= before - disorder
        late = starts + length <= before - disorder
        order = np.argsort(starts, kind="stable")
        sorted_starts = starts[order]
        bounds = np.flatnonzero(np.diff(sorted_starts)) + 1
        groups = np.split(order, bounds)
        ordered = readings.take(pa.array(order))
        lost: list[np.ndarray] = []
        reach = _Reach(offsets, largest, disorder)
        begin = 0
        for group in groups:
            start = int(starts[group[0]])
            table = ordered.slice(begin, len(group))
            begin += len(group)
            done = offsets[group] < self.handled.get(start, -1)
            gone = too_late[group]
            step.already += int((done & ~gone).sum())
            if gone.any():
                lost.append(group[gone])
            if (done | gone).any():
                keep = ~(done | gone)
                group, table = group[keep], table.filter(pa.array(keep))
            if len(group):
                self._gather(start, group, table, late, before, offsets, reach, step)
        self.max_event = int(largest[-1])
        for start in [s for s, g in self.open.items() if g.closes_at <= self.watermark]:
            self._finish(start, reach, step)
        if lost:
            step.too_late = readings.take(pa.array(np.sort(np.concatenate(lost))))

    def _gather(
        self,
        start: int,
        group: np.ndarray,
        table: pa.Table,
        late: np.ndarray,
        before: np.ndarray,
        offsets: np.ndarray,
        reach: "_Reach",
        step: Step,
    ) -> None:
        at = 0
        while at < len(group):
            row = int(group[at])
            gathering = self.open.get(start)
            if gathering is None:
                behind = bool(late[row]) or start in self.handled
                mark = int(before[row]) - self.rules.disorder
                closes_at = mark + self.rules.length if behind else start + self.rules.length
                gathering = Gathering(start, int(offsets[row]), int(before[row]), closes_at, behind)
                self.open[start] = gathering
            inside = before[group[at:]] - self.rules.disorder < gathering.closes_at
            count = len(inside) if inside.all() else int(np.argmin(inside))
            if count:
                piece = table.slice(at, count)
                gathering.tables.append(piece)
                gathering.rows += count
                gathering.bytes += piece.nbytes
                at += count
            if at < len(group):
                self._finish(start, reach, step)

    def _finish(self, start: int, reach: "_Reach", step: Step) -> None:
        gathering = self.open[start]
        position, watermark = reach.of(gathering.closes_at)
        reason = "late" if gathering.late else "watermark"
        step.closed.append(self._close(start, position, watermark, reason))

    def _close(self, start: int, position: int, watermark: int, reason: str) -> Closed:
        gathering = self.open.pop(start)
        self.handled[start] = position
        rows = pa.concat_tables(gathering.tables, promote_options="default")
        return Closed(start, rows, gathering.first_offset, position, watermark, reason)


class _Reach:
    """Where in a batch the watermark reached a value: (offset + 1 of that message, watermark after it)."""

    def __init__(self, offsets: np.ndarray, largest: np.ndarray, disorder: int) -> None:
        self._offsets, self._largest, self._disorder = offsets, largest, disorder

    def of(self, watermark: int) -> tuple[int, int]:
        row = int(np.searchsorted(self._largest, watermark + self._disorder, side="left")) - 1
        offset = int(self._offsets[max(row, 0)])
        end = int(np.searchsorted(self._offsets, offset, side="right"))
        return offset + 1, int(self._largest[end]) - self._disorder
