"""A folder of historian exports and how it shall be learned from: what a backtest and its dry run begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ingestion.errors import InputDataError
from ingestion.layout import Layout
from ingestion.sitefile import SiteFile
from pipeline.artefacts import MODES
from pipeline.config import Config, SiteConfig, named_sites
from pipeline.config.leaveout import refuse_unknown_sites
from pipeline.config.names import NAME, NAME_RULE
from pipeline.datasets.snapshot import DatasetSettings, Snapshot, take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.errors import ConfigError, NothingToDo
from pipeline.jobs.labelled import incidents, labelled_stretches, seen_by_learning
from pipeline.jobs.mapped import mapped_files
from pipeline.jobs.settings import dataset_settings
from pipeline.sitefiles import read_told
from pipeline.watch import Watch


@dataclass(frozen=True)
class Exports:
    """Site files in memory, the settings for them, and the ways of training that are asked for. With `leave_out_labelled` learning does not see what
    is labelled as an incident before `dataset.train_until`.
    """

    files: Mapping[str, SiteFile]
    config: Config
    modes: tuple[str, ...]
    leave_out_labelled: bool = False

    @property
    def readings(self) -> FileReadings:
        """The files as a data set reads them."""
        return FileReadings(self.files)

    @property
    def labels(self) -> dict[str, pd.DataFrame]:
        """By site its labels, if it has any."""
        return label_frames(self.files)

    @property
    def learned_incidents(self) -> dict[str, str]:
        """By site a remark on labelled incidents before `dataset.train_until`: that learning takes them for ordinary, or that it leaves them out."""
        remarks = {}
        for site, file in self.files.items():
            count = self.early_incidents(file)
            if not count:
                continue
            what = f"{count} labelled incident{'s' if count > 1 else ''} before --train-until"
            if self.leave_out_labelled:
                remarks[site] = (
                    f"{what} left out of learning, in which labels thus had a say (--leave-out-labelled)"
                )
            else:
                remarks[site] = (
                    f"{what} {'count' if count > 1 else 'counts'} as ordinary in learning, and the threshold stands the higher for it; "
                    f"leave {'them' if count > 1 else 'it'} out with --leave-out-labelled"
                )
        return remarks

    def early_incidents(self, file: SiteFile) -> int | None:
        """Labelled stretches of a file before `dataset.train_until` that `dataset.leave_out` does not cover; None without labels."""
        settings = dataset_settings(self.config)
        assert settings.until_ns is not None
        return incidents(file, seen_by_learning(file, settings.leave_out, settings.until_ns))

    def settings(self, config: Config | None = None) -> DatasetSettings:
        """How the files become frames, by the settings of a recipe if it is not the exports' own."""
        found = dataset_settings(config or self.config)
        assert found.until_ns is not None
        labelled = labelled_stretches(self.files, found.until_ns) if self.leave_out_labelled else ()
        return replace(found, leave_out=(*found.leave_out, *labelled))

    def snapshot(self, config: Config | None = None) -> Snapshot:
        """The name of what would be learned from."""
        return take_snapshot(self.readings.sources(), self.settings(config))


def read_exports(
    data: Path,
    train_until: datetime,
    layout: Layout,
    base: Config,
    modes: Sequence[str] | None,
    watch: Watch,
    *,
    leave_out_labelled: bool = False,
) -> Exports:
    """Read a folder, to learn from it by the settings of `base`, whatever sites that names; what was tolerated in a file is said.

    Raises:
      InputDataError: the folder holds no usable site file.
      ConfigError: a mode is unknown, or a site of which something shall be left out.
      NothingToDo: `train_until` leaves nothing to learn from, or nothing to judge.
    """
    wanted = _checked(modes)
    with watch.step("reading files"):
        files = read_told(data, layout, watch.say)
    _within(files, train_until)
    config = _configuration(base, list(files), train_until)
    found = Exports(mapped_files(files, config, watch.say), config, wanted, leave_out_labelled)
    if leave_out_labelled and not any(each.labelled for each in found.settings().leave_out):
        watch.say("no incident is labelled before --train-until, so --leave-out-labelled leaves nothing out")
    return found


def label_frames(files: Mapping[str, SiteFile]) -> dict[str, Any]:
    """By site the columns `timestamp`, `asset`, `label` of the files that have labels."""
    frames = {}
    for site, file in files.items():
        if file.labels is not None:
            frames[site] = file.frame[["timestamp", "asset"]].assign(label=file.labels.to_numpy("float64"))
    return frames


def _within(files: Mapping[str, SiteFile], train_until: datetime) -> None:
    times = [file.frame["timestamp"] for file in files.values() if not file.frame.empty]
    first, last = min(each.iloc[0] for each in times), max(each.iloc[-1] for each in times)
    if not first < train_until <= last:
        what = "to learn from before" if train_until <= first else "to judge from"
        raise NothingToDo(
            f"nothing {what} {train_until:%Y-%m-%d %H:%M:%S} UTC: the readings run from "
            f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S}; choose a time between (--train-until)"
        )


def _checked(modes: Sequence[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(modes or ()) - set(MODES))
    if unknown:
        raise ConfigError(f"--mode {unknown[0]}: choose from {', '.join(MODES)}")
    return tuple(mode for mode in MODES if not modes or mode in modes)


def _configuration(base: Config, sites: list[str], train_until: datetime) -> Config:
    """The settings for these sites and this instant."""
    for site in sites:
        if not NAME.match(site):
            raise InputDataError(f"site {site!r} cannot be used: expected {NAME_RULE}; rename its file")
    known = {site.name: site for site in base.sites}
    refuse_unknown_sites(base.dataset, (*named_sites(base), *sites))
    named = [known.get(site) or SiteConfig(name=site) for site in sites]
    dataset = base.dataset.model_copy(update={"train_until": train_until})
    return base.model_copy(update={"sites": named, "dataset": dataset})
