"""From training scores to a threshold: a quantile, a fitted tail, or wanted alarms per week. Pure numpy.

What a threshold promises it must keep on steps nobody has seen, so few independent scores ask for more: the tail is the predictive
one. A machine that changes after its training is met while scoring (`models.stream`), not by more caution here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.options import HOLD_OFF, DetectorOptions

_RESOLVED = 60
"""Steps above a quantile for it to be known: neighbouring scores share most of their longest average."""
_LARGEST_TAIL = 0.2
_WIDER = 1.25
_VISITS = 20
"""Independent visits to the tail that a threshold asks for: so many are known to a fifth or so, and a tail of fewer is begun further down."""
INDEPENDENT = 3
"""Longest averages between two scores that share nothing any more."""
_WEEK = 7 * 86_400.0


def threshold(score: NDArray[np.float64], options: DetectorOptions, step_seconds: float) -> float:
    """Threshold by the rule of `options`, from finite training scores float64[N] in time order, N at least 1."""
    if options.rule == "alarms_per_week":
        return alarm_threshold(score, options.alarms_per_week, step_seconds, options.hold_off_seconds)
    rule = tail_quantile if options.rule == "tail" else predictive_quantile
    return rule(score, options.false_alarm_rate, INDEPENDENT * max(options.spans), _VISITS)


def independent_visits(above: NDArray[np.bool_], apart: float) -> int:
    """How often bool[N] was entered anew, visits at most `apart` steps from each other being one."""
    at = np.flatnonzero(above)
    return int(len(at) > 0) + int((np.diff(at) > apart).sum())


def predictive_quantile(score: NDArray[np.float64], rate: float, apart: int, visits: int = 1) -> float:
    """The quantile; a rate that the data cannot resolve is extrapolated with an exponential tail and its uncertainty.

    Resolved is a tail of sixty steps and of so many independent `visits`, of which a short training asks for no more than a fifth of its
    steps can be; with fewer it begins further down, at the 80 % quantile at last.
    With `k` visits to the tail the next excess over its foot follows a Lomax law, `P(excess > x) = (1 + x / (k mean))^-k`:
    the posterior predictive of an exponential one under Jeffreys' prior. It becomes the exponential tail as k grows, and asks for
    more from a machine of which little was seen. Scores of one visit share their averages, so they count once; k is at least 2,
    from where on the law has a mean.
    """
    base, excess, ratio = _foot(score, rate, apart, visits)
    if ratio <= 1 or not len(excess):
        return base
    seen = max(2, independent_visits(score > base, apart))
    return base + float(excess.mean()) * seen * (ratio ** (1.0 / seen) - 1.0)


def _foot(
    score: NDArray[np.float64], rate: float, apart: int = 0, visits: int = 1
) -> tuple[float, NDArray[np.float64], float]:
    """Where the tail begins, what lies above it, and how many times the wanted rate that is."""
    share = max(rate, min(_LARGEST_TAIL, _RESOLVED / len(score)))
    base = float(np.quantile(score, 1.0 - share))
    wanted = min(visits, _LARGEST_TAIL * len(score) / max(apart, 1))
    while share < _LARGEST_TAIL and independent_visits(score > base, apart) < wanted:
        share = min(_LARGEST_TAIL, share * _WIDER)
        base = float(np.quantile(score, 1.0 - share))
    return base, score[score > base] - base, share / rate


def tail_quantile(score: NDArray[np.float64], rate: float, apart: int, visits: int = 1) -> float:
    """Peaks over threshold: a generalised Pareto tail over the 98 % quantile (Siffer et al., KDD 2017).

    Shape and scale by probability-weighted moments (Hosking and Wallis, Technometrics 1987); the shape is kept within
    (-0.5, 0.5), where the estimate is sound and mean and variance exist.
    """
    share = min(_LARGEST_TAIL, max(0.02, _RESOLVED / len(score)))
    base = float(np.quantile(score, 1.0 - share))
    excess = np.sort(score[score > base] - base)
    if len(excess) < 10 or rate >= share:
        return predictive_quantile(score, rate, apart, visits)
    position = (np.arange(1, len(excess) + 1) - 0.35) / len(excess)
    first, second = float(excess.mean()), float((excess * (1.0 - position)).mean())
    # Never 0: the later, larger excesses weigh less in the second moment, which is below half of the first even where all are equal.
    shape = float(np.clip(2.0 - first / (first - 2 * second), -0.5, 0.5))
    scale = first * (1.0 - shape)
    ratio = len(excess) / len(score) / rate
    grown = np.log(ratio) if abs(shape) < 1e-6 else (ratio**shape - 1.0) / shape
    return base + scale * float(grown)


def alarm_threshold(
    score: NDArray[np.float64], alarms_per_week: float, step_seconds: float, hold_off: float = HOLD_OFF
) -> float:
    """The lowest threshold at which the training scores give at most the wanted alarms, by bisection.

    Flagged steps at most `hold_off` seconds apart are one alarm, and neighbours always. A wanted number below one alarm in the whole training lies above
    every training score, by an exponential tail.
    """
    weeks = len(score) * step_seconds / _WEEK
    wanted = alarms_per_week * weeks
    if wanted < 1:
        base, excess, ratio = _foot(score, max(wanted, 1e-6) / len(score))
        beyond = float(excess.mean()) * float(np.log(ratio)) if len(excess) else 0.0
        return max(float(score.max()), base + beyond)
    apart = max(1.0, hold_off / step_seconds)
    low, high = 0.0, float(score.max())
    for _ in range(40):
        middle = (low + high) / 2
        flagged = score > middle
        # Far too low a threshold joins everything into one alarm: few alarms count only when little is flagged.
        if independent_visits(flagged, apart) > wanted or flagged.mean() > 0.2:
            low = middle
        else:
            high = middle
    return high
