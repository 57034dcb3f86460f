"""What noise promises: mechanisms, their sensitivity and the budget from `dp-accounting`. Imports neither TensorFlow nor TFF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Budget:
    """What an observer of everything that was shared can learn at most, in the sense of (epsilon, delta) differential privacy.

    Attributes:
      epsilon: privacy loss; infinite when nothing is promised.
      delta: probability that the loss is larger.
      unit: whose presence is hidden, `site` (all its data) or `row` (one reading of all sensors at one time).
      noise_multiplier: standard deviation of the noise over the sensitivity.
      sensitivity: most that one unit changes what is summed, Euclidean norm.
      mechanism: in words, with what was counted.
    """

    epsilon: float
    delta: float
    unit: Literal["site", "row"]
    noise_multiplier: float
    sensitivity: float
    mechanism: str


@dataclass(frozen=True)
class StatisticsNoise:
    """Gaussian noise on a sum of Gram matrices.

    `unit` is what is hidden: a whole `site`, which takes many sites, or one `row` of readings.
    """

    noise_multiplier: float
    delta: float = 1e-5
    unit: Literal["site", "row"] = "row"

    def __post_init__(self) -> None:
        """Refuse noise that hides nothing."""
        if not 0 < self.noise_multiplier < float("inf"):
            raise ConfigError(f"noise_multiplier = {self.noise_multiplier}: expected a positive number")
        if not 0 < self.delta < 1:
            raise ConfigError(f"delta = {self.delta}: expected a probability between 0 and 1")


def gram_sensitivity(
    unit: Literal["site", "row"], largest_norm: float, *, lags: int, fewest_rows: float
) -> float:
    """Most that a unit changes the sum over sites of `X'X / rows`, Frobenius norm, when no row of X is longer than `largest_norm`.

    A site's matrix is a mean of x x' with |x x'| = |x|^2 <= largest_norm^2, and so is bounded by it: the sensitivity to a site's
    coming or going. Other readings at one time change the `lags` + 1 rows that they are part of, each by at most
    2 largest_norm^2, of the mean over at least `fewest_rows`, a number that counts as known.
    """
    if unit == "site":
        return largest_norm**2
    return 2.0 * (lags + 1) * largest_norm**2 / fewest_rows


def noisy_gram(
    gram: NDArray[np.float64], deviation: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Add Gaussian noise of `deviation` to the upper triangle and mirror it.

    The triangle's norm is at most the matrix's, so the sensitivity of the one bounds that of the other.
    """
    noise = np.triu(random.normal(0.0, deviation, gram.shape))
    return gram + noise + np.triu(noise, 1).T


def gaussian_epsilon(noise_multiplier: float, delta: float, *, times: int = 1) -> float:
    """Epsilon of `times` releases with Gaussian noise of `noise_multiplier` sensitivities, by dp-accounting's Renyi accountant."""
    import dp_accounting

    event: Any = dp_accounting.GaussianDpEvent(noise_multiplier)
    accountant = dp_accounting.rdp.RdpAccountant()
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, times) if times > 1 else event)
    return float(accountant.get_epsilon(delta))


def noisy_sum(
    gram: NDArray[np.float64], noise: StatisticsNoise, largest_norm: float, *, lags: int, fewest_rows: float
) -> tuple[NDArray[np.float64], Budget]:
    """Give the sum over sites with noise once, and what that promises; see `gram_sensitivity`."""
    sensitivity = gram_sensitivity(noise.unit, largest_norm, lags=lags, fewest_rows=fewest_rows)
    deviation = noise.noise_multiplier * sensitivity
    # No seed: numpy draws one from the operating system. Whoever knew it could take the noise off again.
    noisy = noisy_gram(gram, deviation, np.random.default_rng())
    epsilon = gaussian_epsilon(noise.noise_multiplier, noise.delta)
    words = "Gaussian noise on the sum of Gram matrices, drawn once; each site's scaling and number of rows count as known"
    return noisy, Budget(epsilon, noise.delta, noise.unit, noise.noise_multiplier, sensitivity, words)


def tree_sensitivity(rounds: int, took_part: Sequence[int]) -> float:
    """Most that a site changes the nodes of a binary tree over `rounds`, in clipping norms, when it took part in those rounds.

    Each node is a sum over a block of 2^h rounds in which the site counts as often as it took part. Kairouz et al. (2021),
    "Practical and Private (Deep) Learning without Sampling or Shuffling", add noise to each node.
    """
    total, block = 0, 1
    while True:
        counts: dict[int, int] = {}
        for number in took_part:
            place = (number - 1) // block
            counts[place] = counts.get(place, 0) + 1
        total += sum(count**2 for count in counts.values())
        if block >= rounds:
            return float(np.sqrt(total))
        block *= 2


def training_budget(
    mechanism: Literal["gaussian", "gaussian_adaptive", "tree"],
    noise_multiplier: float,
    delta: float,
    took_part: Iterable[Sequence[int]],
    rounds: int,
) -> Budget:
    """Give what the noise of a training promises about any one site.

    Args:
      mechanism: as configured.
      noise_multiplier: standard deviation of the noise over the clipping norm.
      delta: for epsilon.
      took_part: for each site the rounds in which its update counted, from 1.
      rounds: that there were.
    """
    each = [list(numbers) for numbers in took_part]
    if mechanism == "tree":
        sensitivity = max((tree_sensitivity(rounds, numbers) for numbers in each if numbers), default=1.0)
        epsilon = gaussian_epsilon(noise_multiplier / sensitivity, delta)
        words = f"tree aggregation over {rounds} rounds"
    else:
        times = max((len(numbers) for numbers in each), default=0)
        sensitivity = 1.0
        epsilon = gaussian_epsilon(noise_multiplier, delta, times=max(1, times))
        words = f"Gaussian noise on {times} rounds, the most that a site took part in"
    words += ", in clipping norms; nothing is gained from the choice of sites; validation losses and the exclusion of a failing site are not covered"
    return Budget(epsilon, delta, "site", noise_multiplier, sensitivity, words)
