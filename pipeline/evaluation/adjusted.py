"""Point-adjusted F1, only to show why it decides nothing here: a random score does well by it.

Point adjustment counts a whole incident as found as soon as one of its steps is flagged (Xu et al., WWW 2018), and papers
then quote the best threshold. With long incidents some step is flagged by chance (Kim et al., AAAI 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.alarms import stretches


@dataclass(frozen=True)
class PointAdjusted:
    """Best point-adjusted F1 over all thresholds, of the score and, mean of five draws, of uniform random numbers."""

    f1: float
    random_f1: float


def point_adjusted(
    score: NDArray[np.float64], truth: NDArray[np.bool_], seed: int = 0
) -> PointAdjusted | None:
    """Both figures for scores float[N] (NaN: left out) and labels bool[N]; None without an anomaly."""
    scored = ~np.isnan(score)
    kept, labels = score[scored], truth[scored]
    if not labels.any():
        return None
    random = np.random.default_rng(seed)
    drawn = [_best_f1(random.random(len(kept)), labels) for _ in range(5)]
    return PointAdjusted(_best_f1(kept, labels), float(np.mean(drawn)))


def _best_f1(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    incidents = stretches(truth)
    peaks = np.array([score[a:b].max() for a, b in incidents])
    lengths = np.array([b - a for a, b in incidents])
    order = np.argsort(-peaks)
    thresholds = peaks[order]
    found = np.cumsum(lengths[order])
    false = np.searchsorted(np.sort(-score[~truth]), -thresholds, side="right")
    return float((2 * found / (found + false + truth.sum())).max())
