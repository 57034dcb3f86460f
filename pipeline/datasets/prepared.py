"""A data set together with the runs behind it, for whatever has to look at raw values: calibration and judging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.leaveout import LeftOut, concerns
from pipeline.datasets.resample import resample_site
from pipeline.datasets.run import Run
from pipeline.datasets.shards import Dataset, build_dataset
from pipeline.datasets.snapshot import Snapshot
from pipeline.datasets.sources import Readings
from pipeline.datasets.survey import split_runs


@dataclass(frozen=True)
class TrainingRows:
    """By site that can train, its raw runs `float64[N, F]` that learning may see, and the asset that each is of."""

    values: Mapping[str, list[NDArray[np.float64]]]
    assets: Mapping[str, list[str]]

    def __getitem__(self, site: str) -> list[NDArray[np.float64]]:
        """The runs of a site."""
        return self.values[site]


class Prepared:
    """What a training works on: `dataset`, and each site's runs, read and resampled once however often they are asked for, and once more without the stretches
    that are left out of learning.
    """

    def __init__(
        self,
        dataset: Dataset,
        readings: Readings,
        until_ns: int | None,
        validation: float = 0.2,
        leave_out: Sequence[LeftOut] = (),
    ) -> None:
        """`until_ns` (ns since 1970 UTC): learning ends before it; None is the end of the data set. `validation`, `leave_out`: the data set's."""
        self.dataset = dataset
        self.until_ns = until_ns
        self._validation = validation
        self._readings = readings
        self.leave_out = tuple(leave_out)
        self._runs: dict[str, tuple[Run, ...]] = {}
        self._known_good: dict[str, tuple[Run, ...]] = {}

    @property
    def skipped(self) -> dict[str, str]:
        """By site that takes no part, why."""
        outcomes = self.dataset.outcomes.items()
        return {site: found.excluded for site, found in outcomes if found.excluded is not None}

    def runs(self, site: str) -> tuple[Run, ...]:
        """All runs of a site up to its latest reading, on the data set's grid and sensors."""
        if site not in self._runs:
            self._runs[site] = self._resampled(site, ())
        return self._runs[site]

    def _without_left_out(self, site: str) -> tuple[Run, ...]:
        """As `runs`, without the stretches that learning does not see; the very same where none is of this site."""
        stretches = [each for each in self.leave_out if concerns(each, site)]
        if not stretches:
            return self.runs(site)
        if site not in self._known_good:
            self._known_good[site] = self._resampled(site, stretches)
        return self._known_good[site]

    def _resampled(self, site: str, leave_out: Sequence[LeftOut]) -> tuple[Run, ...]:
        return resample_site(
            site,
            self._readings.tables(site),
            step_ns=self.dataset.step_ns,
            max_gap_ns=self.dataset.max_gap_ns,
            hold_ns=self.dataset.hold_ns,
            sensors=self.dataset.sensors,
            leave_out=leave_out,
        ).runs

    def out_of_range(self, site: str) -> Mapping[str, int]:
        """By sensor how many values of a site were left out, being outside their valid range."""
        return self._readings.out_of_range(site)

    def learned_until(self, site: str) -> int:
        """The first instant that learning did not see, ns since 1970 UTC; readings may have come in since."""
        return self.until_ns if self.until_ns is not None else self.dataset.outcomes[site].end_ns + 1

    def seen(self, site: str) -> list[Run]:
        """The part of the runs that learning may see: steps whose readings all came before `learned_until`, outside the stretches left out."""
        until = self.learned_until(site)
        parts = ((run, run.before(until)) for run in self._without_left_out(site))
        return [
            Run(run.site, run.asset, run.start_ns, run.step_ns, values)
            for run, values in parts
            if len(values)
        ]

    def parts(self, site: str, later: float | None = None) -> tuple[list[Run], list[Run]]:
        """The runs that learning may see, parted in time: all but the last `later` of their rows, and these; by default as the shards are,
        to learn from and to validate on. Nothing is later where that holds no frame.
        """
        return split_runs(self.seen(site), self._validation if later is None else later, self.dataset.steps)

    def training_rows(self) -> TrainingRows:
        """What `seen` gives of each site that can train."""
        seen = {site: self.seen(site) for site in self.dataset.shards}
        return TrainingRows(
            {site: [run.values for run in runs] for site, runs in seen.items()},
            {site: [run.asset for run in runs] for site, runs in seen.items()},
        )


def prepare(root: Path, snapshot: Snapshot, readings: Readings) -> Prepared:
    """Build the data set of a snapshot below `root`, or take the complete one that is there. Raises as `build_dataset`."""
    dataset = build_dataset(root, snapshot, readings.tables)
    settings = snapshot.settings
    return Prepared(dataset, readings, settings.until_ns, settings.validation, settings.leave_out)
