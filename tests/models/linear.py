"""Detectors of the linear sources alone, which need no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.architectures import TcnSpec
from models.detector import Detector
from models.fitting import fit_detector
from models.options import DetectorOptions
from models.scaling import moments

LINEAR = ("ridge", "stiff_ridge", "pca", "excursion")


def fit_linear(
    sensors: Sequence[str],
    step_seconds: float,
    steps: int,
    runs: Mapping[str, Sequence[np.ndarray]],
    **options: Any,
) -> Detector:
    """A detector fitted on raw runs float[N, F] by site, each site in its own scale; `options` are those of `DetectorOptions`."""
    scaling = {site: moments(of, len(sensors)).scaling() for site, of in runs.items()}
    chosen = DetectorOptions(sources=LINEAR, **options)
    return fit_detector(TcnSpec(), None, sensors, step_seconds, steps, scaling, runs, chosen)
