"""One machine in the scorer: its grid, what the detector remembers of it, its alert, and where to read back from."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.alerts import CLOSED, OPEN, AlertEvent, AlertTracker, Change
from pipeline.scoring.buffer import AssetGrid, GridRules, Held, Stretch
from pipeline.scoring.memory import Memory, ModelState

_NEVER = np.iinfo(np.int64).min // 4


@dataclass(frozen=True)
class Job:
    """Consecutive new steps of one machine.

    `time_ns` int64[K], `rows` float32[K, F]. `fresh` tells that a gap lies before them: the machine's short memory begins anew.
    `live` is False for steps that an earlier process has decided already and that only rebuild the state. `held` is what was known of
    the machine at the last of them.
    """

    site: str
    asset: "AssetState"
    time_ns: NDArray[np.int64]
    rows: NDArray[np.float32]
    fresh: bool
    live: bool
    held: Held


@dataclass(frozen=True)
class Kept:
    """What a machine was after its step at `time_ns`."""

    time_ns: int
    state: ModelState
    held: Held


class AssetState:
    """Bounded memory of one machine: the detector's state and the readings of the tolerance span.

    `model_state` is the detector's, after the step at `model_time_ns`; None before the first.
    """

    def __init__(
        self,
        site: str,
        name: str,
        rules: GridRules,
        sensors: int,
        hold_off_ns: int,
        memory: Memory | None = None,
        held: Held | None = None,
    ) -> None:
        """A machine of which nothing is known yet but what an earlier process remembered: `memory` of this detector, `held` of any."""
        self.site, self.name = site, name
        self.grid = AssetGrid(rules, sensors, held)
        self.tracker = AlertTracker(hold_off_ns)
        self.model_state: ModelState | None = None if memory is None else memory.state
        self.model_time_ns = _NEVER if memory is None else memory.time_ns
        self._marks: dict[int, deque[tuple[int, int]]] = {}
        self._kept: deque[Kept] = deque()
        self._told_ns = self.model_time_ns
        # Reading again from so far before a remembered state cuts the runs behind it in the same places.
        self._lead_ns = rules.max_gap_ns + rules.tolerance_ns + 2 * rules.step_ns
        self.heard_ms = 0
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
        # However many steps a batch had, reading again must reach the state that is remembered.
        needed_ns = min(self.grid.newest_ns - horizon_ns, self._told_ns - self._lead_ns)
        while len(marks) > 1 and marks[0][1] <= needed_ns:
            marks.popleft()
        jobs = (self._job(stretch, live) for stretch in stretches)
        return [job for job in jobs if job is not None]

    def _job(self, stretch: Stretch, live: bool) -> Job | None:
        """The steps of a stretch that the detector has not seen: what is read again may begin before its memory."""
        seen = int(np.searchsorted(stretch.time_ns, self.model_time_ns, side="right"))
        if seen == len(stretch.time_ns):
            return None
        time_ns = stretch.time_ns[seen:]
        fresh = seen == 0 and not stretch.continues
        self.model_time_ns = int(time_ns[-1])
        return Job(
            self.site, self, time_ns, stretch.values[seen:].astype(np.float32), fresh, live, stretch.held
        )

    def remember(self, job: Job, state: ModelState, apart_ns: int, horizon_ns: int) -> None:
        """Take the detector's state after the steps of `job`; states at least `apart_ns` apart are kept for `horizon_ns`."""
        self.model_state = state
        time_ns = int(job.time_ns[-1])
        if not self._kept or time_ns - self._kept[-1].time_ns >= apart_ns:
            self._kept.append(Kept(time_ns, state, job.held))
        while len(self._kept) > 1 and self._kept[1].time_ns <= time_ns - horizon_ns:
            self._kept.popleft()

    def to_keep(self, before_ns: int) -> Kept | None:
        """The latest kept state at or before `before_ns` if it is later than the last one given."""
        found = None
        for kept in self._kept:
            if self._told_ns < kept.time_ns <= before_ns:
                found = kept
        if found is not None:
            self._told_ns = found.time_ns
        return found

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
            threshold=sent.threshold,
            suspects=peak.suspects,
            raised_by=sent.raised_by,
        )
