"""From one machine's readings, in whatever order they come, to the detector's regular grid. Pure: no Kafka.

A grid step is final once the machine has sent a reading `tolerance` later: what comes for it afterwards is late, counted
and not used. Finality depends on the order of the messages alone and not on the clock or on how they were batched, so
reading a topic again gives the same steps, and a restarted scorer decides nothing differently.

The grid is that of `pipeline.datasets.resample`, with one difference that live scoring cannot avoid: when a machine falls
silent, its last values are still scored for the longest gap, because nobody knows yet that the silence will be longer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

_NEVER = np.iinfo(np.int64).min // 4


@dataclass(frozen=True)
class GridRules:
    """The grid and its bounds, all in ns.

    `step_ns` is the spacing (grid times are its multiples since 1970 UTC), `max_gap_ns` the longest silence of a machine that ends no
    stretch, `tolerance_ns` how far a reading may arrive out of order, `hold_ns` by sensor how long its last value counts; None is
    `max_gap_ns` for all.
    """

    step_ns: int
    max_gap_ns: int
    tolerance_ns: int
    hold_ns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.step_ns < 1:
            raise ConfigError(f"step = {self.step_ns} ns: expected a positive duration")
        if self.max_gap_ns < self.step_ns:
            raise ConfigError(
                f"max_gap = {self.max_gap_ns / 1e9:g} s is shorter than the step of {self.step_ns / 1e9:g} s,"
                " so no two steps would ever join; make it at least one step"
            )
        if self.tolerance_ns < 0:
            raise ConfigError(f"tolerance = {self.tolerance_ns / 1e9:g} s: expected zero or more")


@dataclass(frozen=True, eq=False)
class Held:
    """The last value of each sensor, float64[F], NaN if none came, and the grid time from which it counts, int64[F] ns."""

    values: NDArray[np.float64]
    since_ns: NDArray[np.int64]

    @classmethod
    def nothing(cls, sensors: int) -> "Held":
        """Before the first reading."""
        return cls(np.full(sensors, np.nan), np.full(sensors, _NEVER, np.int64))


@dataclass(frozen=True)
class Stretch:
    """Consecutive final steps without a gap: `time_ns` int64[K], `values` float64[K, F] (NaN where unknown).

    `continues` tells whether it follows directly on the machine's previous stretch; `held` is what was known at its end.
    """

    time_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    continues: bool
    held: Held


class AssetGrid:
    """The buffer of one machine; holds the readings of the tolerance span and the last value of each sensor."""

    def __init__(self, rules: GridRules, sensors: int, held: Held | None = None) -> None:
        """A buffer for `sensors` sensors of which `held` is known from before."""
        self.rules = rules
        self._hold_ns = np.array(rules.hold_ns or (rules.max_gap_ns,) * sensors, np.int64)
        self.late = 0
        self.duplicate = 0
        self.newest_ns = _NEVER
        self._final_ns = _NEVER
        self._time: NDArray[np.int64] = np.empty(0, np.int64)
        self._values: NDArray[np.float64] = np.empty((0, sensors))
        self._held = Held.nothing(sensors) if held is None else held
        self._reading_ns = _NEVER
        self._running = False

    @property
    def pending(self) -> int:
        """Readings that wait for their step to become final."""
        return len(self._time)

    def add(self, time_ns: NDArray[np.int64], values: NDArray[Any]) -> list[Stretch]:
        """Take readings in order of arrival (int64[N], float[N, F]) and give the steps that became final."""
        if len(time_ns) == 0:
            return []
        newest = np.maximum.accumulate(np.r_[self.newest_ns, time_ns])
        late = time_ns <= self._boundary(newest[:-1])
        self.late += int(late.sum())
        self.newest_ns = int(newest[-1])
        time = np.concatenate([self._time, time_ns[~late]])
        value = np.concatenate([self._values, np.asarray(values, np.float64)[~late]])
        if (np.diff(time) < 0).any():
            order = np.argsort(time, kind="stable")
            time, value = time[order], value[order]
        same = np.diff(time) == 0
        if same.any():
            again = np.isnan(value[1:]) | (value[1:] == value[:-1])
            twice = np.r_[False, same & again.all(axis=1)]
            self.duplicate += int(twice.sum())
            time, value = time[~twice], value[~twice]
        final = int(self._boundary(np.array([self.newest_ns]))[0])
        ready = int(np.searchsorted(time, final, side="right"))
        self._time, self._values = time[ready:], value[ready:]
        return self._emit(time[:ready], value[:ready], final)

    def _boundary(self, newest: NDArray[np.int64]) -> NDArray[np.int64]:
        """Latest final step when `newest` is the newest reading."""
        step = self.rules.step_ns
        return np.where(newest == _NEVER, _NEVER, (newest - self.rules.tolerance_ns) // step * step)

    def _emit(self, time: NDArray[np.int64], value: NDArray[np.float64], final: int) -> list[Stretch]:
        rules, step = self.rules, self.rules.step_ns
        spoke = ~np.isnan(value).all(axis=1)
        # A reading counts from its grid time on, so that ages are whole steps as in `pipeline.datasets.resample`.
        time, value = -(-time[spoke] // step) * step, value[spoke]
        known = self._reading_ns != _NEVER
        if not known and len(time) == 0:
            self._final_ns = final
            return []
        # Row 0 stands for what was known before: each sensor's last value and when it was read.
        rows = np.concatenate([self._held.values[None, :], value])
        source = np.where(np.isnan(rows), 0, np.arange(len(rows))[:, None])
        source = np.maximum.accumulate(source, axis=0)
        read_at = np.r_[_NEVER, time]
        moments = np.r_[self._reading_ns if known else _NEVER, time]
        stretches = []
        breaks = np.flatnonzero(np.diff(moments) > rules.max_gap_ns) + 1
        for first, last in zip(np.r_[0, breaks], np.r_[breaks, len(moments)] - 1, strict=True):
            if moments[last] == _NEVER:
                continue
            begins_here = first > 0
            if begins_here:
                self._running = False
            start = -(-int(moments[first]) // step) * step if begins_here else self._final_ns + step
            start = max(start, self._final_ns + step)
            end = min(final, (int(moments[last]) + rules.max_gap_ns) // step * step)
            if end < start:
                continue
            grid = np.arange(start, end + 1, step, dtype=np.int64)
            position = np.searchsorted(moments, grid, side="right") - 1
            found = source[position]
            taken_at = np.where(found == 0, self._held.since_ns[None, :], read_at[found])
            picked = np.take_along_axis(rows, found, axis=0)
            known_then = Held(picked[-1].copy(), taken_at[-1])
            picked[grid[:, None] - taken_at > self._hold_ns] = np.nan
            stretches.append(Stretch(grid, picked, self._running, known_then))
            self._running = True
        newest = source[-1]
        self._held = Held(
            np.take_along_axis(rows, newest[None, :], axis=0)[0],
            np.where(newest == 0, self._held.since_ns, read_at[newest]),
        )
        self._reading_ns = int(moments[-1])
        if self._reading_ns + rules.max_gap_ns < final:
            self._running = False
        self._final_ns = final
        return stretches
