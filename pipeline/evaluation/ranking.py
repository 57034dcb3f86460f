"""How well a score ranks anomalous steps above normal ones, whatever the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def average_precision(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """Area under the precision-recall curve as a step sum; None without an anomaly. Ties count as one."""
    positives = int(truth.sum())
    if positives == 0:
        return None
    hits, taken = _cumulative(score, truth)
    gained = np.diff(np.r_[0, hits])
    return float((gained * hits / taken).sum() / positives)


def roc_area(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve; None unless both classes are there."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return None
    hits, taken = _cumulative(score, truth)
    return float(np.trapz(np.r_[0, hits] / positives, np.r_[0, taken - hits] / negatives))


def mean_ranks(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean rank float64[R] of R contestants by their areas float64[R, N] on N sets, 1 is best; ties share the mean of the places they take.

    >>> mean_ranks(np.array([[0.9, 0.5], [0.9, 0.7], [0.1, 0.6]])).tolist()
    [2.25, 1.25, 2.5]
    """
    better = (areas[None] > areas[:, None]).sum(axis=1)
    equal = (areas[None] == areas[:, None]).sum(axis=1)
    return np.asarray((better + (equal + 1) / 2).mean(axis=1))


def _cumulative(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """True positives and flagged points at each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ends = np.r_[np.flatnonzero(score[order][:-1] != score[order][1:]), len(score) - 1]
    return np.cumsum(truth[order])[ends], ends + 1
