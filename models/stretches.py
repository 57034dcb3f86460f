"""What short stretches of a site's history told of the whole: how far a machine's first hours can be trusted.

Readings that follow each other are alike, and a machine that rests today works tomorrow: the variance of two hundred rows in a row says far
less of a sensor than two hundred independent rows would. How much less is nothing to assume: sites with a history have seen it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.scaling import SensorMoments

SHORTEST, LEVELS = 64, 16
"""Rows of the shortest stretches, and how many lengths there are, each twice the one before."""
_FEWEST, FEWEST_SITES = 4, 2
"""Stretches of a length that a site needs to tell of it, and sites."""
_CHUNK = 1024
_LARGEST_RATIO, _FARTHEST = 1e4, 100.0
"""Bounds of a ratio of variances, either way, and of a squared distance in variances: no site tells absurdities."""
_LOOK = 100.0
"""Where nobody has seen it: rows that tell as much of a mean or a variance as one independent look."""


@dataclass(frozen=True, eq=False)
class StretchSums:
    """Sums over sites, each float64[LEVELS, F], by length `SHORTEST * 2**level` and sensor.

    Attributes:
      sites: that tell of it.
      log_ratio, log_ratio_squared: of each site the mean over its stretches of log(variance of the stretch / variance of the site), and of its square.
      distance: of each site the mean of (mean of the stretch - mean of the site)^2 / variance of the site.
    """

    sites: NDArray[np.float64]
    log_ratio: NDArray[np.float64]
    log_ratio_squared: NDArray[np.float64]
    distance: NDArray[np.float64]

    @classmethod
    def of(cls, runs: Sequence[NDArray[np.float64]], whole: SensorMoments) -> StretchSums:
        """One site's contribution, from its rows float64[N_i, F], as `plausible` gives them, in order of time, and their moments; a gap ends no stretch."""
        shape = (LEVELS, len(whole.mean))
        sums = [np.zeros(shape) for _ in range(4)]
        parts = _shortest(runs, shape[1])
        variance = np.where(whole.moves, whole.variance, 1.0)
        for level in range(LEVELS):
            if len(parts.count) < _FEWEST:
                break
            seen = parts.count >= SHORTEST * 2**level / 2
            moves = seen & parts.moves
            tell = whole.moves & (moves.sum(axis=0) >= _FEWEST)
            quotient = np.where(moves & tell, parts.variance, variance) / variance
            # Clipped before the logarithm: beside a huge variance that of a still stretch is 0.
            ratio = np.log(np.clip(quotient, 1.0 / _LARGEST_RATIO, _LARGEST_RATIO))
            distance = np.minimum(np.where(seen, parts.mean - whole.mean, 0.0) ** 2 / variance, _FARTHEST)
            moving, known = np.maximum(moves.sum(axis=0), 1), np.maximum(seen.sum(axis=0), 1)
            found = (
                ratio.sum(axis=0) / moving,
                (ratio**2).sum(axis=0) / moving,
                distance.sum(axis=0) / known,
            )
            for total, value in zip(sums, (np.ones(shape[1]), *found), strict=True):
                total[level] = np.where(tell, value, 0.0)
            parts = _pairs(parts)
        return cls(*sums)

    def plus(self, other: StretchSums, weight: float = 1.0) -> StretchSums:
        """This and `weight` times the other; -1 takes out what was added before."""
        return StretchSums(
            self.sites + weight * other.sites,
            self.log_ratio + weight * other.log_ratio,
            self.log_ratio_squared + weight * other.log_ratio_squared,
            self.distance + weight * other.distance,
        )

    def trust(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """What to expect of moments over so many rows, float64[F], beside those of the whole history: (bias, variance) of the log variance, and
        the variance of the mean in variances of the sensor, each float64[F].

        Between lengths that two sites tell of, straight lines over the logarithm of the rows; beyond the longest they fall as one over the rows,
        as independent looks do, but the variances not below the guess that holds where no length is told of: a hundred rows are one independent look.
        """
        bias, spread, distance = np.zeros(len(rows)), 2.0 * _LOOK / rows, _LOOK / rows
        told = self.sites > FEWEST_SITES - 0.5
        lengths = np.log(SHORTEST * 2.0 ** np.arange(LEVELS))
        count = np.maximum(self.sites, 1.0)
        mean = self.log_ratio / count
        log_spread = np.log(np.maximum(self.log_ratio_squared / count - mean**2, 1e-6))
        log_distance = np.log(np.maximum(self.distance / count, 1e-6))
        for sensor in np.flatnonzero(told.any(axis=0)):
            at, length = told[:, sensor], np.log(rows[sensor])
            fades = min(1.0, float(np.exp(lengths[at][-1] - length)))
            of_length = fades * np.exp(np.interp(length, lengths[at], log_spread[at, sensor]))
            far = fades * np.exp(np.interp(length, lengths[at], log_distance[at, sensor]))
            bias[sensor] = fades * np.interp(length, lengths[at], mean[at, sensor])
            # Beyond what anyone has seen nothing is trusted more than a guess.
            spread[sensor] = of_length if fades == 1.0 else max(of_length, spread[sensor])
            distance[sensor] = far if fades == 1.0 else max(far, distance[sensor])
        return bias, spread, distance


def _shortest(runs: Sequence[NDArray[np.float64]], sensors: int) -> SensorMoments:
    """Moments, each [stretches, F], of stretches of `SHORTEST` rows; what is left at the end counts nowhere."""
    rows = np.concatenate(runs) if runs else np.zeros((0, sensors))
    cut = rows[: len(rows) // SHORTEST * SHORTEST].reshape(-1, SHORTEST, sensors)
    found = [
        SensorMoments.of_stretches(cut[first : first + _CHUNK])
        for first in range(0, max(len(cut), 1), _CHUNK)
    ]
    return SensorMoments(*(np.concatenate(field) for field in zip(*map(_fields, found), strict=True)))


def _pairs(parts: SensorMoments) -> SensorMoments:
    """Each two neighbours as one."""
    even = len(parts.count) // 2 * 2
    first, second = (SensorMoments(*(field[start:even:2] for field in _fields(parts))) for start in (0, 1))
    return first.merge(second)


def _fields(parts: SensorMoments) -> tuple[NDArray[np.float64], ...]:
    return parts.count, parts.mean, parts.squares, parts.largest
