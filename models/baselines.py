"""Baselines per site with the detector's own smoothing, calibration and threshold rule: `zscore` and `pca`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from models.errors import InvalidModel
from models.fitting import Fitted, ToFit, fit_sources
from models.options import DetectorOptions
from models.scaling import SensorScaling
from models.sources.pca import PcaFit
from models.sources.zscore import ZScoreSource

BASELINES = ("zscore", "pca")
_NEVER = 2**62


def fit_baseline(
    name: str,
    sensors: Sequence[str],
    step_seconds: float,
    steps: int,
    site_scaling: Mapping[str, SensorScaling],
    training_runs: Mapping[str, Sequence[NDArray[np.floating]]],
    options: DetectorOptions | None = None,
) -> Detector:
    """Fit baseline `name` on raw training runs float64[N, F] per site; none follows slow changes, weighs sensors, knows operating regimes or discounts what is ordinary.

    Raises:
      InvalidModel: no such baseline. NotEnoughData: no site has a run of `steps` steps.
    """
    if name not in BASELINES:
        raise InvalidModel(f"baseline {name!r} is unknown; choose one of {', '.join(BASELINES)}")
    fits = [ToFit(PcaFit(len(sensors), 0.5), (1.0,))] if name == "pca" else []
    fixed = [] if name == "pca" else [Fitted(ZScoreSource())]
    plain = plain_options(options or DetectorOptions())
    return fit_sources(fixed, fits, sensors, step_seconds, steps, site_scaling, training_runs, plain)


def plain_options(options: DetectorOptions) -> DetectorOptions:
    """The same thresholds and averages, without the memory for slow changes, the weights of sensors, operating regimes and what is ordinary."""
    return dataclasses.replace(
        options,
        follow_from=_NEVER,
        follow_from_seconds=None,
        weigh_sensors=False,
        regimes=False,
        ordinary=False,
        fill=False,
    )
