"""What a running ingestion shows of itself, once a second, as plain values that cross processes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class PartitionView:
    """One open partition: offset read next, end of its log if known, watermark in ns since 1970 (None before the first reading),
    windows that gather rows and the rows in them."""

    site: str
    topic: str
    partition: int
    position: int
    log_end: int | None
    watermark_ns: int | None
    open_windows: int
    open_rows: int


@dataclass
class PublishTimes:
    """Seconds that publishing took: how many at most each of `BOUNDS`, all of them, and their sum."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """One publication, of one window or of several together."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def copy(self) -> PublishTimes:
        """The state now."""
        return PublishTimes(list(self.buckets), self.total)


@dataclass(frozen=True)
class View:
    """Open partitions, counts by site as `SiteCounts.to_dict` gives them, and how long publishing took."""

    partitions: tuple[PartitionView, ...] = ()
    counts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    publishing: PublishTimes = field(default_factory=PublishTimes)


def united(views: Iterable[View | None]) -> View:
    """Several processes as one."""
    known = [view for view in views if view is not None]
    counts: dict[str, dict[str, Any]] = {}
    times = PublishTimes()
    for view in known:
        for site, found in view.counts.items():
            counts[site] = added(counts.get(site, {}), found)
        times.buckets = [a + b for a, b in zip(times.buckets, view.publishing.buckets, strict=True)]
        times.total += view.publishing.total
    return View(tuple(part for view in known for part in view.partitions), counts, times)


def added(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The sum of two trees of numbers."""
    total = dict(first)
    for name, value in second.items():
        if isinstance(value, Mapping):
            total[name] = added(total.get(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value
    return total
