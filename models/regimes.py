"""Operating regimes: what a machine is doing tells how large residuals usually are, and to which side they lie.

A ridge or components are one linear rule for all a machine does. Under load they leave another residual than at idle: larger or smaller, and off to one side where the
machine is not linear. The training's readings fall into a handful of regimes by k-means (Lloyd, IEEE Trans. Inf. Theory 1982; seeded after Arthur and
Vassilvitskii, SODA 2007), and a residual is taken off what is usual in its regime and in units of that. A step is of all regimes, of near ones most, so that
nothing jumps where two meet. What a training has seen little of excuses little: each regime counts as if a fifth of the training beside it had been as usual, and
its residuals as half as large again as usual at most. Where a machine switches between states (`models.switching`), rare ones are what it does: there it is a twentieth.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.special import softmax

from models.known import known_mean
from models.sources.folds import fold_rows, segments

if TYPE_CHECKING:
    import tensorflow as tf

REGIMES = 8
_SEEN = 100
"""Rows of usual residuals that each regime has beside its own, at least."""
_SEEN_SHARE, _SEEN_SWITCHING = 0.2, 0.05
"""The same as a share of the training, and where its machine switches."""
_LARGEST = 1.5
_FIT_ROWS = 10_000
"""Rows that regimes are told by."""
_TRIES, _ROUNDS = 8, 30
_NOWHERE = 1e3
"""Where the centres lie of regimes that do not exist: scaled readings never come near."""


def centres_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres float64[REGIMES, F] of the regimes in scaled readings float64[N, F], where unknown ones are usual ones; of a training that repeats a few readings, one."""
    if len(values) > _FIT_ROWS:
        values = np.random.default_rng(0).choice(values, _FIT_ROWS, replace=False)
    known = np.nan_to_num(values, nan=0.0)
    if len(np.unique(known, axis=0)) <= REGIMES:
        centres = np.full((REGIMES, known.shape[1]), _NOWHERE)
        centres[0] = known.mean(axis=0)
        return centres
    apart = np.inf
    for seed in range(_TRIES):
        with warnings.catch_warnings():
            # A regime that loses its last row keeps its centre.
            warnings.simplefilter("ignore", UserWarning)
            found, nearest = kmeans2(known, REGIMES, iter=_ROUNDS, minit="++", seed=seed)
        squares = float(((known - found[nearest]) ** 2).sum())
        if squares < apart:
            apart, centres = squares, found
    return centres


def membership(values: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much each step of scaled readings float64[N, F] is of each regime: float64[N, REGIMES], 1 in all.

    As in a mixture of normal distributions of variance one half around the centres. Unknown readings are usual ones.
    """
    closeness = 2.0 * np.nan_to_num(values, nan=0.0) @ centres.T - (centres**2).sum(axis=1)
    return np.asarray(softmax(closeness, axis=1))


def membership_tensor(scaled: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    """As `membership`, float32[B, N, REGIMES], of scaled steps float32[B, N, F] in which unknown readings are 0, by `centres` float32[B, REGIMES, F]."""
    import tensorflow as tf

    far = tf.reduce_sum(centres**2, axis=2)[:, None]
    return tf.nn.softmax(2.0 * tf.matmul(scaled, centres, transpose_b=True) - far)


def usual_in(
    residual: NDArray[np.float64], of: NDArray[np.float64], floor: float, switching: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By regime the usual offset of residuals float64[N, F] from their mean and the size of what is then left in units of all residuals', float64[REGIMES, F] each.

    `of` float64[N, REGIMES] is the steps' membership. NaN says nothing. Squares count up to 25 times their mean.
    """
    known = np.isfinite(residual)
    seen = of.T @ known
    beside = max(_SEEN, (_SEEN_SWITCHING if switching else _SEEN_SHARE) * len(residual))
    off = np.where(known, residual - known_mean(residual, known), 0.0)
    shift = of.T @ off / (seen + beside)
    square = np.where(known, (off - of @ shift) ** 2, 0.0)
    square = np.minimum(square, 25.0 * known_mean(square, known))
    whole = known_mean(square, known) + floor**2
    mean = (of.T @ square + seen * floor**2 + beside * whole) / (seen + beside)
    return shift, np.minimum(np.sqrt(mean / whole), _LARGEST)


def usual_in_others(
    residual: NDArray[np.float64], of: NDArray[np.float64], floor: float, switching: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each step's residual is taken off and divided by, float64[N, F] each; for each of five contiguous blocks by what is usual in the four others."""
    (blocks,) = fold_rows([len(residual)])
    off, size = np.zeros_like(residual), np.ones_like(residual)
    for start, stop, _ in segments(blocks):
        others = np.ones(len(residual), np.bool_)
        others[start:stop] = False
        if others.any():
            shifts, sizes = usual_in(residual[others], of[others], floor, switching)
            off[start:stop], size[start:stop] = of[start:stop] @ shifts, of[start:stop] @ sizes
    return off, size
