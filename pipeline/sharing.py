"""What sites with a history tell young ones beside the sums from which all are fitted."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.fleet_scaling import FleetScales
from models.scaling import SensorScaling
from models.sharing import Young
from pipeline.config.schema import Config
from pipeline.datasets.shards import Dataset


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
        floor = {site: SensorScaling.from_dict(dataset.own_scaling[site]).floor for site in runs}
        return FleetScales.of(runs, len(dataset.sensors), floor)

    return lambda site, known: scales().beside(site, known)
