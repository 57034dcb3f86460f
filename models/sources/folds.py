"""Fit a linear source on every row, and beside it on all but each of five blocks, to see residuals it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.sources.base import Source, SourceFit
from models.sources.gram import GramStatistics, federated_prior

FOLDS = 5
_HALF = 5.0
"""At so many times the prior's rows of its own, a site takes half of them."""

PriorWithout = Callable[[int | None], "GramStatistics | None"]
"""What an average row of the fleet is like, without the site of a row if one is named."""


def fold_rows(lengths: Sequence[int], folds: int = FOLDS) -> tuple[NDArray[np.int32], ...]:
    """Which of `folds` contiguous blocks each step of the runs lies in: int32[N] a run."""
    total = sum(lengths)
    fold = np.arange(total) * folds // max(total, 1)
    return tuple(np.split(fold.astype(np.int32), np.cumsum(lengths)[:-1]))


def segments(rows: NDArray[np.int32]) -> Iterator[tuple[int, int, int]]:
    """Stretches `(start, stop, row)` of equal row."""
    edges = np.r_[0, np.flatnonzero(np.diff(rows)) + 1, len(rows)]
    for start, stop in pairwise(edges):
        if stop > start:
            yield int(start), int(stop), int(rows[start])


def fit_rows(
    fit: SourceFit,
    scaled: Sequence[Sequence[NDArray[np.float32]]],
    alone: Sequence[int],
    prior_rows: float,
    steady: Sequence[NDArray[np.bool_]],
    prior: PriorWithout | None = None,
) -> tuple[tuple[Source, ...], dict[int, tuple[Source, ...]]]:
    """Sources over all rows, and for each row of `alone` and the last one those over its folds.

    `scaled` holds the runs float32[N, F] of each row: the sites, each in its own scaling, and the fleet last, in its own.
    Sites share what their rows are like on average, worth `prior_rows` rows to a site that has few of its own and less and less
    to one that has many; with one site that changes nothing. The fold of
    a site takes the average of the other sites, or what was left out would be learned from after all. `prior` gives those
    averages where they come from elsewhere than `scaled`.
    """
    blocks = [_blocks(fit, runs) for runs in scaled]
    totals = [_sum(of_row) for of_row in blocks]
    last = len(scaled) - 1
    if prior is None:

        def prior(without: int | None) -> GramStatistics | None:
            return federated_prior([totals[row] for row in alone or range(last) if row != without])

    shared = prior(None)
    whole = fit.solve([_with(total, shared, prior_rows) for total in totals[:last]] + totals[last:], steady)
    held = {}
    for row in [*alone, last]:
        others = None if row == last else prior(row)
        left = [_with(totals[row].plus(block, -1.0), others, prior_rows) for block in blocks[row]]
        held[row] = fit.solve(left, [steady[row]] * len(left))
    return whole, held


def _blocks(fit: SourceFit, runs: Sequence[NDArray[np.float32]]) -> list[GramStatistics]:
    """Statistics of each of the contiguous blocks that `fold_rows` names."""
    empty = fit.summarise(runs[0], 0, 0)
    found = [empty] * FOLDS
    for run, rows in zip(runs, fold_rows([len(run) for run in runs]), strict=True):
        for start, stop, fold in segments(rows):
            found[fold] = found[fold].plus(fit.summarise(run, start, stop))
    return found


def _sum(statistics: Sequence[GramStatistics]) -> GramStatistics:
    total = statistics[0]
    for each in statistics[1:]:
        total = total.plus(each)
    return total


def _with(statistics: GramStatistics, prior: GramStatistics | None, rows: float) -> GramStatistics:
    if prior is None or rows <= 0:
        return statistics
    return statistics.plus(prior, rows / (1.0 + statistics.rows / (_HALF * rows)))
