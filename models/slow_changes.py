"""Slow changes of a machine: whether and how fast they are followed, and which of its sensors wander."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.averages import rate_of
from models.known import known_mean
from models.options import DetectorOptions
from models.sources.folds import FOLDS

if TYPE_CHECKING:
    import tensorflow as tf

MUTED = 0.5
"""Share of wandering from which a sensor that is not followed says nothing to the components."""
_USUAL_SCORE = 1 / 3
"""Memory for the usual score, as a share of the training's length."""


def follow_rate(rows: int, options: DetectorOptions) -> float:
    """Rate of the gain's average for a training of `rows` steps, 0 if it is too short to tell slow changes from faults."""
    return rate_of(max(options.follow * rows, options.least_memory)) if options.follows(rows) else 0.0


def margin_rate(rows: int, options: DetectorOptions) -> float:
    """Rate at which the threshold follows the usual score: a memory of a third of the training, and never less than `least_memory` steps.

    0 if it shall stay where the training put it.
    """
    return rate_of(max(_USUAL_SCORE * rows, options.least_memory)) if options.threshold_follows else 0.0


def wander(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each sensor's variance that lies between five contiguous blocks of float[N, F]: near 1 for a random walk."""
    means = np.stack([known_mean(block) for block in np.array_split(values, FOLDS)])
    total = np.nanvar(np.where(np.isfinite(values).any(axis=0), values, 0.0), axis=0)
    return np.asarray(np.clip(means.var(axis=0) / (total + 1e-9), 0.0, 1.0))


def steady_sensors(scaled: Sequence[NDArray[np.float32]], options: DetectorOptions) -> NDArray[np.bool_]:
    """Sensors bool[F] that do not wander in scaled runs float32[N_i, F], where training is too short to follow those that do; else all."""
    values = np.concatenate(scaled).astype(np.float64)
    if not options.weigh_sensors or follow_rate(len(values), options) > 0:
        return np.ones(values.shape[1], np.bool_)
    return np.asarray(wander(values) < MUTED)


def redescent(rows: int, options: DetectorOptions) -> float:
    """By how much less a size moves a gain for each unit that it lies further out than the most, after a training of `rows` steps.

    0 where no gain is followed or the training is shorter than two of its memories: it does not know how far out a good step may lie.
    """
    knows = options.follows(rows) and options.follow * rows >= options.least_memory
    return 1.0 if knows and options.redescending else 0.0


def growth(
    size: NDArray[np.float64], most: NDArray[np.float64], usual: NDArray[np.float64], descent: float
) -> NDArray[np.float64]:
    """What of sizes float64[N, F] moves a gain: the whole up to `most`, beyond it less by `descent` of what they exceed it by, but what is `usual` at least, both float64[F].

    What lies so far out is a fault and no growth of what is usual: a redescending influence (Hampel, JASA 1974).
    """
    return np.minimum(size, np.maximum(most - descent * (size - most), usual))


def growth_tensor(size: tf.Tensor, most: tf.Tensor, usual: tf.Tensor, descent: tf.Tensor) -> tf.Tensor:
    """As `growth`, of float32[B, N, F] with float32[B, 1, F], the last float32[B, 1, 1]."""
    import tensorflow as tf

    return tf.minimum(size, tf.maximum(most - descent * (size - most), usual))
