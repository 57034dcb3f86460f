"""Baselines per site with the detector's own smoothing, calibration and threshold rule: `zscore` and `pca`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.detector import CalibrationOptions, Detector, fit_sources
from models.errors import InvalidModel
from models.scaling import SensorScaling
from models.sources.base import SourceFit
from models.sources.pca import PcaFit
from models.sources.zscore import ZScoreSource

BASELINES = ("zscore", "pca")


def fit_baseline(
    name: str,
    sensors: Sequence[str],
    step_seconds: float,
    steps: int,
    site_scaling: Mapping[str, SensorScaling],
    training_runs: Mapping[str, Sequence[NDArray[np.floating]]],
    options: CalibrationOptions | None = None,
) -> Detector:
    """Fit baseline `name` on raw training runs float64[N, F] per site.

    Raises:
      InvalidModel: no such baseline. NotEnoughData: no site has a run of `steps` steps.
    """
    if name not in BASELINES:
        raise InvalidModel(f"baseline {name!r} is unknown; choose one of {', '.join(BASELINES)}")

    fits: list[SourceFit] = [PcaFit(len(sensors), 0.5)] if name == "pca" else []
    fixed = [] if name == "pca" else [ZScoreSource()]
    chosen = options or CalibrationOptions()
    return fit_sources(fixed, fits, sensors, step_seconds, steps, site_scaling, training_runs, chosen)
