"""Two simple peers in plain numpy, for `benchmarks/detection.py`: they share no code with the detectors that ship.

`fit_ridges` is the linear recipe that was known before this project and that its bars were set against: two ridge regressions of each
sensor on all others and on the last three samples, residuals on blocks that were not fitted on, a capped gain for slow changes, three
averages. `fit_components` is the residual of the principal components that explain 90 % of the variance, each sensor on its own scale,
with the same averages. Known AUC-PR of the first: SMD .516, TEP .976, SKAB .865, BATADAL .864.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Rows = NDArray[np.float64]
Score = Callable[[Rows, bool], Rows]
"""Scores float64[N] of raw rows float64[N, F], and whether they follow those of the training without a gap."""

_LAGS = 3
_BLOCKS = 5
_RIDGES = (0.1, 1.0)
_SPANS = (3, 10, 30)


def fit_ridges(train: Rows) -> tuple[Score, Rows]:
    """The scorer of rows behind `train` float64[T, F], and the scores float64[T - 3] of the training itself."""
    scale = _Scale(train)
    z = scale(train)
    design, now = _design(z), z[_LAGS:]
    count, sensors = now.shape
    block = np.arange(count) * _BLOCKS // count
    grams = [design[block == i].T @ design[block == i] for i in range(_BLOCKS)]
    whole = sum(grams)
    judged = []
    for ridge in _RIDGES:
        weights = _weights(np.asarray(whole), count, sensors, ridge)
        residual = np.empty_like(now)
        for i, gram in enumerate(grams):
            of = block == i
            without = _weights(whole - gram, int((~of).sum()), sensors, ridge)
            residual[of] = now[of] - design[of] @ without
        judged.append((weights, _Calibration(residual, follow=True)))
    training = sum(each.training for _, each in judged)

    def score(rows: Rows, follows: bool) -> Rows:
        z_now = scale(rows)
        # A run that begins anew has no past; the training's end would be a jump that no machine made.
        before = z[-_LAGS:] if follows else np.repeat(z_now[:1], _LAGS, axis=0)
        joined = _design(np.vstack([before, z_now]))
        found = [calibration.score(z_now - joined @ weights) for weights, calibration in judged]
        return np.asarray(sum(found))

    return score, np.asarray(training)


def fit_components(train: Rows, variance: float = 0.9) -> tuple[Score, Rows]:
    """The same with what the fewest components of `variance` leave over; nothing is followed."""
    scale = _Scale(train)
    z = scale(train)
    values, vectors = np.linalg.eigh(np.cov(z.T).reshape(z.shape[1], z.shape[1]))
    share = np.cumsum(values[::-1]) / max(float(values.sum()), 1e-12)
    kept = vectors[:, ::-1][:, : int(np.searchsorted(share, variance)) + 1]
    calibration = _Calibration(z - z @ kept @ kept.T, follow=False)

    def score(rows: Rows, follows: bool) -> Rows:
        z_now = scale(rows)
        return calibration.score(z_now - z_now @ kept @ kept.T)

    return score, calibration.training


class _Scale:
    """Raw rows to deviations of the training, clipped to ten; a constant sensor is scaled by its own size."""

    def __init__(self, train: Rows) -> None:
        largest = np.abs(train).max(axis=0)
        deviation = train.std(axis=0)
        self._mean = train.mean(axis=0)
        size = np.where(deviation <= 1e-5 * largest, largest, deviation)
        self._deviation = np.where(size > 0, size, 1.0)

    def __call__(self, rows: Rows) -> Rows:
        return np.clip((rows - self._mean) / self._deviation, -10.0, 10.0)


class _Calibration:
    """Residuals float64[N, F] to one score, with all constants from those of the training."""

    def __init__(self, residual: Rows, follow: bool) -> None:
        square = residual**2
        self._typical = np.maximum(np.sqrt(np.minimum(square, 25 * square.mean(axis=0)).mean(axis=0)), 0.05)
        size = np.abs(residual) / self._typical
        self._most = 3 * np.maximum(np.quantile(size, 0.99, axis=0), 0.5)
        self._usual = np.maximum(np.minimum(size, self._most).mean(axis=0), 1e-4)
        self._rate = 2 / (max(len(residual) / 2, 2000) + 1) if follow else 0.0
        energy, self._level = self._energy(residual, self._usual)
        self._mean = float(energy.mean())
        smooth = _smooth(energy, self._mean)
        self._quantile = max(float(np.quantile(smooth, 0.99)), 1e-9)
        self.training = smooth / self._quantile

    def score(self, residual: Rows) -> Rows:
        """Scores float64[N] of rows behind the training's."""
        return _smooth(self._energy(residual, self._level)[0], self._mean) / self._quantile

    def _energy(self, residual: Rows, level: Rows) -> tuple[Rows, Rows]:
        size = np.abs(residual) / self._typical
        if self._rate == 0:
            return np.minimum(size**2, 100).mean(axis=1), level
        followed = _average(np.minimum(size, self._most), self._rate, level)
        before = np.vstack([level, followed[:-1]])
        gain = np.clip(before / self._usual, 1.0, 2.0)
        return np.minimum((size / gain) ** 2, 100).mean(axis=1), followed[-1]


def _design(z: Rows) -> Rows:
    """`[z_t | z_{t-1} | z_{t-2} | z_{t-3} | 1]` for every row from the fourth on."""
    shifted = [z[_LAGS - lag : len(z) - lag] for lag in range(_LAGS + 1)]
    return np.hstack([*shifted, np.ones((len(z) - _LAGS, 1))])


def _weights(gram: Rows, rows: int, sensors: int, ridge: float) -> Rows:
    """What each of the first sensors' columns is predicted with from all others: one inverse serves all."""
    strength = np.r_[np.full(len(gram) - 1, ridge * rows), 1e-6 * rows]
    inverse = np.linalg.inv(gram + np.diag(strength))
    weights = -inverse[:, :sensors] / np.diag(inverse)[:sensors]
    weights[np.arange(sensors), np.arange(sensors)] = 0.0
    return np.asarray(weights)


def _average(values: Rows, rate: float, first: Rows | float) -> Rows:
    start = (1 - rate) * np.broadcast_to(np.asarray(first, float), values.shape[1:])[None]
    return np.asarray(lfilter([rate], [1.0, rate - 1.0], values, axis=0, zi=start)[0])


def _smooth(energy: Rows, first: float) -> Rows:
    return np.asarray(np.mean([_average(energy, 2 / (span + 1), first) for span in _SPANS], axis=0))
