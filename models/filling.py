"""What the others tell of a sensor that says nothing: its expected reading takes the place of its mean in what predicts the others.

A missing reading used to count as an average one. A ridge or components that rest on a sensor then err at all that follow it for as long as it is silent, so that one dead
sensor made its machine unusual for good. Scaled readings are taken for normal ones with the second moments of the training, correlations of the rows in which both are known and `RIDGE` besides; what is missing is
its mean given what is known at that instant, by steps down the gradient of the likelihood (Richardson), which end at `-inv(Q_mm) Q_mk z_k` with Q the inverse of these moments.
A sensor that nothing else tells of stays at its mean, and so do all where fewer than half are known. What is missing itself still weighs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf

RIDGE = 0.1
STEPS = 24
_TINY = 1e-12
_LEAST_SHARE = 0.1
"""Of the training, which two sensors must be known together for what they say of each other to count in full: a few rows may be one incident."""
ENOUGH = 0.5
"""Share of the sensors that move of which a step must know: a machine that is silent but for one sensor is not what that one makes of it."""


def descent(runs: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """What a step down the gradient multiplies a row of scaled readings by, float64[F, F], from scaled runs float[N_i, F]; 0 of sensors that never moved."""
    values = np.concatenate(runs).astype(np.float64)
    known = np.isfinite(values).astype(np.float64)
    filled = np.nan_to_num(values, nan=0.0)
    both = known.T @ known
    together, alone = filled.T @ filled, (filled**2).T @ known
    size = np.sqrt(np.diag(together) / np.maximum(np.diag(both), 1.0))
    correlation = together / np.maximum(np.sqrt(alone * alone.T), _TINY)
    moments = correlation * np.minimum(both / (_LEAST_SHARE * len(values)), 1.0) * np.outer(size, size)
    # Correlations of different rows need not be those of anything: what is negative is none.
    eigenvalues, vectors = np.linalg.eigh(moments)
    moves = size > 0
    precision = (vectors / (np.maximum(eigenvalues, 0.0) + RIDGE)) @ vectors.T
    scale = np.sqrt(np.diag(precision))
    fastest = float(np.linalg.eigvalsh(precision / np.outer(scale, scale))[-1])
    # Of any part of the sensors the largest eigenvalue is no larger, so that no step goes too far.
    return np.asarray(np.where(np.outer(moves, moves), precision / scale**2 / fastest, 0.0))


def fill(values: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scaled readings float32[N, F] with what is expected for NaN at steps of which enough is known; `by` as `descent` gives it."""
    missing = np.isnan(values)
    tells = np.diag(by) > 0
    enough = (~missing & tells).sum(axis=1) >= ENOUGH * tells.sum()
    rows = np.flatnonzero(missing.any(axis=1) & enough)
    if not len(rows):
        return values
    gone = missing[rows]
    part = np.where(gone, 0.0, values[rows].astype(np.float64))
    for _ in range(STEPS):
        part = np.where(gone, part - part @ by, part)
    found = values.copy()
    found[rows] = part
    return found


def fill_tensor(values: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """As `fill`, of float32[B, N, F] by float32[B, F, F], with 0 where too little is known."""
    import tensorflow as tf

    missing = tf.math.is_nan(values)
    first = tf.where(missing, 0.0, values)
    tells = tf.cast(tf.linalg.diag_part(by) > 0, tf.float32)[:, None]
    known = tf.reduce_sum(tf.where(missing, 0.0, tells), axis=2, keepdims=True)
    enough = known >= ENOUGH * tf.reduce_sum(tells, axis=2, keepdims=True)
    gone = tf.logical_and(missing, enough)

    def descend() -> tf.Tensor:
        found = first
        for _ in range(STEPS):
            found = tf.where(gone, found - tf.matmul(found, by), found)
        return found

    return tf.cond(tf.reduce_any(gone), descend, lambda: first)
