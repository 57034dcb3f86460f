"""What a snapshot's readings are before anything is written: their grid, and what each site can give to a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa

from models.logarithms import named_sensors
from models.scaling import SensorMoments, implausible
from pipeline.config.durations import format_duration
from pipeline.datasets.counting import counts
from pipeline.datasets.leaveout import origin
from pipeline.datasets.resample import resample_site
from pipeline.datasets.run import Run, SiteRuns, count_frames
from pipeline.datasets.snapshot import DatasetSettings, Snapshot
from pipeline.datasets.spacing import Spacings, infer_step_ns
from pipeline.datasets.tables import sensor_names
from pipeline.errors import ConfigError, NothingToDo
from pipeline.remarks import listed

_SPACINGS_HELD = 5
"""Lost readings that a value outlives."""
_NAMED = 20
"""Sensors that an error names."""

ReadSite = Callable[[str], Iterable[pa.Table]]


@dataclass(frozen=True)
class Grid:
    """The regular form of all sites' readings: `sensors` sorted; spacing, longest silence within a run, and for each sensor how long its
    last value counts, in ns.

    `unknown`: sensors that the settings name and no site sends. `finer_ns`: by site how far apart its readings are, in ns, where the spacing that was taken from
    all sites is at least twice that, so that some of its readings are not looked at.
    """

    sensors: tuple[str, ...]
    step_ns: int
    max_gap_ns: int
    hold_ns: tuple[int, ...]
    unknown: tuple[str, ...] = ()
    finer_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SiteOutcome:
    """What became of a site: `excluded` is None if it can train, else the reason. `constant` sensors never change,
    `faint` ones move too little beside their size to be told from rounding (`models.scaling`), so that they count as constant,
    `implausible` ones have training values out of all proportion (`models.scaling.implausible`), `counting` ones go one way only:
    of all these they alone may be sensors that are not in the grid (`pipeline.datasets.parts`).
    `end_ns` is the grid time of its last row, ns since 1970 UTC; 0 without rows. `left_out` of its `readings` are in none of its rows, `touched` by stretch
    of `DatasetSettings.leave_out`, and between them `fragments` rows are in runs shorter than a frame; rows behind the last one that were left out do not make `end_ns` earlier.
    """

    site: str
    readings: int
    runs: int
    train_rows: int
    validation_rows: int
    excluded: str | None = None
    constant: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    faint: tuple[str, ...] = ()
    implausible: tuple[str, ...] = ()
    end_ns: int = 0
    left_out: int = 0
    fragments: int = 0
    touched: tuple[int, ...] = ()
    counting: tuple[str, ...] = ()

    def moving(self, sensors: Iterable[str]) -> set[str]:
        """Those of the grid's `sensors` that moved at this site while learning."""
        return set(sensors) - {*self.constant, *self.silent}


@dataclass(frozen=True)
class SitePart:
    """One site on the grid: its outcome, and its runs before and after the instant that parts training from validation."""

    outcome: SiteOutcome
    training: tuple[Run, ...]
    validation: tuple[Run, ...]


