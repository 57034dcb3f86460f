"""Principal components per site: what the strongest directions of the training data do not explain is the residual.

Normalised residual as in Jackson and Mudholkar (1979), "Control procedures for residuals associated with principal
component analysis", with each sensor put on its own scale by the calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf

_CLIP = 5.0


@dataclass(frozen=True)
class PcaSource:
    """`projection` float32[rows, F, F] onto the kept components, one matrix a site and the fleet's last."""

    name: ClassVar[str] = "pca"
    context: ClassVar[int] = 0
    shift_invariant: ClassVar[bool] = True

    projection: NDArray[np.float32]
    floor: float = 0.05

    @classmethod
    def of(cls, runs: Sequence[Sequence[NDArray[np.float32]]], sensors: int, variance: float) -> PcaSource:
        """Fit one projection per row on scaled runs float32[N, F]: the fewest components that explain `variance`."""
        return cls(np.stack([_projection(of_row, sensors, variance) for of_row in runs]))

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """The projections."""
        return {"projection": self.projection}

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """As `Source.residuals`."""
        import tensorflow as tf

        known = tf.clip_by_value(tf.where(tf.math.is_nan(frames), 0.0, frames), -_CLIP, _CLIP)
        return frames - tf.matmul(known, tf.gather(arrays["projection"], rows))


def _projection(runs: Sequence[NDArray[np.float32]], sensors: int, variance: float) -> NDArray[np.float32]:
    total, rows, sums = np.zeros((sensors, sensors)), 0, np.zeros(sensors)
    for run in runs:
        clipped = np.clip(np.nan_to_num(run.astype(np.float64)), -_CLIP, _CLIP)
        total += clipped.T @ clipped
        sums += clipped.sum(axis=0)
        rows += len(run)
    if rows < 2:
        return np.zeros((sensors, sensors), np.float32)
    mean = sums / rows
    values, vectors = np.linalg.eigh(total / rows - np.outer(mean, mean))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    explained = np.cumsum(values) / max(float(values.sum()), 1e-12)
    kept = vectors[:, : int(np.searchsorted(explained, variance - 1e-12)) + 1]
    # With every component kept nothing could be left over: a single sensor, or a few that move as one.
    if kept.shape[1] >= sensors:
        kept = kept[:, :-1]
    return (kept @ kept.T).astype(np.float32)
