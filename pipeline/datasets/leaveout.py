"""Stretches of time that learning does not see, taken out of a site's readings before they become runs.

A machine begins anew behind a stretch: nothing is held over it, neither what came before nor what was said in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ALL = ("*",)


@dataclass(frozen=True)
class Period:
    """Readings with `from_ns` <= event time < `to_ns` (ns since 1970 UTC) of the machines whose site and name match a pattern of each."""

    from_ns: int
    to_ns: int
    sites: tuple[str, ...] = ALL
    assets: tuple[str, ...] = ALL

    def meets(self, begin_ns: int, end_ns: int) -> bool:
        """Whether any instant from one to before another (ns since 1970 UTC) lies in it."""
        return self.from_ns < end_ns and begin_ns < self.to_ns


@dataclass(frozen=True)
class LeftOut(Period):
    """Readings that learning does not see. `labelled`: no setting but a label says so."""

    labelled: bool = False


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of the names or matches one of the shell-style patterns.

    >>> matches("press-1", ["saw", "press-*"]), matches("saw[2]", ["saw[2]"])
    (True, True)
    """
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def concerns(stretch: Period, site: str) -> bool:
    """Whether a stretch is of machines of a site."""
    return matches(site, stretch.sites)


def origin(stretches: Sequence[LeftOut], touched: Sequence[int]) -> str:
    """What says that readings are left out, by how many lie in each stretch."""
    kinds = {each.labelled for each, count in zip(stretches, touched, strict=True) if count}
    return " and ".join(
        name for kind, name in ((False, "dataset.leave_out"), (True, "--leave-out-labelled")) if kind in kinds
    )


class Leaving:
    """What is left out of one site's readings; counts them as they are asked about.

    Attributes:
      readings: left out so far, each once.
      touched: by stretch, how many readings lay in it, int64[len(stretches)]; overlapping ones share theirs.
      end_ns: event time of the latest one, ns since 1970 UTC; None without any.
    """

    def __init__(self, site: str, stretches: Sequence[LeftOut]) -> None:
        self._own = [(place, each) for place, each in enumerate(stretches) if concerns(each, site)]
        self._by_asset: dict[str, _Joined] = {}
        self.readings = 0
        self.touched = np.zeros(len(stretches), np.int64)
        self.end_ns: int | None = None

    def leave(self, asset: str, time: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which readings of a machine are left out, bool[N], by their event times int64[N] in ns."""
        joined = self._of(asset)
        if len(joined.begin) == 0 or len(time) == 0:
            return np.zeros(len(time), np.bool_)
        ordered = np.sort(time)
        for place, each in joined.stretches:
            first, last = np.searchsorted(ordered, (each.from_ns, each.to_ns))
            self.touched[place] += last - first
        out = joined.holds(time)
        if out.any():
            self.readings += int(out.sum())
            self.end_ns = max(int(time[out].max()), self.end_ns or 0)
        return out

    def parts(self, asset: str, grid: NDArray[np.int64]) -> list[slice]:
        """The rows at ascending grid times int64[N] in ns, parted where a stretch ends between two of them."""
        behind = np.searchsorted(self._of(asset).end, grid, side="right")
        edges = [0, *(np.flatnonzero(np.diff(behind)) + 1).tolist(), len(grid)]
        return [slice(*each) for each in pairwise(edges)]

    def _of(self, asset: str) -> _Joined:
        if asset not in self._by_asset:
            self._by_asset[asset] = _joined(
                [(place, each) for place, each in self._own if matches(asset, each.assets)]
            )
        return self._by_asset[asset]


@dataclass(frozen=True)
class _Joined:
    """Stretches with their places, and the disjoint ones that they make together: `begin` and `end` int64[K], ascending, in ns."""

    stretches: list[tuple[int, LeftOut]]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]

    def holds(self, time: NDArray[np.int64]) -> NDArray[np.bool_]:
        at = np.searchsorted(self.begin, time, side="right") - 1
        return (at >= 0) & (time < self.end[np.maximum(at, 0)])


def _joined(stretches: list[tuple[int, LeftOut]]) -> _Joined:
    spans: list[list[int]] = []
    for begin, end in sorted((each.from_ns, each.to_ns) for _, each in stretches):
        if spans and begin <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([begin, end])
    edges = np.array(spans, np.int64).reshape(-1, 2)
    return _Joined(stretches, edges[:, 0].copy(), edges[:, 1].copy())
