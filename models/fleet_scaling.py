"""A scale for sensors of which a site has seen little, from what they are like at the other sites.

Empirical Bayes: how far sites differ from each other says how much one site may learn from the others. Sites whose sensors
are in other units or ranges differ by so much that nothing is taken over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.scaling import SensorMoments, SensorScaling

_LOOK = 100.0
"""Rows that tell as much of a mean or a variance as one independent look: readings that follow each other are alike."""
_FADES = 50.0
"""After so many looks of its own a site takes a quarter of what others tell it, later less and less."""
_MOST_LOOKS = 10.0
"""Looks that the other sites are worth at most, however alike they are."""
_FEWEST_SITES = 2
_ALL_SIZES = 9.0
"""Variance of the log variances from which they say nothing of a sensor that never moved: one sigma is a factor of 4.5 in scale."""
_FAR, _FARTHEST = 3.0, float(np.log(1e3))
"""Others may raise a sensor's variance by so many standard deviations of what a site's few rows leave open and by a thousandfold, not to
whatever they are used to: neither strangers nor a site that invents its readings must blind the others."""


@dataclass(frozen=True, eq=False)
class ScaleSums:
    """What sites add up, each float64[F]: sites where the sensor moves, and over these sums of log variance, its square, mean, its square.

    Sums over sites and nothing else: no site's own figures can be read off them, and taking one's own out again is a subtraction.
    """

    sites: NDArray[np.float64]
    log_variance: NDArray[np.float64]
    log_variance_squared: NDArray[np.float64]
    mean: NDArray[np.float64]
    mean_squared: NDArray[np.float64]

    @classmethod
    def of(cls, moments: SensorMoments) -> ScaleSums:
        """One site's contribution; a sensor that never moved there adds nothing."""
        moves = moments.moves
        log = np.log(np.where(moves, moments.variance, 1.0))
        mean = np.where(moves, moments.mean, 0.0)
        return cls(moves.astype(np.float64), log, np.square(log), mean, np.square(mean))

    def plus(self, other: ScaleSums, weight: float = 1.0) -> ScaleSums:
        """This and `weight` times the other; -1 takes out what was added before."""
        return ScaleSums(
            *(mine + weight * theirs for mine, theirs in zip(self._all(), other._all(), strict=True))
        )

    def _all(self) -> tuple[NDArray[np.float64], ...]:
        return self.sites, self.log_variance, self.log_variance_squared, self.mean, self.mean_squared


def fleet_sums(sites: Iterable[SensorMoments]) -> ScaleSums | None:
    """The sum over sites; None without any."""
    total = None
    for moments in sites:
        own = ScaleSums.of(moments)
        total = own if total is None else total.plus(own)
    return total


def scaling_beside(own: SensorMoments, others: ScaleSums) -> SensorScaling:
    """The scaling of a site of which `own` is known, when the other sites are like `others`.

    With s^2 the site's variance over T rows, m and t^2 mean and variance of the other sites' log variances: the variance becomes
    (T s^2 + n e^w) / (T + n), where n = L min(2 / t^2, 10) rows, since the log variance of k looks of L rows varies by 2 / k, and w is m, but above
    log s^2 by no more than three times the deviation sqrt(2 L / T) of so few looks. The mean goes to that of the other sites with n = L min(e^w / d^2, 10),
    where d^2 is the variance of the sites' means, and at least as much as this site is further from them than three standard errors of its own mean. Both n fade as
    1 / (1 + T / (50 L))^2. A sensor that never moved here is scaled as where it does, but by no more than its own size,
    and only where the others are alike. A sensor that moves at fewer than two other sites keeps the site's own scale.
    """
    alone = own.scaling()
    count = np.maximum(others.sites, 1.0)
    shared = (others.sites >= _FEWEST_SITES) & (own.count > 0)
    typical = others.log_variance / count
    # One more look at a spread of 1 (a factor of e): two sites that happen to agree prove little.
    spread = np.maximum(others.log_variance_squared - count * typical**2, 0.0)
    between = (spread + 1.0) / count
    rows = np.maximum(own.count, 1.0)
    fade = _LOOK / (1.0 + rows / (_FADES * _LOOK)) ** 2
    moves = own.moves
    log_own = np.log(np.where(moves, own.variance, 1.0))
    # The standard deviation of the log variance of so few looks: what lies further off is how sites differ.
    reach = np.minimum(_FAR * np.sqrt(2.0 * _LOOK / rows), _FARTHEST)
    variance = np.exp(np.where(moves, np.minimum(typical, log_own + reach), typical))
    weight = fade * np.minimum(2.0 / between, _MOST_LOOKS)
    blended = np.sqrt((rows * own.variance + weight * variance) / (rows + weight))
    still = np.sqrt(variance)
    still = np.where(own.largest > 0, np.minimum(still, own.largest), still)
    # Where sites are of all sizes none is typical.
    still = np.where(between < _ALL_SIZES, still, alone.scale)
    scale = np.where(shared, np.where(moves, blended, still), alone.scale)
    centre = others.mean / count
    apart = np.maximum(others.mean_squared - count * centre**2, 0.0) / np.maximum(count - 1.0, 1.0)
    # What this site is apart from them beyond chance tells as much of how far sites are apart as they do.
    beyond = (own.mean - centre) ** 2 - _FAR**2 * variance * _LOOK / rows
    apart = np.maximum(apart, np.maximum(beyond, 0.0))
    # As variance / apart, at most `_MOST_LOOKS`: sites may have the very same mean.
    looks = variance / np.maximum(apart, np.maximum(variance / _MOST_LOOKS, 1e-300))
    pull = np.where(shared & moves, fade * looks, 0.0)
    mean = (rows * own.mean + pull * centre) / (rows + pull)
    return SensorScaling(mean, np.where(scale > 0, scale, 1.0), own.floor)
