"""Which messages of a partition already have a letter, so that reading them again sends none twice and forgets none.

A restart reads again what open windows held, perhaps by other rules than the first time: a message that was kept may be
refused now, one that was refused may be readable. Which offsets have a letter is therefore part of the commit's note.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

_MAX_RUNS = 10_000
_NOTE_CHARACTERS = 3000
"""As many fit into the note of a commit, which brokers bound to 4096 bytes."""


class Offsets:
    """A set of offsets, kept as runs."""

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """`runs` are inclusive, ascending and apart."""
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in runs:
            self._first.append(first)
            self._last.append(last)

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._first, offset) - 1
        return at >= 0 and offset <= self._last[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._first, self._last, strict=True)

    def __len__(self) -> int:
        return len(self._first)

    def add(self, offset: int) -> None:
        """Take an offset in."""
        if offset in self:
            return
        at = bisect_right(self._first, offset)
        joins_left = at > 0 and self._last[at - 1] == offset - 1
        joins_right = at < len(self._first) and self._first[at] == offset + 1
        if joins_left and joins_right:
            self._last[at - 1] = self._last[at]
            del self._first[at], self._last[at]
        elif joins_left:
            self._last[at - 1] = offset
        elif joins_right:
            self._first[at] = offset
        else:
            self._first.insert(at, offset)
            self._last.insert(at, offset)

    def forget_below(self, offset: int) -> None:
        """Leave out everything below `offset`."""
        at = bisect_right(self._first, offset - 1)
        if at and self._last[at - 1] >= offset:
            at -= 1
            self._first[at] = offset
        del self._first[:at], self._last[:at]

    def among(self, offsets: np.ndarray) -> np.ndarray:
        """bool[N]: which of int64[N] ascending offsets are in the set."""
        found = np.zeros(len(offsets), dtype=bool)
        if len(offsets) and self._last and self._last[-1] >= offsets[0]:
            at = np.searchsorted(self._first, offsets, side="right") - 1
            known = at >= 0
            found[known] = offsets[known] <= np.array(self._last)[at[known]]
        return found


class Told:
    """`upto` is the position below which letters are confirmed. From `since` on, `dead` and `late` are exactly the messages with a letter
    of that kind; below it that is not known, and whatever is refused counts as told."""

    def __init__(
        self, upto: int, since: int, dead: Offsets | None = None, late: Offsets | None = None
    ) -> None:
        self.upto, self.since = upto, since
        self.dead, self.late = dead or Offsets(), late or Offsets()

    @classmethod
    def everything_below(cls, position: int) -> Told:
        """Nothing is known of single messages."""
        return cls(position, position)

    @classmethod
    def of_note(cls, upto: int, note: Any) -> Told:
        """From what `note` made; anything else tells nothing of single messages."""
        ours = isinstance(note, list) and len(note) == 3 and type(note[0]) is int
        sets = [_read(note[0], numbers) for numbers in note[1:]] if ours else [None]
        if None in sets:
            return cls.everything_below(upto)
        return cls(upto, note[0], *sets)

    def note(self, restart: int, upto: int) -> list[Any]:
        """What a commit at offset `restart` says, for everything below `upto`; forgets what lies before."""
        self.since = max(self.since, restart)
        for offsets in (self.dead, self.late):
            offsets.forget_below(self.since)
        if len(self.dead) + len(self.late) > _MAX_RUNS:
            self.since, self.dead, self.late = upto, Offsets(), Offsets()
        numbers = [_written(self.since, offsets) for offsets in (self.dead, self.late)]
        if sum(len(str(number)) + 1 for part in numbers for number in part) > _NOTE_CHARACTERS:
            return [upto, [], []]
        return [self.since, *numbers]

    def has(self, offset: int, kind: Offsets) -> bool:
        """Whether a message that is refused now has its letter of this kind (`dead` or `late`) already."""
        return offset in kind if offset >= self.since else offset < self.upto


def _written(since: int, offsets: Offsets) -> list[int]:
    """Distance to the next run and its length, in turn."""
    numbers, at = [], since
    for first, last in offsets:
        numbers += [first - at, last - first + 1]
        at = last + 1
    return numbers


def _read(since: int, numbers: Any) -> Offsets | None:
    if not isinstance(numbers, list) or len(numbers) % 2:
        return None
    if not all(type(number) is int and number >= 0 for number in numbers) or 0 in numbers[1::2]:
        return None
    runs, at = [], since
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        runs.append((at + gap, at + gap + length - 1))
        at += gap + length
    return Offsets(runs)
