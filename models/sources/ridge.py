"""Cross-sensor ridge regression: each sensor from all others now and from all sensors' last three samples; at machines that switch, or from the others now alone.

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
from models.sources.base import Traits
from models.sources.gram import GramStatistics
from models.switching import SOFTER, STEPS

if TYPE_CHECKING:
    import tensorflow as tf

LAGS = STEPS
_ROWS = 65_536
_CONSTANT = 1e-6
"""Ridge on the constant: just enough to keep the matrix regular."""
_AT_ONCE = 0.01
"""Ridge, a share of the number of rows, of what the other sensors of an instant tell alone: where two sensors follow each other it leaves a hundredth of a switch."""


@dataclass(frozen=True, eq=False)
class RidgeSource:
    """`weights` float32[rows, 4F + 1, F] on `[z_t | z_{t-1} | z_{t-2} | z_{t-3} | 1]`, one matrix a site and the fleet's last.

    `at_once` float32[rows, F + 1, F] on `[z_t | 1]`: where `switches` float32[rows] is 1 and not 0, the residual of a sensor is the smaller one of the two.
    """

    name: ClassVar[str] = "ridge"
    context: ClassVar[int] = LAGS
    excursion: ClassVar[bool] = False

    weights: NDArray[np.float32]
    ridge: float
    floor: float = 0.05
    at_once: NDArray[np.float32] | None = None
    switches: NDArray[np.float32] | None = None

    @property
    def build(self) -> Hashable:
        """As `Source.build`."""
        return (self.name, self.switches is not None)

    def tables(self) -> Mapping[str, NDArray[np.float32]]:
        """As `Source.tables`."""
        return self.arrays()

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """The coefficients."""
        if self.switches is None or self.at_once is None:
            return {"weights": self.weights}
        return {"weights": self.weights, "at_once": self.at_once, "switches": self.switches}

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """As `Source.residuals`."""
        import tensorflow as tf

        count = tf.shape(frames)[1] - LAGS
        past = tf.concat([frames[:, LAGS - lag : LAGS - lag + count] for lag in range(LAGS + 1)], axis=2)
        weights = tf.gather(arrays["weights"], rows)
        now = frames[:, LAGS:]
        found = now - (tf.matmul(past, weights[:, :-1]) + weights[:, -1:])
        if "at_once" not in arrays:
            return found
        weights = tf.gather(arrays["at_once"], rows)
        other = now - (tf.matmul(now, weights[:, :-1]) + weights[:, -1:])
        switches = tf.gather(arrays["switches"], rows)[:, None, None] > 0
        return tf.where(tf.logical_and(switches, tf.abs(other) < tf.abs(found)), other, found)

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
        self, statistics: Sequence[GramStatistics], traits: Sequence[Traits]
    ) -> tuple[RidgeSource, ...]:
        """One source a strength, one row of weights for each of `statistics`; a sensor that wanders follows from its own past.

        A machine that switches gets penalties of a tenth, and what the others tell `at_once` beside its own past.
        """
        softer = [SOFTER if each.switches else 1.0 for each in traits]
        at_once = switching = None
        if any(each.switches for each in traits):
            switching = np.array([each.switches for each in traits], np.float32)
            at_once = np.stack(
                [self._at_once(of, each.switches) for of, each in zip(statistics, traits, strict=True)]
            )
        return tuple(
            RidgeSource(
                np.stack(
                    [
                        ridge_weights(each, self.sensors, ridge * share)
                        for each, share in zip(statistics, softer, strict=True)
                    ]
                ),
                ridge,
                self.floor,
                at_once,
                switching,
            )
            for ridge in self.ridges
        )

    def _at_once(self, statistics: GramStatistics, wanted: bool) -> NDArray[np.float32]:
        if not wanted:
            return np.zeros((self.sensors + 1, self.sensors), np.float32)
        return ridge_weights(statistics.now(self.sensors), self.sensors, _AT_ONCE, lags=0)


def ridge_weights(
    statistics: GramStatistics, sensors: int, ridge: float, lags: int = LAGS
) -> NDArray[np.float32]:
    """Coefficients float32[D, F] that predict each of the first F columns from all other columns of a design with so many `lags`.

    Raises:
      InvalidInput: `ridge` is not positive, or the statistics are of other sensors.
    """
    width = (lags + 1) * sensors + 1
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
    now = int(np.searchsorted(moves, sensors))
    # The first columns of the inverse are all that is wanted: solved for alone they cost less than half of it.
    regular = statistics.gram[np.ix_(moves, moves)] + np.diag(strength[moves])
    inverse = np.linalg.solve(regular, np.eye(len(moves), now))
    weights = np.zeros((width, sensors), np.float32)
    weights[np.ix_(moves, moves[:now])] = -inverse / np.diag(inverse)
    weights[np.arange(sensors), np.arange(sensors)] = 0.0
    return weights
