"""VUS-PR, the volume under the precision-recall surface (Paparrizos et al., PVLDB 15(11), 2022).

A point-wise area punishes a detector that answers a few steps before or after a label whose edges are a person's guess.
VUS gives every incident a fading buffer and takes the mean of the range-based area over all buffer widths 0..`buffer`.
The figures equal those of the authors' package `vus` (tests/pipeline/test_volume.py), which needs minutes where this
needs a second: for each width only steps near an incident change, and one sort serves all thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.alarms import stretches

BUFFER = 100
"""Widest buffer in steps, both sides together, as in the authors' TSB-AD benchmark."""
THRESHOLDS = 250


def vus_pr(
    score: NDArray[np.float64],
    truth: NDArray[np.bool_],
    *,
    buffer: int = BUFFER,
    thresholds: int = THRESHOLDS,
) -> float | None:
    """Volume under the precision-recall surface; None without an anomaly.

    Args:
      score: float[N]; steps that are NaN were not scored and are left out, and no buffer reaches over them.
      truth: bool[N], the labelled steps.
      buffer: widest buffer in steps; half of it lies before an incident and half behind.
      thresholds: how many ranks of the score are tried, evenly spaced from the highest to the lowest.
    """
    stretch = _Scored.of(score, truth)
    if stretch is None:
        return None
    descending = -np.sort(-stretch.score)
    at = descending[np.linspace(0, len(descending) - 1, thresholds).astype(int)]
    taken = np.searchsorted(-descending, -at, side="right")
    hits = _sums(stretch.score[stretch.truth], np.ones(int(stretch.truth.sum())), at)
    near = _Near.of(stretch, buffer // 2)
    areas = [_area(stretch, near, width, at, taken, hits) for width in range(buffer + 1)]
    return float(np.mean(areas))


@dataclass(frozen=True)
class _Scored:
    """The scored steps, pushed together; `starts` and `ends` (inclusive) of incidents, `first` and `last` step of their part."""

    score: NDArray[np.float64]
    truth: NDArray[np.bool_]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, score: NDArray[np.float64], truth: NDArray[np.bool_]) -> _Scored | None:
        scored = ~np.isnan(score)
        found = stretches(scored)
        kept = np.concatenate([[0], np.cumsum([b - a for a, b in found])]).astype(np.int64)
        incidents = [
            (kept[part] + start, kept[part] + end - 1, kept[part], kept[part + 1] - 1)
            for part, (a, b) in enumerate(found)
            for start, end in stretches(truth[a:b])
        ]
        if not incidents:
            return None
        columns = np.array(incidents, np.int64).T
        return cls(score[scored], truth[scored], *columns)


@dataclass(frozen=True)
class _Near:
    """Normal steps within reach of an incident: how far the nearest and the next nearest incident's edge is."""

    score: NDArray[np.float64]
    nearest: NDArray[np.float64]
    second: NDArray[np.float64]

    @classmethod
    def of(cls, stretch: _Scored, reach: int) -> _Near:
        where, distance = [], []
        for start, end, first, last in zip(
            stretch.starts, stretch.ends, stretch.first, stretch.last, strict=True
        ):
            before = np.arange(max(first, start - reach), start)
            after = np.arange(end + 1, min(last, end + reach) + 1)
            where += [before, after]
            distance += [start - before, after - end]
        steps, far = np.concatenate(where), np.concatenate(distance).astype(np.float64)
        normal = ~stretch.truth[steps]
        steps, far = steps[normal], far[normal]
        order = np.lexsort((far, steps))
        steps, far = steps[order], far[order]
        leads = np.flatnonzero(np.r_[True, steps[1:] != steps[:-1]]) if len(steps) else np.zeros(0, int)
        followed = np.r_[leads[1:], len(steps)] - leads > 1 if len(steps) else np.zeros(0, bool)
        second = np.where(followed, far[np.minimum(leads + 1, len(far) - 1)], np.inf) if len(far) else far
        return cls(stretch.score[steps[leads]], far[leads], second)


def _area(
    stretch: _Scored,
    near: _Near,
    width: int,
    at: NDArray[np.float64],
    taken: NDArray[np.int64],
    hits: NDArray[np.float64],
) -> float:
    """Range-based area under the precision-recall curve for one buffer width."""
    half = width // 2
    buffered = near.nearest <= half
    # Two buffers that overlap add to more than one and are cut to one: each is at least sqrt(1/2).
    weight = np.sqrt(1 - near.nearest[buffered] / max(width, 1))
    weight[near.second[buffered] <= half] = 1.0
    partial = _sums(near.score[buffered], weight, at)
    true = hits + partial
    positives = int(stretch.truth.sum())
    recall = np.minimum(true / (positives + partial / 2), 1.0)
    noticed = _noticed(stretch, half, at)
    precision = true / taken
    gained = np.diff(np.r_[0.0, recall * noticed])
    return float(gained @ precision)


def _noticed(stretch: _Scored, half: int, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of incidents, buffers included and joined where they meet, that hold a step at or above each threshold."""
    from_, to = stretch.starts - half, stretch.ends + half
    apart = (to[:-1] < from_[1:]) | (stretch.first[:-1] != stretch.first[1:])
    heads, tails = np.r_[True, apart], np.r_[apart, True]
    begin = np.maximum(from_[heads], stretch.first[heads])
    end = np.minimum(to[tails], stretch.last[tails]) + 1
    padded = np.r_[stretch.score, -np.inf]
    highest = np.maximum.reduceat(padded, np.column_stack([begin, end]).ravel())[::2]
    return np.searchsorted(np.sort(-highest), -at, side="right") / len(highest)


def _sums(
    score: NDArray[np.float64], weight: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum of the weights whose score is at or above each of `at`."""
    order = np.argsort(-score, kind="stable")
    total = np.r_[0.0, np.cumsum(weight[order])]
    return np.asarray(total[np.searchsorted(-score[order], -at, side="right")])