def survey(snapshot: Snapshot, read_site: ReadSite) -> Grid:
    """The grid that settings and readings give together.

    Raises:
      NothingToDo: no site has readings, or none two at different times.
      ConfigError: none of the wanted sensors exists, or a pattern of logarithms names none.
    """
    settings = snapshot.settings
    found: set[str] = set()
    spacings: dict[str, Spacings] = {}
    for site in snapshot.sources:
        spacings[site] = Spacings()
        for table in read_site(site):
            found.update(sensor_names(table.column_names))
            if settings.step_ns is None or settings.hold_ns is None:
                spacings[site].add(table)
    steps_ns = {site: step for site, each in spacings.items() if (step := each.median_ns()) is not None}
    if not found:
        raise NothingToDo(
            "no site has readings: nothing to train on; check the topics or the folder, then run again"
        )
    wanted = found if settings.sensors is None else set(settings.sensors) & found
    sensors = tuple(sorted(wanted - set(settings.exclude)))
    if not sensors:
        there = f"the data has {listed(sorted(found), _NAMED)}"
        if not wanted:
            raise ConfigError(
                f"none of the sensors of dataset.sensors is there ({listed(sorted(settings.sensors or ()), _NAMED)}); {there}"
            )
        raise ConfigError(f"dataset.exclude leaves no sensor over; {there}: exclude fewer")
    for pattern in settings.logarithms:
        if not named_sensors(sensors, [pattern]).any():
            raise ConfigError(
                f"detector.logarithms: {pattern!r} matches no sensor (capitals matter); take it out or name one of {', '.join(sensors)}"
            )
    if settings.step_ns is None and not steps_ns:
        raise NothingToDo(
            "no asset has two readings at different times: nothing to train on; wait for more data"
        )
    step_ns = settings.step_ns or int(np.sort(list(steps_ns.values()))[len(steps_ns) // 2])
    max_gap_ns = settings.max_gap_ns if settings.max_gap_ns is not None else _SPACINGS_HELD * step_ns
    holds = _holds(sensors, list(spacings.values()), max_gap_ns, settings.hold_ns)
    unknown = tuple(sorted({*(settings.sensors or ()), *settings.exclude} - found))
    finer = {site: of for site, of in steps_ns.items() if settings.step_ns is None and 2 * of <= step_ns}
    return Grid(sensors, step_ns, max_gap_ns, holds, unknown, finer)


def _holds(
    sensors: Sequence[str], sites: Sequence[Spacings], max_gap_ns: int, asked_ns: int | None
) -> tuple[int, ...]:
    """How long each sensor's value counts: as asked, or as long as the site needs where it reports most rarely."""
    if asked_ns is not None:
        return (max(asked_ns, max_gap_ns),) * len(sensors)
    usual = [spacings.usual_ns(max_gap_ns) for spacings in sites]
    longest = [max(site.get(sensor, 0) for site in usual) for sensor in sensors]
    return tuple(max(max_gap_ns, _SPACINGS_HELD * spacing) for spacing in longest)


def site_part(site: str, snapshot: Snapshot, read_site: ReadSite, grid: Grid) -> SitePart:
    """Bring a site to the grid and part it in time. Raises ConfigError if step and gap contradict each other."""
    settings = snapshot.settings
    found = resample_site(
        site,
        read_site(site),
        step_ns=grid.step_ns,
        max_gap_ns=grid.max_gap_ns,
        hold_ns=grid.hold_ns,
        sensors=grid.sensors,
        until_ns=settings.until_ns,
        leave_out=settings.leave_out,
    )
    before, after = split_runs(found.runs, settings.validation, settings.steps)
    outcome = _outcome(found, before, after, grid.sensors, settings)
    if outcome.excluded is not None and found.left_out:
        told = f"{found.left_out:,} of its {found.readings:,} readings are left out"
        advice = "leave out less, or learn from more"
        by = origin(settings.leave_out, found.touched)
        outcome = replace(outcome, excluded=f"{outcome.excluded}; {told} ({by}): {advice}")
    elif outcome.excluded is not None and found.readings:
        spacing = infer_step_ns(read_site(site))
        if spacing is not None and spacing > grid.max_gap_ns:
            apart, held = (format_duration(each / 1e9) for each in (spacing, grid.max_gap_ns))
            advice = f"its readings are {apart} apart and a value is held for {held}: set dataset.max_gap to more, or dataset.step"
            outcome = replace(outcome, excluded=f"{outcome.excluded}; {advice}")
        elif outcome.train_rows >= settings.steps:
            ends = format_duration(grid.max_gap_ns / 1e9)
            advice = f"a silence of more than {ends} ends a stretch: set dataset.max_gap to more"
            outcome = replace(outcome, excluded=f"{outcome.excluded}; {advice}")
    return SitePart(outcome, tuple(before), tuple(after))


def split_runs(runs: Sequence[Run], validation: float, steps: int) -> tuple[list[Run], list[Run]]:
    """Split in time: rows after the instant that leaves the last `validation` share of all rows are for validation.

    No row is in both. When the last part holds no frame of `steps`, all runs are for training and validation is empty.
    """
    if not runs:
        return [], []
    times = np.sort(np.concatenate([run.times_ns for run in runs]))
    cut = int(times[min(len(times) - 1, int(np.ceil(len(times) * (1 - validation))))])
    before, after = [], []
    for run in runs:
        rows = run.steps_before(cut)
        if rows:
            before.append(Run(run.site, run.asset, run.start_ns, run.step_ns, run.values[:rows]))
        if rows < len(run.values):
            start = run.start_ns + rows * run.step_ns
            after.append(Run(run.site, run.asset, start, run.step_ns, run.values[rows:]))
    if count_frames([len(run.values) for run in after], steps=steps) == 0:
        return list(runs), []
    return before, after


def _shorter(runs: Sequence[Run], steps: int) -> int:
    """Rows in runs of fewer than `steps`."""
    return sum(len(run.values) for run in runs if len(run.values) < steps)


def _utc(instant_ns: int) -> str:
    return f"{datetime.fromtimestamp(instant_ns / 1e9, timezone.utc):%Y-%m-%d %H:%M} UTC"


def _outcome(
    found: SiteRuns,
    before: Sequence[Run],
    after: Sequence[Run],
    sensors: tuple[str, ...],
    settings: DatasetSettings,
) -> SiteOutcome:
    reason = None
    if found.readings == 0:
        reason = "no data" if settings.until_ns is None else f"no data before {_utc(settings.until_ns)}"
    elif not found.runs and found.left_out == found.readings:
        reason = "nothing left to learn from"
    elif count_frames([len(run.values) for run in before], steps=settings.steps) == 0:
        longest = max((len(run.values) for run in before), default=0)
        reason = (
            f"too short: its longest gap-free stretch has {longest} steps, a frame needs {settings.steps}"
        )
    constant: list[str] = []
    silent: list[str] = []
    faint: list[str] = []
    odd: list[str] = []
    counting: list[str] = []
    if reason is None:
        training = np.concatenate([run.values for run in before])
        known = ~np.isnan(training)
        top = np.where(known, training, -np.inf).max(axis=0)
        bottom = np.where(known, training, np.inf).min(axis=0)
        silent = [name for name, heard in zip(sensors, known.any(axis=0), strict=True) if not heard]
        absurd = implausible(training)
        rests = ~SensorMoments.of(np.where(absurd, np.nan, training)).moves
        constant, faint, odd, counting = (
            [name for name, chosen in zip(sensors, which, strict=True) if chosen]
            for which in (
                top == bottom,
                rests & (top > bottom),
                absurd.any(axis=0),
                counts([run.values for run in before]),
            )
        )
    return SiteOutcome(
        found.site,
        found.readings,
        len(found.runs),
        sum(len(run.values) for run in before),
        sum(len(run.values) for run in after),
        reason,
        constant=tuple(constant),
        silent=tuple(silent),
        faint=tuple(faint),
        implausible=tuple(odd),
        end_ns=found.end_ns,
        left_out=found.left_out,
        fragments=_shorter(found.runs, settings.steps) if found.left_out else 0,
        touched=found.touched,
        counting=tuple(counting),
    )
