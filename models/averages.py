"""Exponential averages, y_t = y_{t-1} + rate (x_t - y_{t-1}): of a training in numpy, and in a detector's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

if TYPE_CHECKING:
    import tensorflow as tf

BLOCK = 32
"""Steps that one product with a triangular matrix averages over."""


def rate_of(span: float) -> float:
    """Rate of an average with the centre of mass of a plain mean over `span` steps."""
    return 2.0 / (span + 1.0)


def average(
    values: NDArray[np.float64], rate: float, first: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Of float64[N, ...] along the steps, y_{-1} = `first` [...]."""
    before = (1.0 - rate) * np.broadcast_to(np.asarray(first, np.float64), values.shape[1:])
    return np.asarray(lfilter([rate], [1.0, rate - 1.0], values, axis=0, zi=before[None])[0])


def averages(
    values: NDArray[np.float64], first: NDArray[np.float64] | float, spans: Sequence[int]
) -> list[NDArray[np.float64]]:
    """As `average`, over each of the `spans`."""
    return [average(values, rate_of(span), first) for span in spans]


class Decays(NamedTuple):
    """What `exponential` multiplies by at one rate: `inside` float32[B or 1, 1, BLOCK, BLOCK] within a block, `across` float32[B or 1, L, L]
    from block to block, `reach` float32[B or 1, 1, BLOCK, 1] from a block's start to each of its steps."""

    inside: Any
    across: Any
    reach: Any


def decays(rate: tf.Tensor | float, count: tf.Tensor) -> Decays:
    """For averages with `rate`, a number or float32[B], over `count` steps; made once, as many are taken over the same steps."""
    import tensorflow as tf

    rates = tf.reshape(tf.convert_to_tensor(rate, tf.float32), (-1, 1, 1))
    reach = tf.pow(1.0 - rates, tf.cast(tf.range(1, BLOCK + 1), tf.float32)[None, None])
    return Decays(
        (rates * _decay(rates, tf.range(BLOCK)))[:, None],
        _decay(rates, tf.range(_blocks(count)) * BLOCK),
        tf.transpose(reach[:, None], (0, 1, 3, 2)),
    )


def exponential(values: tf.Tensor, by: Decays, first: tf.Tensor) -> tf.Tensor:
    """Of float32[B, N, F], y_{-1} = `first` float32[B, F].

    `by` are the rate's `decays` over N steps. As products with triangular matrices, first inside blocks, then over the blocks' ends:
    a loop over the steps would cost a hundred times more. The numbers are the loop's but for rounding.
    """
    import tensorflow as tf

    count = tf.shape(values)[1]
    blocks = _blocks(count)
    padded = tf.pad(values, [[0, 0], [0, blocks * BLOCK - count], [0, 0]])
    batch, width = tf.shape(values)[0], values.shape[2]
    parts = tf.reshape(padded, (batch, blocks, BLOCK, width))
    inside = tf.matmul(by.inside, parts)
    # What has decayed to the start of each block: the ends of the blocks before it, and what came first.
    ends = tf.concat([first[:, None], inside[:, :-1, -1]], axis=1)
    carried = tf.matmul(by.across, ends)
    found = inside + carried[:, :, None] * by.reach
    return tf.reshape(found, (batch, blocks * BLOCK, width))[:, :count]


def last(values: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """The last step of float32[B, N, F], or `first` if there is none."""
    import tensorflow as tf

    return tf.concat([first[:, None], values], axis=1)[:, -1]


def step_before(values: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """The value before each step's of float32[B, N, F], `first` float32[B, F] before the first."""
    import tensorflow as tf

    return tf.concat([first[:, None], values], axis=1)[:, :-1]


def _blocks(count: tf.Tensor) -> tf.Tensor:
    """Blocks that hold so many steps, one at least."""
    import tensorflow as tf

    return tf.maximum(-(-count // BLOCK), 1)


def _decay(rates: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Lower triangular (1 - rate)^(at_i - at_j), float32[B or 1, L, L]."""
    import tensorflow as tf

    apart = tf.cast(at[:, None] - at[None], tf.float32)
    powers = tf.pow(1.0 - rates, tf.maximum(apart, 0.0)[None])
    return tf.where(apart[None] >= 0, powers, 0.0)
