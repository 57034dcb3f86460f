"""Tumbling event-time windows of one partition. Pure: no clock, no disk, no Kafka.

The watermark is the largest event time of all earlier messages minus the allowed out-of-orderness. Every decision is a
function of the sequence of messages alone, never of how they were batched, so reading a partition again decides the same.
A message is atomic: all its rows are judged by the watermark before it. A window closes at the end of the message that
moves the watermark to its end; `position_at_close`, that message's offset + 1, separates what the window holds from
what is late. Late rows gather in a pending addendum that closes one window length of event time after it opened.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ingestion.eventtime import NS
from ingestion.records import Imprint
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


@dataclass(frozen=True)
class Piece:
    """Rows `begin` to `end` (not included) of a table that several windows share, in offset order."""

    table: pa.Table
    begin: int
    end: int


def unite(pieces: Iterable[Piece]) -> pa.Table:
    """The rows of all pieces in the order given; neighbours in one table are cut out together."""
    runs: list[Piece] = []
    for piece in pieces:
        last = runs[-1] if runs else None
        if last is not None and last.table is piece.table and last.end == piece.begin:
            runs[-1] = Piece(last.table, last.begin, piece.end)
        else:
            runs.append(piece)
    tables = [run.table.slice(run.begin, run.end - run.begin) for run in runs]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")


@dataclass
class Gathering:
    """Rows of one window that are not yet on disk. `max_before` is the partition's largest event time before
    `first_offset`, which lets a restart at that offset see the same watermark. `closes_at` is a watermark in ns."""

    start: int
    first_offset: int
    max_before: int
    closes_at: int
    late: bool
    pieces: list[Piece] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Closed:
    """A decision to publish: window start in ns, its rows in offset order, and what the footer must say.

    `bytes` is about how much memory the rows take, `last_read` the last record below `position_at_close`, known to whoever has the records.
    """

    start: int
    pieces: tuple[Piece, ...]
    row_count: int
    first_offset: int
    position_at_close: int
    watermark: int
    reason: str
    bytes: int = field(default=0, compare=False)
    last_read: Imprint | None = None

    @property
    def rows(self) -> pa.Table:
        """The window's rows as one table."""
        return unite(self.pieces)


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

    def close_early(self, reason: str) -> list[Closed]:
        """Close all windows at the current position: idle or shutdown."""
        return [self._close(s, self.position, self.watermark, reason) for s in sorted(self.open)]

    def close_largest(self, size: int) -> list[Closed]:
        """Close the windows that hold the most, as few as hold `size` bytes together, at the current position."""
        closed: list[Closed] = []
        for start in sorted(self.open, key=lambda s: self.open[s].bytes, reverse=True):
            if size <= 0:
                break
            size -= self.open[start].bytes
            closed.append(self._close(start, self.position, self.watermark, "limit"))
        return closed

    def _judge(self, readings: pa.Table, step: Step) -> None:
        length, disorder = self.rules.length, self.rules.disorder
        offsets = readings.column("offset").to_numpy()
        times = readings.column("event_time").cast(pa.int64()).to_numpy()
        largest = np.maximum.accumulate(np.concatenate(([self.max_event], times)))
        before = largest[np.searchsorted(offsets, offsets, side="left")]
        starts = times // length * length
        too_late = starts + length + self.rules.lateness <= before - disorder
        unique, window = np.unique(starts, return_inverse=True)
        known = np.array([self.handled.get(start, -1) for start in unique.tolist()], dtype=np.int64)
        done = (offsets < known[window]) & ~too_late
        step.already += int(done.sum())
        order = np.argsort(starts, kind="stable")
        if done.any() or too_late.any():
            order = order[~(done | too_late)[order]]
        reach = _Reach(offsets, largest, disorder)
        if len(order):
            in_place = len(order) == len(offsets) and bool((order[1:] > order[:-1]).all())
            rows = _Rows(
                readings if in_place else readings.take(pa.array(order)),
                offsets[order],
                before[order],
                starts[order],
            )
            bounds = [0, *(np.flatnonzero(np.diff(rows.starts)) + 1).tolist(), len(order)]
            for begin, end in itertools.pairwise(bounds):
                self._gather(rows, begin, end, reach, step)
        self.max_event = int(largest[-1])
        for start in [s for s, g in self.open.items() if g.closes_at <= self.watermark]:
            self._finish(start, reach, step)
        if len(order):
            self._let_go(rows.table)
        if too_late.any():
            step.too_late = readings.take(pa.array(np.flatnonzero(too_late)))

    def _gather(self, rows: "_Rows", begin: int, end: int, reach: "_Reach", step: Step) -> None:
        """Add the rows of one window, closing it whenever the watermark before a row says so."""
        start, disorder = int(rows.starts[begin]), self.rules.disorder
        while begin < end:
            before = int(rows.before[begin])
            gathering = self.open.get(start)
            if gathering is None:
                late = start + self.rules.length <= before - disorder or start in self.handled
                closes_at = (before - disorder if late else start) + self.rules.length
                gathering = Gathering(start, int(rows.offsets[begin]), before, closes_at, late)
                self.open[start] = gathering
            reached = gathering.closes_at + disorder
            inside = end
            if rows.before[end - 1] >= reached:
                inside = begin + int(np.searchsorted(rows.before[begin:end], reached, side="left"))
            if inside > begin:
                gathering.pieces.append(Piece(rows.table, begin, inside))
                gathering.rows += inside - begin
                gathering.bytes += int((inside - begin) * rows.row_bytes)
                begin = inside
            if begin < end:
                self._finish(start, reach, step)

    def _let_go(self, table: pa.Table) -> None:
        """Copy what open windows hold of a batch, if that is the smaller part, so that the rest can be freed."""
        held = [g for g in self.open.values() if g.pieces and g.pieces[-1].table is table]
        pieces = [g.pieces[-1] for g in held]
        total = sum(piece.end - piece.begin for piece in pieces)
        if not total or total * 2 > table.num_rows:
            return
        chosen = np.concatenate([np.arange(piece.begin, piece.end) for piece in pieces])
        copy, at = table.take(pa.array(chosen)), 0
        for gathering, piece in zip(held, pieces, strict=True):
            size = piece.end - piece.begin
            gathering.pieces[-1] = Piece(copy, at, at + size)
            at += size

    def _finish(self, start: int, reach: "_Reach", step: Step) -> None:
        gathering = self.open[start]
        position, watermark = reach.of(gathering.closes_at)
        reason = "late" if gathering.late else "watermark"
        step.closed.append(self._close(start, position, watermark, reason))

    def _close(self, start: int, position: int, watermark: int, reason: str) -> Closed:
        gathering = self.open.pop(start)
        self.handled[start] = position
        return Closed(
            start,
            tuple(gathering.pieces),
            gathering.rows,
            gathering.first_offset,
            position,
            watermark,
            reason,
            gathering.bytes,
        )


class _Rows:
    """A batch's rows that belong into windows, ordered by window and offset, with what their judgement needs."""

    def __init__(self, table: pa.Table, offsets: np.ndarray, before: np.ndarray, starts: np.ndarray) -> None:
        self.table, self.offsets, self.before, self.starts = table, offsets, before, starts
        self.row_bytes = table.nbytes / table.num_rows


class _Reach:
    """Where in a batch the watermark reached a value: (offset + 1 of that message, watermark after it)."""

    def __init__(self, offsets: np.ndarray, largest: np.ndarray, disorder: int) -> None:
        self._offsets, self._largest, self._disorder = offsets, largest, disorder

    def of(self, watermark: int) -> tuple[int, int]:
        row = int(np.searchsorted(self._largest, watermark + self._disorder, side="left")) - 1
        offset = int(self._offsets[max(row, 0)])
        end = int(np.searchsorted(self._offsets, offset, side="right"))
        return offset + 1, int(self._largest[end]) - self._disorder
