"""Fit a linear source on every row, and beside it on all but each of five blocks, to see residuals it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.calibration import FOLDS, fold_rows, segments
from models.sources.base import Source, SourceFit
from models.sources.gram import GramStatistics, federated_prior


def fit_rows(
    fit: SourceFit,
    scaled: Sequence[Sequence[NDArray[np.float32]]],
    alone: Sequence[int],
    prior_rows: float,
) -> tuple[tuple[Source, ...], dict[int, tuple[Source, ...]]]:
    """Sources over all rows, and for each row of `alone` and the last one those over its folds.

    `scaled` holds the runs float32[N, F] of each row: the sites, each in its own scaling, and the fleet last, in its own.
    Sites share what their rows are like on average, worth `prior_rows` rows; with one site that changes nothing. The fold of
    a site takes the average of the other sites, or what was left out would be learned from after all.
    """
    blocks = [_blocks(fit, runs) for runs in scaled]
    totals = [_sum(of_row) for of_row in blocks]
    shared = federated_prior([totals[row] for row in alone])
    last = len(scaled) - 1
    whole = fit.solve([_with(total, shared, prior_rows) for total in totals[:last]] + totals[last:])
    held = {}
    for row in [*alone, last]:
        others = None if row == last else federated_prior([totals[other] for other in alone if other != row])
        left = [_with(totals[row].plus(block, -1.0), others, prior_rows) for block in blocks[row]]
        held[row] = fit.solve(left)
    return whole, held


def _blocks(fit: SourceFit, runs: Sequence[NDArray[np.float32]]) -> list[GramStatistics]:
    """Statistics of each of the contiguous blocks that `fold_rows` names."""
    empty = fit.summarise(runs[0], 0, 0)
    found = [empty] * FOLDS
    for run, rows in zip(runs, fold_rows([len(run) for run in runs], 0, FOLDS), strict=True):
        for start, stop, fold in segments(rows):
            found[fold] = found[fold].plus(fit.summarise(run, start, stop))
    return found


def _sum(statistics: Sequence[GramStatistics]) -> GramStatistics:
    total = statistics[0]
    for each in statistics[1:]:
        total = total.plus(each)
    return total


def _with(statistics: GramStatistics, prior: GramStatistics | None, rows: float) -> GramStatistics:
    return statistics if prior is None else statistics.plus(prior, rows)
