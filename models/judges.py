"""Sources as they are calibrated on: the residuals of a training's rows, of each by what was not fitted on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.known import known_deviation, known_mean
from models.scaling import CLIP
from models.sources.base import Source
from models.sources.folds import segments

_CHUNK = 4096
_LEAST_DEVIATION = 1e-4
_MOST_RESCALED = 2.0
"""Most that a block is rescaled by: a sensor that moves in one block alone would be a hundred times its size in the others' scale."""

Runs = Sequence[NDArray[np.float32]]
Rescaling = dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""By block a factor and a shift, [F] each."""


@dataclass(frozen=True)
class Judge:
    """A source as it is calibrated on: `rows[i]` says, for each of a run's steps, which row of the source was not fitted on it.

    `weight` is the source's in the score. `taught`: it is fitted beside what rows of other sites are like. `heavy_tails`: a sensor whose residuals have heavier tails than normal ones is
    measured by its 99 % quantile. `own_wander`: sensors whose residual wanders weigh less, and not only those whose value does.
    """

    source: Source
    rows: tuple[NDArray[np.int32], ...]
    weight: float
    taught: bool = False
    heavy_tails: bool = False
    own_wander: bool = False

    def residuals(self, runs: Runs, context: int, rescaling: Rescaling | None = None) -> NDArray[np.float64]:
        """Residuals float64[N, F] of scaled runs float32[N_i, F], whose NaN read as 0, from step `context` of each on; `rescaling` brings blocks into another scale first."""
        import tensorflow as tf

        source = self.source
        arrays = {name: tf.constant(value) for name, value in source.arrays().items()}
        found = []
        for run, rows in zip(runs, self.rows, strict=True):
            for start, stop, row in segments(rows):
                factor, shift = (np.float32(1), np.float32(0)) if rescaling is None else rescaling[row]
                for first in range(max(start, context), stop, _CHUNK):
                    part = run[first - source.context : min(stop, first + _CHUNK)]
                    frames = np.nan_to_num(np.clip(part * factor + shift, -CLIP, CLIP), nan=0.0)
                    found.append(
                        source.residuals(arrays, tf.constant(frames[None]), tf.constant([row])).numpy()[0]
                    )
        return np.concatenate(found).astype(np.float64)

    def others_scales(self, runs: Runs) -> Rescaling:
        """What brings scaled values of each block into the scale of the other blocks, which is what new rows will be in.

        The mean and deviation of a short training are those of its own rows: by them later rows lie further out.
        """
        values, of = np.concatenate(runs).astype(np.float64), np.concatenate(self.rows)
        centre, deviation = known_mean(values), known_deviation(values)
        found = {}
        for block in np.unique(of):
            others = values[of != block]
            told = np.isfinite(others).any(axis=0) & (deviation > _LEAST_DEVIATION)
            change = np.where(told, deviation / np.maximum(known_deviation(others), _LEAST_DEVIATION), 1.0)
            factor = np.clip(change, 1.0 / _MOST_RESCALED, _MOST_RESCALED)
            shift = centre - factor * np.where(told, known_mean(others), centre)
            found[int(block)] = (factor.astype(np.float32), shift.astype(np.float32))
        return found
