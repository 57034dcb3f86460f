"""`fedplant backtest --dry-run`: what the exports hold and what would be learned from them. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from ingestion.sitefile import SiteFile
from pipeline.artefacts import FEDERATED
from pipeline.config.chosen import recipe_remarks
from pipeline.config.recipes import RecipeConfig
from pipeline.datasets.coderemarks import code_remarks
from pipeline.datasets.codes import Code, codes_of
from pipeline.datasets.parts import left_out_counters, parts_of_sites
from pipeline.datasets.survey import SiteOutcome
from pipeline.errors import NothingToDo
from pipeline.jobs.beforehand import alone, counting, finer, unknown_sensors
from pipeline.jobs.exports import Exports
from pipeline.jobs.job import none_can_train
from pipeline.jobs.labelled import incidents
from pipeline.jobs.leftout import left_out_remarks
from pipeline.jobs.lookedat import looked_at_remarks
from pipeline.jobs.settings import looked_at
from pipeline.learning.cost import cost_of_ridges
from pipeline.learning.enough import refuse_too_few
from pipeline.remarks import together


@dataclass(frozen=True)
class SitePreview:
    """One site: its file, and what would become of it.

    Attributes:
      rows: readings in the file.
      assets: machines.
      first: time of the first reading, UTC; None without any.
      last: time of the last one; None without any.
      train_steps: steps of the common grid that would be learned from.
      validation_steps: steps held back to stop the training.
      judged_rows: readings from `train_until` on.
      incidents: labelled stretches among those, None without labels.
      learned_incidents: labelled stretches before `train_until` that learning takes for ordinary; None without labels.
      left_out_incidents: those that it leaves out for their labels; None without labels.
      excluded: why the site could not train, else None.
      constant: sensors that never change while learning.
      silent: sensors of other sites that this one does not have.
      faint: sensors that move too little beside their size to be seen.
      implausible: sensors with values out of all proportion to the others while learning.
      counting: sensors that only rise or only fall while learning, also those that would be left out.
      left_out: readings before `train_until` that would not be learned from.
      codes: what looks like a code for no reading in the whole file; the same in words is in the preview's `remarks`.
    """

    rows: int
    assets: int
    first: str | None
    last: str | None
    train_steps: int
    validation_steps: int
    judged_rows: int
    incidents: int | None
    learned_incidents: int | None
    left_out_incidents: int | None
    excluded: str | None
    constant: tuple[str, ...]
    silent: tuple[str, ...]
    faint: tuple[str, ...]
    implausible: tuple[str, ...]
    counting: tuple[str, ...]
    left_out: int
    codes: tuple[Code, ...]


@dataclass(frozen=True)
class Preview:
    """All sites, the sensors and the grid spacing in seconds that they would share, counters that would be left out of these, what would be trained (`recipes` by name, if some are
    compared), and lines on odd readings and recipes."""

    train_until: str
    step_seconds: float
    sensors: tuple[str, ...]
    sites: dict[str, SitePreview]
    modes: tuple[str, ...]
    rounds: int
    remarks: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    left_out_counters: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)


def preview(exports: Exports, recipes: Mapping[str, RecipeConfig] | None = None) -> Preview:
    """Survey the exports, for the settings as they are; `recipes` are those that shall be compared.

    Raises:
      NothingToDo: no site could train.
      ConfigError: none of the wanted sensors exists, step and gap contradict, or too few sites can train for what they shall do together.
    """
    until = exports.config.dataset.train_until
    assert until is not None
    snapshot, readings = exports.snapshot(), exports.readings
    grid, parts = parts_of_sites(snapshot, readings.tables)
    outcomes = {site: part.outcome for site, part in parts.items()}
    sites = {site: _site(exports, file, outcomes[site], grid.sensors) for site, file in exports.files.items()}
    excluded = {site: found.excluded for site, found in sites.items() if found.excluded is not None}
    if len(excluded) == len(sites):
        raise NothingToDo(none_can_train(exports.config, excluded))
    if not recipes and FEDERATED in exports.modes:
        refuse_too_few(exports.config, len(sites) - len(excluded))
    asked = snapshot.settings
    left_out = left_out_remarks(asked.leave_out, outcomes, asked.until_ns)
    able = {site: outcome for site, outcome in outcomes.items() if outcome.excluded is None}
    seen = {site: (*parts[site].training, *parts[site].validation) for site in able}
    looked = looked_at_remarks(looked_at(exports.config), asked.leave_out, seen, asked.until_ns)
    codes = code_remarks({site: found.codes for site, found in sites.items()}, exports.config)
    odd = together(
        [
            *left_out,
            *looked,
            *codes,
            *alone(grid.sensors, able),
            *counting(grid.sensors, able),
            *unknown_sensors(grid.unknown),
            *finer(grid.step_ns, grid.finer_ns, able),
        ]
    )
    costs = cost_of_ridges(exports.config, grid.sensors, able.values())
    return Preview(
        _iso(until),
        grid.step_ns / 1e9,
        grid.sensors,
        sites,
        tuple(dict.fromkeys(recipe.mode for recipe in recipes.values())) if recipes else exports.modes,
        exports.config.training.rounds,
        (*odd, *recipe_remarks(exports.config, recipes or {}), *([costs] if costs else [])),
        tuple(recipes or ()),
        left_out_counters(grid.sensors, outcomes.values()),
    )


def _site(exports: Exports, file: SiteFile, outcome: SiteOutcome, sensors: Sequence[str]) -> SitePreview:
    times, until = file.frame["timestamp"], exports.config.dataset.train_until
    later = (times >= until).to_numpy()
    wanted = [name for name in file.sensors if name in sensors]
    codes = codes_of(wanted, [file.frame[wanted].to_numpy(np.float64)])
    early = exports.early_incidents(file)
    none = None if early is None else 0
    return SitePreview(
        len(times),
        file.frame["asset"].nunique(),
        None if times.empty else _iso(times.iloc[0]),
        None if times.empty else _iso(times.iloc[-1]),
        outcome.train_rows if outcome.excluded is None else 0,
        outcome.validation_rows if outcome.excluded is None else 0,
        int(np.count_nonzero(later)),
        incidents(file, later),
        *((none, early) if exports.leave_out_labelled else (early, none)),
        outcome.excluded,
        outcome.constant,
        outcome.silent,
        outcome.faint,
        outcome.implausible,
        outcome.counting,
        outcome.left_out,
        codes,
    )


def _iso(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
