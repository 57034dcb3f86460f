"""How far apart the readings of a sensor are: what the grid's step and the holding of values are taken from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.datasets.tables import by_asset, column_values, sensor_names, time_ns

_SAMPLE_ROWS = 2_000_000
"""Half a day of narrow messages of forty sensors a second: a set point of every shift must show."""
_FEW = 10


def infer_step_ns(tables: Iterable[pa.Table]) -> int | None:
    """Median spacing of a sensor's distinct event times, in ns, to three significant digits.

    See `Spacings`. None if no sensor has two distinct times.
    """
    spacings = Spacings()
    for table in tables:
        if not spacings.add(table):
            break
    return spacings.median_ns()


class Spacings:
    """Event times of every sensor of every asset, of the first rows of a site.

    Each sensor counts by itself: sensors that report one after the other, each in a message of its own, give their period and not the
    pause between two of them. One that reports more often counts more.
    """

    def __init__(self, rows: int = _SAMPLE_ROWS) -> None:
        """Looks at the first `rows` rows, to the end of the table they lie in."""
        self._left = rows
        self._times: dict[tuple[str, str], list[NDArray[np.int64]]] = {}
        self._grouped: list[_Group] = []
        """What `_groups` made of all of them, empty until then."""

    def add(self, table: pa.Table) -> bool:
        """Take the next readings of the site; False once enough was seen."""
        if self._left <= 0:
            return False
        self._grouped = []
        for asset, part in by_asset(table):
            at = time_ns(part)
            for name in sensor_names(part.column_names):
                spoke = ~np.isnan(column_values(part, name))
                # Sensors that came in the same rows share one array.
                self._times.setdefault((asset, name), []).append(at if spoke.all() else at[spoke])
        self._left -= table.num_rows
        return self._left > 0

    def median_ns(self) -> int | None:
        """The median over all sensors' spacings: it ignores lost readings and bursts, and jitter vanishes in the rounding."""
        spacings, weights = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for group in self._groups():
            spacings.append(np.diff(group.heard))
            weights.append(np.full(len(spacings[-1]), len(group.sensors)))
        every = np.concatenate(spacings)
        if len(every) == 0:
            return None
        order = np.argsort(every, kind="stable")
        reached = np.cumsum(np.concatenate(weights)[order])
        # The mean of the two in the middle, as for any median of an even number.
        half = reached[-1] / 2
        middle = every[order[[np.searchsorted(reached, half), np.searchsorted(reached, half, "right")]]]
        return max(1, int(float(f"{middle.mean():.3g}")))

    def usual_ns(self, max_gap_ns: int) -> dict[str, int]:
        """By sensor the spacing that is usual for it, in ns: half of the time lies in spacings at least as long.

        Unlike the median it is the pause and not the burst for a sensor that reports changes only, and an outage of less than half of the
        time does not show in it. Time in which the whole machine was silent for longer than `max_gap_ns` is not counted. A
        sensor with a handful of readings, such as a set point sent once, is taken to be silent on purpose to the end.
        """
        groups = self._groups()
        clocks = _clocks(groups, max_gap_ns)
        apart: dict[str, list[NDArray[np.int64]]] = {}
        for group in groups:
            clock = clocks[group.asset]
            told = clock.at(group.heard)
            if len(told) < _FEW:
                told = np.append(told, clock.end)
            spacing = np.diff(told)
            for sensor in group.sensors:
                apart.setdefault(sensor, []).append(spacing)
        return {sensor: _by_time(np.concatenate(spacings)) for sensor, spacings in apart.items()}

    def _groups(self) -> list[_Group]:
        if self._grouped:
            return self._grouped
        alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        parts_of = {}
        for (asset, sensor), parts in self._times.items():
            key = asset, tuple(id(part) for part in parts)
            alike.setdefault(key, []).append(sensor)
            parts_of[key] = parts
        every = (
            _Group(asset, sensors, np.unique(np.concatenate(parts_of[asset, same])))
            for (asset, same), sensors in alike.items()
        )
        self._grouped = [group for group in every if len(group.heard)]
        return self._grouped


@dataclass(frozen=True)
class _Group:
    """Sensors of one asset that reported at the same instants, `heard` int64[N] ns, ascending."""

    asset: str
    sensors: list[str]
    heard: NDArray[np.int64]


@dataclass(frozen=True)
class _Clock:
    """Time that stands still while a machine is silent: `told` int64[N] ns at the instants `heard` int64[N], ascending."""

    heard: NDArray[np.int64]
    told: NDArray[np.int64]

    @property
    def end(self) -> int:
        return int(self.told[-1])

    def at(self, instants: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.told[np.searchsorted(self.heard, instants)]


def _clocks(groups: list[_Group], max_gap_ns: int) -> dict[str, _Clock]:
    """By asset; silences longer than `max_gap_ns` do not count."""
    instants: dict[str, list[NDArray[np.int64]]] = {}
    for group in groups:
        instants.setdefault(group.asset, []).append(group.heard)
    clocks = {}
    for asset, parts in instants.items():
        heard = np.unique(np.concatenate(parts))
        passed = np.diff(heard)
        clocks[asset] = _Clock(heard, np.r_[0, np.cumsum(np.where(passed > max_gap_ns, 0, passed))])
    return clocks


def _by_time(spacings: NDArray[np.int64]) -> int:
    """The spacing that half of the time lies in or above; 0 if no time passed."""
    every = np.sort(spacings)
    passed = np.cumsum(every)
    return int(every[np.searchsorted(passed, passed[-1] / 2)]) if len(every) and passed[-1] else 0
