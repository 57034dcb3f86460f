"""A scale for sensors of which a site has seen little, from what they are like at the other sites.

Empirical Bayes: how far sites differ from each other, and how far off a short stretch of a site's own history was, say how much one site may learn
from the others. Sites whose sensors are in other units or ranges differ by so much that nothing is taken over.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.scaling import SensorMoments, SensorScaling, plausible, plausible_moments
from models.stretches import FEWEST_SITES, StretchSums

_ALL_SIZES = 9.0
"""Variance of the log variances from which they say nothing of a sensor that never moved: one sigma is a factor of 4.5 in scale."""
_FAR = 3.0
"""Standard errors within which a site's mean is not apart from the others' beyond chance."""


@dataclass(frozen=True, eq=False)
class ScaleSums:
    """What sites add up, each float64[F]: sites where the sensor moves, and over these sums of log variance, its square, mean, its square; and what
    `stretches` of them told of the whole.

    Sums over sites and nothing else: no site's own figures can be read off them, and taking one's own out again is a subtraction.
    """

    sites: NDArray[np.float64]
    log_variance: NDArray[np.float64]
    log_variance_squared: NDArray[np.float64]
    mean: NDArray[np.float64]
    mean_squared: NDArray[np.float64]
    stretches: StretchSums

    @classmethod
    def of(cls, runs: Sequence[NDArray[np.float64]], whole: SensorMoments) -> ScaleSums:
        """One site's contribution, of its rows float64[N_i, F], as `plausible` gives them, and their moments; a sensor that never moved there adds nothing."""
        moves = whole.moves
        log = np.log(np.where(moves, whole.variance, 1.0))
        mean = np.where(moves, whole.mean, 0.0)
        return cls(
            moves.astype(np.float64),
            log,
            np.square(log),
            mean,
            np.square(mean),
            StretchSums.of(runs, whole),
        )

    def plus(self, other: ScaleSums, weight: float = 1.0) -> ScaleSums:
        """This and `weight` times the other; -1 takes out what was added before."""
        return ScaleSums(
            self.sites + weight * other.sites,
            self.log_variance + weight * other.log_variance,
            self.log_variance_squared + weight * other.log_variance_squared,
            self.mean + weight * other.mean,
            self.mean_squared + weight * other.mean_squared,
            self.stretches.plus(other.stretches, weight),
        )


def fleet_sums(sites: Iterable[ScaleSums]) -> ScaleSums | None:
    """The sum over sites; None without any."""
    each = list(sites)
    return functools.reduce(ScaleSums.plus, each) if each else None


@dataclass(frozen=True, eq=False)
class FleetScales:
    """Of some sites the moments of each and what it adds up, which stay with it, and the sum."""

    known: Mapping[str, SensorMoments]
    own: Mapping[str, ScaleSums]
    total: ScaleSums | None

    @classmethod
    def of(
        cls,
        runs: Mapping[str, Sequence[NDArray[np.floating]]],
        sensors: int,
        floor: Mapping[str, NDArray[np.float64] | None] | None = None,
    ) -> FleetScales:
        """Of the raw rows float[N_i, sensors] of each site; of the logarithms of sensors that have a `floor` float64[sensors] there."""
        known, own = {}, {}
        for site, of_site in runs.items():
            of_sensors = None if floor is None else floor[site]
            judged = plausible(of_site, of_sensors)
            known[site] = plausible_moments(judged, sensors, of_sensors)
            own[site] = ScaleSums.of(judged, known[site])
        return cls(known, own, fleet_sums(own.values()))

    def beside(self, site: str, known: SensorMoments) -> SensorScaling:
        """The scaling of a site of which `known` is known, beside the others: the sum without this site's own part of it."""
        if self.total is None:
            return known.scaling()
        own = self.own.get(site)
        return scaling_beside(known, self.total if own is None else self.total.plus(own, -1.0))


def scaling_beside(own: SensorMoments, others: ScaleSums) -> SensorScaling:
    """The scaling of a site of which `own` is known, when the other sites are like `others`.

    Normal means with a normal prior (Efron and Morris 1973), for the logarithm of the variance and for the mean of each sensor. A site's own rows
    tell log s^2 - b with variance w, and their mean with variance d s^2, where b, w and d are what stretches of so many rows were off by
    at the other sites (`StretchSums.trust`). The others tell the mean of their log variances and of their means, each with the variance between sites and of its mean; one more look,
    at a spread of e and of one deviation, is added, since two sites that happen to agree prove little. What this site's mean is apart from theirs beyond three
    standard errors counts as how far sites are apart. Neither is moved by more than a standard error of what its own rows tell.

    A sensor that never moved here is scaled as where it does, but by no more than its own size, and only where the others are alike. A sensor
    that moves at fewer than two other sites keeps the site's own scale.
    """
    alone = own.scaling()
    count = np.maximum(others.sites, 1.0)
    shared = (others.sites > FEWEST_SITES - 0.5) & (own.count > 0)
    moves = own.moves
    bias, chance, distance = others.stretches.trust(np.maximum(own.count, 1.0))
    typical = others.log_variance / count
    spread = np.maximum(others.log_variance_squared - count * typical**2, 0.0)
    between = (spread + 1.0) / count
    log_own = np.log(np.where(moves, own.variance, 1.0))
    told = log_own - bias
    log_variance = _blend(told, chance, typical, between * (1.0 + 1.0 / count))
    still = np.exp(typical / 2)
    still = np.where(own.largest > 0, np.minimum(still, own.largest), still)
    # Where sites are of all sizes none is typical.
    still = np.where(between < _ALL_SIZES, still, alone.scale)
    scale = np.where(shared, np.where(moves, np.exp(log_variance / 2), still), alone.scale)
    variance = np.exp(log_variance)
    centre = others.mean / count
    apart = (
        (np.maximum(others.mean_squared - count * centre**2, 0.0) + variance) / count * (1.0 + 1.0 / count)
    )
    # What this site is apart from them beyond chance tells as much of how far sites are apart as they do.
    apart = np.maximum(apart, (own.mean - centre) ** 2 - _FAR**2 * distance * variance)
    mean = _blend(own.mean, distance * variance, centre, apart)
    return SensorScaling(np.where(shared & moves, mean, own.mean), np.where(scale > 0, scale, 1.0), own.floor)


def _blend(
    own: NDArray[np.float64],
    variance: NDArray[np.float64],
    others: NDArray[np.float64],
    of_others: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The mean of two estimates, each weighed by the inverse of its variance, but no further from the own one than its standard
    error: the limited translation of Efron and Morris (1972), by which a site that is unlike the others loses little."""
    shift = variance / np.maximum(variance + of_others, 1e-300) * (others - own)
    reach = np.sqrt(variance)
    return np.asarray(own + np.clip(shift, -reach, reach))
