"""What sites with a history tell young ones beside the sums from which all are fitted."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.fleet_scaling import FleetScales
from models.options import DetectorOptions
from models.scaling import SensorScaling, moments
from models.sharing import Young
from models.training_rows import rows_by_machine
from pipeline.config.schema import Config
from pipeline.datasets.shards import Dataset
from pipeline.evaluation.early import Playing, followed_early


def young_scaling(
    config: Config, dataset: Dataset, runs: Mapping[str, Sequence[NDArray[np.floating]]]
) -> Young | None:
    """How sites with a history are scaled when they tell young ones what to take from others, from each site's raw training runs; None where noise protects
    what is shared, which that would not carry, and where there is one site.
    """
    if config.training.statistics_noise is not None or len(runs) < 2:
        return None

    if not config.dataset.share_scale:
        return lambda _, known: known.scaling()

    @functools.cache
    def scales() -> FleetScales:
        # Where no site is young nobody asks.
        return FleetScales.of(runs, len(dataset.sensors), floors_of(dataset, runs))

    return lambda site, known: scales().beside(site, known)


def floors_of(dataset: Dataset, sites: Iterable[str]) -> dict[str, NDArray[np.float64] | None]:
    """By site the floors of its logarithms, float64[F] (`models.logarithms`), None where none are taken."""
    return {site: SensorScaling.from_dict(dataset.own_scaling[site]).floor for site in sites}


def early_sites(
    config: Config,
    dataset: Dataset,
    runs: Mapping[str, Sequence[NDArray[np.floating]]],
    assets: Mapping[str, Sequence[str]],
    options: DetectorOptions,
    young: Young | None,
) -> frozenset[str]:
    """Sites whose slow changes are followed although their training is short, as sites with a history advise, from each site's raw training runs float[N_i, F] and
    the machine that each is of; none without `young`.
    """
    if young is None:
        return frozenset()
    floor = floors_of(dataset, runs)

    def scaling(site: str, learned: Sequence[NDArray[np.floating]]) -> SensorScaling:
        return young(site, moments(learned, len(dataset.sensors), floor[site]))

    playing = Playing(dataset.sensors, dataset.step_ns / 1e9, config.model.steps, options, scaling)
    return followed_early(playing, {site: _watched_longest(of, assets[site]) for site, of in runs.items()})


def _watched_longest(
    runs: Sequence[NDArray[np.floating]], assets: Sequence[str]
) -> list[NDArray[np.floating]]:
    """The runs of the machine that has most rows."""
    rows = rows_by_machine(runs, assets)
    longest = max(rows, key=lambda asset: rows[asset], default=None)
    return [run for run, asset in zip(runs, assets, strict=True) if asset == longest]
