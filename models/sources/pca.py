"""Principal components per site: what the strongest directions of the training data do not explain is the residual.

Normalised residual as in Jackson and Mudholkar (1979), "Control procedures for residuals associated with principal
component analysis", with each sensor put on its own scale by the calibration.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.sources.base import Traits
from models.sources.gram import GramStatistics

if TYPE_CHECKING:
    import tensorflow as tf

CLIP = 5.0
"""Scaled values are clipped to +-this before components are fitted and applied."""
_ROWS = 65_536
_STILL = 1e-9
"""Variance of scaled readings below which a sensor does not move."""


@dataclass(frozen=True, eq=False)
class PcaSource:
    """`projection` float32[rows, F, F] onto the kept components, one matrix a site and the fleet's last."""

    name: ClassVar[str] = "pca"
    context: ClassVar[int] = 0
    excursion: ClassVar[bool] = False

    projection: NDArray[np.float32]
    floor: float = 0.05

    @property
    def build(self) -> Hashable:
        """As `Source.build`."""
        return self.name

    def tables(self) -> Mapping[str, NDArray[np.float32]]:
        """As `Source.tables`."""
        return self.arrays()

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """The projections."""
        return {"projection": self.projection}

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """As `Source.residuals`."""
        import tensorflow as tf

        clipped = tf.clip_by_value(frames, -CLIP, CLIP)
        return frames - tf.matmul(clipped, tf.gather(arrays["projection"], rows))

    def coefficients(self, row: int) -> NDArray[np.float32]:
        """As `LinearSource.coefficients`; the constant predicts nothing."""
        projection = self.projection[row]
        return np.vstack([projection, np.zeros((1, len(projection)), np.float32)])


@dataclass(frozen=True)
class PcaFit:
    """Fits one `PcaSource`: the fewest components that explain `variance` of the training data."""

    context: ClassVar[int] = 0

    sensors: int
    variance: float = 0.9

    def summarise(self, run: NDArray[np.float32], start: int, stop: int) -> GramStatistics:
        """Statistics of steps `start` to `stop` of a scaled run float32[N, F]; NaN reads as 0."""
        total = GramStatistics.empty(self.sensors + 1)
        for first in range(start, stop, _ROWS):
            part = np.nan_to_num(run[first : min(stop, first + _ROWS)].astype(np.float64), nan=0.0)
            clipped = np.clip(part, -CLIP, CLIP)
            total = total.plus(GramStatistics.of(np.hstack([clipped, np.ones((len(part), 1))])))
        return total

    def solve(self, statistics: Sequence[GramStatistics], traits: Sequence[Traits]) -> tuple[PcaSource, ...]:
        """One source, one projection for each of `statistics`; a wandering sensor would bend the components of all others."""
        found = [
            _projection(each, self.variance, of.steady) for each, of in zip(statistics, traits, strict=True)
        ]
        return (PcaSource(np.stack(found)),)


def _projection(
    statistics: GramStatistics, variance: float, steady: NDArray[np.bool_]
) -> NDArray[np.float32]:
    sensors = len(statistics.gram) - 1
    whole = np.zeros((sensors, sensors), np.float32)
    if statistics.rows < 1 or not steady.any():
        return whole
    mean = statistics.gram[:-1, -1] / statistics.rows
    covariance = statistics.gram[:-1, :-1] / statistics.rows - np.outer(mean, mean)
    covariance = covariance[np.ix_(steady, steady)]
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    explained = np.cumsum(values) / max(float(values.sum()), 1e-12)
    kept = vectors[:, : int(np.searchsorted(explained, variance - 1e-12)) + 1]
    # With a component for each sensor that moves nothing of them could be left over.
    if kept.shape[1] >= np.count_nonzero(np.diag(covariance) > _STILL):
        kept = kept[:, :-1]
    whole[np.ix_(steady, steady)] = kept @ kept.T
    return whole
