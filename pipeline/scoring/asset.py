"""One machine in the scorer: its grid, the rows of the frame in progress, its alert, and where to read back from."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.alerts import CLOSED, OPEN, AlertEvent, AlertTracker, Change
from pipeline.scoring.buffer import AssetGrid, GridRules, Stretch


@dataclass(frozen=True)
class Job:
    """Steps of one machine to be scored together.

    `rows` float32[H + K, F] are the K new steps after the H that their frames need; `time_ns` int64[K]. `live` is False
    for steps that an earlier process has decided already and that only rebuild the state.
    """

    site: str
    asset: "AssetState"
    time_ns: NDArray[np.int64]
    rows: NDArray[np.float32]
    live: bool

    def windows(self, steps: int) -> int:
        """How many of the new steps complete a frame of `steps`."""
        return max(0, min(len(self.time_ns), len(self.rows) - steps + 1))


class AssetState:
    """Bounded memory of one machine: at most a frame of rows and the readings of the tolerance span."""

    def __init__(
        self, site: str, name: str, rules: GridRules, sensors: int, steps: int, hold_off_ns: int
    ) -> None:
        """A machine of which nothing is known yet."""
        self.site, self.name = site, name
        self.grid = AssetGrid(rules, sensors)
        self.tracker = AlertTracker(hold_off_ns)
        self._steps = steps
        self._tail: NDArray[np.float32] = np.empty((0, sensors), np.float32)
        self._marks: dict[int, deque[tuple[int, int]]] = {}
        self.heard_ms = 0
        self.threshold = float("nan")
        self.adopted = False

    def add(
        self,
        time_ns: NDArray[np.int64],
        values: NDArray[Any],
        partition: int,
        offset: int,
        horizon_ns: int,
        live: bool,
    ) -> list[Job]:
        """Take readings of one batch (in order of arrival, `offset` that of the first) and give what became final."""
        stretches = self.grid.add(time_ns, values)
        marks = self._marks.setdefault(partition, deque())
        marks.append((offset, self.grid.newest_ns))
        while len(marks) > 1 and marks[0][1] <= self.grid.newest_ns - horizon_ns:
            marks.popleft()
        return [self._job(stretch, live) for stretch in stretches]

    def _job(self, stretch: Stretch, live: bool) -> Job:
        new = stretch.values.astype(np.float32)
        rows = np.concatenate([self._tail, new]) if stretch.continues else new
        self._tail = rows[max(0, len(rows) - self._steps + 1) :].copy()
        return Job(self.site, self, stretch.time_ns, rows, live)

    def resume_offset(self, partition: int) -> int | None:
        """Offset from which reading again rebuilds this machine's state, None if it never came by that partition."""
        marks = self._marks.get(partition)
        return marks[0][0] if marks else None

    def close_if_silent(self, before_ms: int) -> Change | None:
        """End the alert of a machine whose latest record is older than `before_ms` (record time, ms since 1970)."""
        current = self.tracker.current
        if current is None or self.heard_ms >= before_ms:
            return None
        self.tracker.current = None
        return Change(CLOSED, current)

    def adopt(self, logged: tuple[str, AlertEvent] | None) -> None:
        """Reconcile the rebuilt alert with the last one in the alert topic, which is the truth about what was sent."""
        self.adopted = True
        if logged is None:
            return
        state, sent = logged
        current = self.tracker.current
        if state != OPEN:
            if current is not None and current.start_ns <= sent.last_ns:
                self.tracker.current = None
            return
        if current is None or current.last_ns < sent.start_ns:
            self.tracker.current = sent
            return
        peak = current if current.peak_score > sent.peak_score else sent
        self.tracker.current = replace(
            current,
            start_ns=sent.start_ns,
            first_score=sent.first_score,
            steps=max(sent.steps, current.steps),
            peak_ns=peak.peak_ns,
            peak_score=peak.peak_score,
            sensors=peak.sensors,
        )
