"""What a detector is fitted on: a row a site, in its own scale, and behind them the fleet's, which is all sites in one scale."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidModel, NotEnoughData
from models.logarithms import floor_of
from models.options import DetectorOptions
from models.scaling import SensorScaling, as_float32, moments
from models.slow_changes import steady_sensors
from models.sources.base import Traits
from models.switching import as_elders_do, switches

_FLEET_ROWS = 60_000
"""Rows the fleet's calibration looks at, the last ones of every run: it serves sites that nothing is known of."""

Runs = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a detector: those of `sites`, by name, and the fleet's last, if it has one.

    By row: its `scalings`; its runs float32[N_i, F] as they came, `raw`, and `scaled`; its `options`, with a memory for slow changes that fits what it has seen; the `traits` of its machine.
    `alone` are the rows of sites with enough scored steps for a calibration of their own, `mixed` those of them whose runs are of several machines. `floor` float64[R, F] where logarithms are taken.
    """

    sites: tuple[str, ...]
    scalings: tuple[SensorScaling, ...]
    raw: tuple[Runs, ...]
    scaled: tuple[Runs, ...]
    options: tuple[DetectorOptions, ...]
    traits: tuple[Traits, ...]
    alone: tuple[int, ...]
    mixed: tuple[int, ...]
    floor: NDArray[np.float64] | None

    @property
    def of_sites(self) -> range:
        """The rows of sites."""
        return range(len(self.sites))

    @property
    def fleet(self) -> range:
        """The row of the fleet, or nothing."""
        return range(len(self.sites), len(self.scaled))


def training_rows(
    sensors: int,
    steps: int,
    context: int,
    site_scaling: Mapping[str, SensorScaling],
    training_runs: Mapping[str, Sequence[NDArray[np.floating]]],
    options: DetectorOptions,
    assets: Mapping[str, Sequence[str]] | None,
    early: Collection[str],
    fleet: bool,
) -> TrainingRows:
    """The rows of the sites that have a run of `steps` steps and a scaling, and of the `fleet`.

    A step is scored if `context` others lie before it in its run. `assets` names the machine that each run of a site is of; without it a site is one machine. Slow changes of the sites in `early`
    are followed however short their training is.

    Raises:
      NotEnoughData: no site has a run of `steps` steps. InvalidModel: the scalings take the logarithms of different sensors.
    """
    kept = {
        site: [
            (as_float32(run), machine)
            for run, machine in zip(runs, assets[site] if assets else [site] * len(runs), strict=True)
            if len(run) >= steps
        ]
        for site, runs in sorted(training_runs.items())
    }
    usable = {site: [run for run, _ in of_site] for site, of_site in kept.items()}
    share = max(steps, _FLEET_ROWS // max(1, sum(len(runs) for runs in usable.values())))
    pooled = [run[-share:] for runs in usable.values() for run in runs]
    if not pooled:
        raise NotEnoughData(
            f"no site has a gap-free run of {steps} steps; lower the frame length or ingest more"
        )
    sites = tuple(site for site, runs in usable.items() if runs and site in site_scaling)
    if not (sites or fleet):
        raise NotEnoughData(
            "no named site has rows and a scaling; without a row of the fleet there is nothing to fit"
        )
    scalings = [site_scaling[site] for site in sites]
    floor = _fleet_floor(scalings, pooled)
    raw = [usable[site] for site in sites]
    if fleet:
        scalings.append(moments(pooled, sensors, floor).scaling())
        raw.append(pooled)
    scaled = [[scaling.apply(run) for run in runs] for scaling, runs in zip(scalings, raw, strict=True)]
    machines = [[machine for _, machine in kept[site]] for site in sites]
    of_row = [
        of_one_machine(usable[site], of, replace(options, early=True) if site in early else options)
        for site, of in zip(sites, machines, strict=True)
    ]
    of_row += [options.of_several()] * fleet
    scored = [sum(len(run) - context for run in runs) for runs in raw[: len(sites)]]
    alone = tuple(row for row, count in enumerate(scored) if count >= options.min_steps)
    # A site without a calibration of its own takes that of others, whose components nobody took a sensor out of.
    every = np.ones(sensors, np.bool_)
    traits = [
        Traits(steady_sensors(runs, of_row[row]), switches(runs))
        if row in alone or row == len(sites)
        else Traits(every)
        for row, runs in enumerate(scaled)
    ]
    as_elders_do(traits, [sum(map(len, runs)) for runs in scaled[: len(sites)]], options.follow_from)
    return TrainingRows(
        sites,
        tuple(scalings),
        tuple(raw),
        tuple(scaled),
        tuple(of_row),
        tuple(traits),
        alone,
        tuple(row for row in alone if len(set(machines[row])) > 1),
        None if floor is None else np.stack([s.floor for s in scalings if s.floor is not None]),
    )


def _fleet_floor(
    of_sites: Sequence[SensorScaling], pooled: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64] | None:
    """Floor float64[F] of the fleet's row: the sensors that every site's scaling names, the smallest readings of the pooled rows."""
    known = [each.floor for each in of_sites if each.floor is not None]
    if not known:
        return None
    named = ~np.isnan(known[0])
    if len(known) < len(of_sites) or any((~np.isnan(floor) != named).any() for floor in known):
        raise InvalidModel(
            "the sites' scalings take the logarithms of different sensors; name the same everywhere"
        )
    return floor_of(pooled, named)


def rows_by_machine(runs: Sequence[NDArray[np.floating]], assets: Sequence[str]) -> dict[str, int]:
    """How many rows there are of each machine, in the order in which the runs name them."""
    rows: dict[str, int] = {}
    for run, asset in zip(runs, assets, strict=True):
        rows[asset] = rows.get(asset, 0) + len(run)
    return rows


def of_one_machine(
    runs: Sequence[NDArray[np.float32]], assets: Sequence[str], options: DetectorOptions
) -> DetectorOptions:
    """The options with a memory for slow changes that fits the machine watched longest, of those that the runs are of.

    What differs between two machines is not a change: sixty machines of a hundred rows tell as little of slow ones as one of a hundred.
    """
    rows = rows_by_machine(runs, assets)
    longest, whole = max(rows.values()), sum(rows.values())
    if longest == whole:
        return options
    return replace(options, follow=options.follow * longest / whole if options.follows(longest) else 0.0)
