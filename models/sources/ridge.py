"""Cross-sensor ridge regression: each sensor from all others now and from all sensors' last three samples.

Ridge regression after Hoerl and Kennard (1970). One inverse of the regularised Gram matrix gives the regressions of all
sensors: with P = inv(K + D) the coefficients of sensor f on everything else are -P[:, f] / P[f, f] (partitioned inverse).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidInput
from models.sources.gram import GramStatistics

if TYPE_CHECKING:
    import tensorflow as tf

LAGS = 3
_ROWS = 65_536
_CONSTANT = 1e-6
"""Ridge on the constant: just enough to keep the matrix regular."""


@dataclass(frozen=True, eq=False)
class RidgeSource:
    """`weights` float32[rows, 4F + 1, F] on `[z_t | z_{t-1} | z_{t-2} | z_{t-3} | 1]`, one matrix a site and the fleet's last."""

    name: ClassVar[str] = "ridge"
    context: ClassVar[int] = LAGS
    excursion: ClassVar[bool] = False

    weights: NDArray[np.float32]
    ridge: float
    floor: float = 0.05

    @property
    def build(self) -> Hashable:
        """As `Source.build`."""
        return self.name

    def tables(self) -> Mapping[str, NDArray[np.float32]]:
        """As `Source.tables`."""
        return self.arrays()

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """The coefficients."""
        return {"weights": self.weights}

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """As `Source.residuals`."""
        import tensorflow as tf

        count = tf.shape(frames)[1] - LAGS
        past = tf.concat([frames[:, LAGS - lag : LAGS - lag + count] for lag in range(LAGS + 1)], axis=2)
        weights = tf.gather(arrays["weights"], rows)
        return frames[:, LAGS:] - (tf.matmul(past, weights[:, :-1]) + weights[:, -1:])

    def coefficients(self, row: int) -> NDArray[np.float32]:
        """As `LinearSource.coefficients`."""
        return self.weights[row]


@dataclass(frozen=True)
class RidgeFit:
    """Fits one `RidgeSource` for each strength of `ridges`, a share of the number of rows."""

    context: ClassVar[int] = LAGS

    sensors: int
    ridges: tuple[float, ...] = (0.1, 1.0)
    floor: float = 0.05

    def summarise(self, run: NDArray[np.float32], start: int, stop: int) -> GramStatistics:
        """Statistics of steps `start` to `stop` of a scaled run float32[N, F]; the steps before give the past. NaN reads as 0."""
        total = GramStatistics.empty((LAGS + 1) * self.sensors + 1)
        for first in range(max(start, LAGS), stop, _ROWS):
            part = np.nan_to_num(run[first - LAGS : min(stop, first + _ROWS)].astype(np.float64), nan=0.0)
            count = len(part) - LAGS
            shifted = [part[LAGS - lag : LAGS - lag + count] for lag in range(LAGS + 1)]
            total = total.plus(GramStatistics.of(np.hstack([*shifted, np.ones((count, 1))])))
        return total

    def solve(
        self, statistics: Sequence[GramStatistics], steady: Sequence[NDArray[np.bool_]]
    ) -> tuple[RidgeSource, ...]:
        """One source a strength, one row of weights for each of `statistics`; a sensor that wanders follows from its own past."""
        return tuple(
            RidgeSource(
                np.stack([ridge_weights(each, self.sensors, ridge) for each in statistics]), ridge, self.floor
            )
            for ridge in self.ridges
        )


def ridge_weights(statistics: GramStatistics, sensors: int, ridge: float) -> NDArray[np.float32]:
    """Coefficients float32[D, F] that predict each of the first F columns from all other columns.

    Raises:
      InvalidInput: `ridge` is not positive, or the statistics are of other sensors.
    """
    width = (LAGS + 1) * sensors + 1
    if not ridge > 0 or statistics.gram.shape != (width, width):
        raise InvalidInput(
            f"ridge {ridge} on {statistics.gram.shape} statistics; expected > 0 and {width} columns for {sensors} sensors"
        )
    # Without any row the matrix is the ridge's alone: nothing is predicted.
    rows = max(statistics.rows, 1.0)
    strength = np.full(width, ridge * rows)
    strength[-1] = _CONSTANT * rows
    # What never moved explains nothing and is explained by nothing: of hundreds of tags it is often the half, and an inverse costs their cube.
    moves = np.flatnonzero(np.diag(statistics.gram) > 0)
    inverse = np.linalg.inv(statistics.gram[np.ix_(moves, moves)] + np.diag(strength[moves]))
    now = int(np.searchsorted(moves, sensors))
    weights = np.zeros((width, sensors), np.float32)
    weights[np.ix_(moves, moves[:now])] = -inverse[:, :now] / np.diag(inverse)[:now]
    weights[np.arange(sensors), np.arange(sensors)] = 0.0
    return weights
