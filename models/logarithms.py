"""Sensors that are scaled by their natural logarithm instead of their reading: what varies by factors, as vibration and particle counts do.

Which ones, and what their readings without a logarithm count as, is one array, the floor: float64[F], NaN for a sensor whose readings are
taken as they are. For a named sensor it is the smallest positive reading of training, as which every reading that is not positive counts
(a count of zero is less than one, not unknown); 0 where training had none, and then readings that are not positive are unknown.
Positive readings below the floor keep their own logarithm: lower than ever is lower than ever. Two implementations of the same
arithmetic in float64: `logged` for data sets and calibration, `logged_tensor` for the graph that scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""Detectors take float32, where TensorFlow may round what is smaller to 0: it counts as 0 everywhere; what is larger is unknown."""


def named_sensors(sensors: Sequence[str], patterns: Iterable[str]) -> NDArray[np.bool_]:
    """Which of F sensors, bool[F], a shell-style pattern names; capitals matter."""
    wanted = tuple(patterns)
    return np.array([any(fnmatchcase(name, pattern) for pattern in wanted) for name in sensors], np.bool_)


def floor_of(runs: Iterable[NDArray[np.floating]], named: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The floor of raw runs float[N, F] for sensors `named` bool[F], see above: float64[F]."""
    lowest = np.full(len(named), np.inf)
    for run in runs:
        raw = np.asarray(run, np.float64)
        positive = (raw >= _SMALLEST) & (raw <= _LARGEST)
        lowest = np.minimum(lowest, np.where(positive, raw, np.inf).min(axis=0, initial=np.inf))
    return np.where(named, np.where(np.isfinite(lowest), lowest, 0.0), np.nan)


def logged(values: NDArray[np.floating], floor: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Raw float[..., F] with the logarithm of sensors that have a floor float64[F]; None: as they are.

    Of such sensors NaN, infinities, what float32 cannot hold, and what is not positive without a positive floor, become NaN.
    """
    raw = np.asarray(values, np.float64)
    if floor is None:
        return raw
    lifted = np.where(raw < _SMALLEST, floor, raw)
    usable = (np.abs(raw) <= _LARGEST) & (lifted > 0)
    logarithm = np.log(np.where(usable, lifted, 1.0))
    return np.where(np.isnan(floor), raw, np.where(usable, logarithm, np.nan))


def logged_tensor(raw: tf.Tensor, floor: tf.Tensor) -> tf.Tensor:
    """As `logged`, in TensorFlow, of `raw` float64[B, N, F], float32's numbers or NaN, and `floor` float64[B, 1, F]."""
    import tensorflow as tf

    lifted = tf.where(raw < _SMALLEST, floor + tf.zeros_like(raw), raw)
    # NaN is not above 0, so that what is unknown stays so.
    usable = lifted > 0
    logarithm = tf.math.log(tf.where(usable, lifted, tf.ones_like(lifted)))
    return tf.where(tf.math.is_nan(floor), raw, tf.where(usable, logarithm, tf.constant(np.nan, tf.float64)))
