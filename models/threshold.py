"""From training scores to a threshold: a quantile, a fitted tail, or wanted alarms per week. Pure numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.options import DetectorOptions

BLOCKS = 5
_RESOLVED = 60
"""Steps above a quantile for it to be known: neighbouring scores share most of their 30-step average."""
_WEEK = 7 * 86_400.0
_HOLD_OFF = 600.0
"""Seconds between flagged steps that still make one alarm, as the live scorer's default."""


def threshold(score: NDArray[np.float64], options: DetectorOptions, step_seconds: float) -> float:
    """Threshold by the rule of `options`, from finite training scores float64[N] in time order, N at least 1."""
    if options.rule == "alarms_per_week":
        return alarm_threshold(score, options.alarms_per_week, step_seconds)
    one = tail_quantile if options.rule == "tail" else resolved_quantile
    return over_blocks(score, options.false_alarm_rate, one(score, options.false_alarm_rate))


def over_blocks(score: NDArray[np.float64], rate: float, overall: float) -> float:
    """The geometric mean of `overall` and the largest block's quantile.

    The quantile of all scores promises too much where the machine changes from week to week, that of the worst of five
    contiguous blocks too little; their geometric mean came closest to the promise (docs/concepts/detection.md).
    """
    overall = max(overall, float(np.quantile(score, 1.0 - rate)))
    blocks = [part for part in np.array_split(score, BLOCKS) if len(part)]
    worst = max(float(np.quantile(part, 1.0 - rate)) for part in blocks)
    return float(np.sqrt(max(overall, 0.0) * max(overall, worst)))


def resolved_quantile(score: NDArray[np.float64], rate: float) -> float:
    """The quantile; a rate that the data cannot resolve is extrapolated with an exponential tail."""
    share = min(0.2, max(rate, _RESOLVED / len(score)))
    base = float(np.quantile(score, 1.0 - share))
    excess = score[score > base]
    if rate < share and len(excess):
        base += float(excess.mean() - base) * float(np.log(share / rate))
    return base


def tail_quantile(score: NDArray[np.float64], rate: float) -> float:
    """Peaks over threshold: a generalised Pareto tail over the 98 % quantile (Siffer et al., KDD 2017).

    Shape and scale by probability-weighted moments (Hosking and Wallis, Technometrics 1987); the shape is kept within
    (-0.5, 0.5), where the estimate is sound and mean and variance exist.
    """
    share = min(0.2, max(0.02, _RESOLVED / len(score)))
    base = float(np.quantile(score, 1.0 - share))
    excess = np.sort(score[score > base] - base)
    if len(excess) < 10 or rate >= share:
        return resolved_quantile(score, rate)
    position = (np.arange(1, len(excess) + 1) - 0.35) / len(excess)
    first, second = float(excess.mean()), float((excess * (1.0 - position)).mean())
    if first <= 0 or first - 2 * second <= 0:
        return resolved_quantile(score, rate)
    shape = float(np.clip(2.0 - first / (first - 2 * second), -0.5, 0.5))
    scale = first * (1.0 - shape)
    ratio = len(excess) / len(score) / rate
    grown = np.log(ratio) if abs(shape) < 1e-6 else (ratio**shape - 1.0) / shape
    return base + scale * float(grown)


def alarm_threshold(score: NDArray[np.float64], alarms_per_week: float, step_seconds: float) -> float:
    """The lowest threshold at which the training scores give at most the wanted alarms, by bisection.

    Flagged steps at most ten minutes apart are one alarm. A wanted number below one alarm in the whole training lies above
    every training score, by the exponential tail of `resolved_quantile`.
    """
    weeks = len(score) * step_seconds / _WEEK
    wanted = alarms_per_week * weeks
    if wanted < 1:
        return max(float(score.max()), resolved_quantile(score, max(wanted, 1e-6) / len(score)))
    apart = max(1, round(_HOLD_OFF / step_seconds))
    low, high = 0.0, float(score.max())
    for _ in range(40):
        middle = (low + high) / 2
        flagged = np.flatnonzero(score > middle)
        alarms = int(len(flagged) > 0) + int((np.diff(flagged) > apart).sum())
        share = len(flagged) / len(score)
        # Far too low a threshold joins everything into one alarm: few alarms count only when little is flagged.
        if alarms > wanted or share > 0.2:
            low = middle
        else:
            high = middle
    return high
