"""What is ordinary for a sensor counts less: a fault of one sensor among many is lost in the noise of all the others.

What a sensor says, smoothed, is `c`; `o` is what it says in all but a fiftieth of the training's steps. It counts as `c^2 / (c + o)`: by its square far below `o`, half at `o`, as it is far
above. That is the gain of Wiener's filter, signal over signal and noise, with what is said for the one and what is ordinary for the other. Where a training bursts, which is when its scores are
much larger in the mean than usually, incidents are what many sensors say a little of, and single sensors burst in good times, as at servers: there nothing is discounted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf

LEAST_ROWS = 1000
"""Scored steps of training from which a sensor's rare ones are known."""
_ORDINARY = 0.98
_CALM, _BURSTS = 1.2, 1.4
"""Mean over median of a training's scores up to which all is discounted, and from which nothing is."""
_LEAST_SCORE = 1e-9


def calm(score: NDArray[np.float64]) -> float:
    """1 for a training of whose scores float64[N] without discount few burst, 0 for one that bursts or is too short to tell, between them evenly."""
    if len(score) < LEAST_ROWS:
        return 0.0
    bursts = float(score.mean()) / max(float(np.median(score)), _LEAST_SCORE)
    return float(np.clip((_BURSTS - bursts) / (_BURSTS - _CALM), 0.0, 1.0))


def ordinary(said: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """What is ordinary for each sensor, float64[F], from what each says in training, smoothed, float64[N, F], and how `calm` that is; zeros where nothing is discounted."""
    if share <= 0:
        return np.zeros(said.shape[1])
    return np.asarray(share * np.quantile(said, _ORDINARY, axis=0))


def discounted(said: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """What counts of float64[N, F], none negative, beside what is ordinary float64[F]; all of it where that is 0."""
    both = said + usual
    return np.asarray(said * np.divide(said, both, out=np.zeros_like(said), where=both > 0))


def discounted_tensor(said: tf.Tensor, usual: tf.Tensor) -> tf.Tensor:
    """As `discounted`, of float32[B, N, F] beside what is ordinary float32[B, 1, F]."""
    import tensorflow as tf

    return said * tf.math.divide_no_nan(said, said + usual)
