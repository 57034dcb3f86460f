"""A folder of historian exports and how it shall be learned from: what a backtest and its dry run begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ingestion.errors import InputDataError
from ingestion.layout import Layout
from ingestion.sitefile import SiteFile, read_site_dir
from pipeline.artefacts import MODES
from pipeline.config import Config, SiteConfig
from pipeline.config.leaveout import refuse_unknown_sites
from pipeline.config.schema import NAME, NAME_RULE
from pipeline.datasets.snapshot import Snapshot, take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.errors import ConfigError, NothingToDo
from pipeline.evaluation.alarms import stretches
from pipeline.jobs.mapped import mapped_files
from pipeline.jobs.settings import dataset_settings
from pipeline.remarks import together
from pipeline.watch import Watch


@dataclass(frozen=True)
class Exports:
    """Site files in memory, the settings for them, and the ways of training that are asked for."""

    files: Mapping[str, SiteFile]
    config: Config
    modes: tuple[str, ...]

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
        """By site a remark on labelled incidents that learning sees and, as it uses no label, takes for ordinary."""
        until, remarks = self.config.dataset.train_until, {}
        for site, file in self.files.items():
            count = incidents(file, (file.frame["timestamp"] < until).to_numpy())
            if count:
                remarks[site] = (
                    f"{count} labelled incident{'s' if count > 1 else ''} before --train-until count as ordinary in learning, and the "
                    "threshold stands the higher for it; export without those rows, or learn from another time"
                )
        return remarks

    def snapshot(self) -> Snapshot:
        """The name of what would be learned from."""
        return take_snapshot(self.readings.sources(), dataset_settings(self.config))


def read_exports(
    data: Path,
    train_until: datetime,
    layout: Layout,
    base: Config,
    modes: Sequence[str] | None,
    watch: Watch,
) -> Exports:
    """Read a folder, to learn from it by the settings of `base`, whatever sites that names; what was tolerated in a file is said.

    Raises:
      InputDataError: the folder holds no usable site file.
      ConfigError: a mode is unknown.
      NothingToDo: `train_until` leaves nothing to learn from, or nothing to judge.
    """
    wanted = _checked(modes)
    with watch.step("reading files"):
        files = read_site_dir(data, layout)
    for line in together((file.site, note) for file in files.values() for note in file.notes):
        watch.say(line)
    _within(files, train_until)
    config = _configuration(base, list(files), train_until)
    return Exports(mapped_files(files, config, watch.say), config, wanted)


def incidents(file: SiteFile, rows: NDArray[np.bool_]) -> int | None:
    """Labelled stretches among the chosen rows of a file, bool[N], counted machine by machine; None without labels."""
    if file.labels is None:
        return None
    marked = (file.labels == 1).to_numpy(bool, na_value=False) & rows
    assets = file.frame["asset"].to_numpy()
    return sum(len(stretches(marked[assets == asset])) for asset in pd.unique(assets))


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
    refuse_unknown_sites(base.dataset.leave_out, (*known, *sites))
    named = [known.get(site) or SiteConfig(name=site) for site in sites]
    dataset = base.dataset.model_copy(update={"train_until": train_until})
    return base.model_copy(update={"sites": named, "dataset": dataset})
