"""Fit a linear source on every row, and beside it on all but each of five blocks, to see residuals it was not fitted on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.sources.base import LinearSource, SourceFit, Traits
from models.sources.gram import GramStatistics, federated_prior

FOLDS = 5
_HALF = 5.0
"""At so many times the prior's rows of its own, a site takes half of them."""
SHARES = (0.0, 1 / 64, 1 / 16, 1 / 4, 1.0)
"""Shares of the prior that are tried; of two that do equally well the smaller is taken."""
_LASTS = 10
"""Steps that a fault lasts with which shares are compared: the middle one of the averages of the score."""
_SEEN = 1e-3
"""A shift of which less than this is left counts as one of which this is left: it is not seen either way."""

_CAP = 100.0
"""Largest squared residual over its usual size that counts: that of a score."""

Select = Callable[["NDArray[np.float64]"], int]

PriorWithout = Callable[[int], "GramStatistics | None"]
"""What an average row of the sites is like, without the site of a row; None if there is no other."""

ChooseShare = Callable[[int, PriorWithout, "NDArray[np.float64]"], int]
"""Which of `SHARES` a row takes, by how much less a fault of its held-back rows is `hidden` with each than with the first, float64[len(SHARES)]."""


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
    traits: Sequence[Traits],
    prior: PriorWithout | None = None,
    *,
    trusting: bool = False,
    choose: ChooseShare | None = None,
    fleet: bool = True,
) -> tuple[tuple[LinearSource, ...], dict[int, tuple[LinearSource, ...]]]:
    """Sources over all rows, and for each row of `alone` and the fleet's those over its folds.

    `scaled` holds the runs float32[N, F] of each row: the sites, each in its own scaling, and with `fleet` that last, in its own.
    Beside its own rows a site is fitted with what rows of the other sites are like on average. That is worth `prior_rows` rows to
    a site that has few of its own and less and less to one that has many; a site of `alone` takes that share of it, from nothing to
    the whole, with which a fault would stand out most from its own rows that were held back, or the one that `choose` names, unless `trusting`. A site's own rows
    are no part of its prior, or what was left out of a fold would be learned from after all, and the fit that is kept would be
    another than the one that was judged. `prior` gives those averages where they come from elsewhere than `scaled`.
    """
    blocks = [blocks_of(fit, runs) for runs in scaled]
    totals = [total_of(of_row) for of_row in blocks]
    sites = range(len(scaled) - fleet)
    if prior is None:

        def prior(without: int) -> GramStatistics | None:
            return federated_prior([totals[row] for row in alone or sites if row != without])

    full, held = [], {}
    for row in sites:
        others = prior(row)
        share = 1.0
        if row in alone:
            select = _smallest if choose is None else functools.partial(choose, row, prior)
            share, held[row] = _held_out(
                fit, blocks[row], totals[row], others, prior_rows, traits[row], None if trusting else select
            )
        full.append(_with(totals[row], others, prior_rows, share))
    if fleet:
        last = len(sites)
        _, held[last] = _held_out(fit, blocks[last], totals[last], None, prior_rows, traits[last], None)
        full.append(totals[last])
    return fit.solve(full, traits), held


def _smallest(hides: NDArray[np.float64]) -> int:
    return int(np.argmin(hides))


def _held_out(
    fit: SourceFit,
    blocks: Sequence[GramStatistics],
    total: GramStatistics,
    others: GramStatistics | None,
    prior_rows: float,
    traits: Traits,
    select: Select | None,
) -> tuple[float, tuple[LinearSource, ...]]:
    """The share of the prior that `select` names, and the sources fitted with it on all but each block."""
    if others is None or prior_rows <= 0 or select is None:
        return 1.0, without_each(fit, blocks, total, others, prior_rows, 1.0, traits)
    # Of hundreds of sensors the sources of every share are too large to keep: only those of the share that has hidden least so far are.
    hides: list[float] = []
    for share in SHARES:
        sources = without_each(fit, blocks, total, others, prior_rows, share, traits)
        hides.append(hidden(sources, blocks, total))
        if np.argmin(hides) == len(hides) - 1:
            best, kept = share, sources
    share = SHARES[select(np.asarray(hides) - hides[0])]
    if share == best:
        return share, kept
    return share, without_each(fit, blocks, total, others, prior_rows, share, traits)


def without_each(
    fit: SourceFit,
    blocks: Sequence[GramStatistics],
    total: GramStatistics,
    others: GramStatistics | None,
    prior_rows: float,
    share: float,
    traits: Traits,
) -> tuple[LinearSource, ...]:
    """Sources with one row for each block, fitted on the others of `total` and a share of what an average row of the other sites is like."""
    left = [total.plus(block, -1.0) for block in blocks]
    return solve_beside(fit, left, others, prior_rows, share, traits)


def solve_beside(
    fit: SourceFit,
    statistics: Sequence[GramStatistics],
    others: GramStatistics | None,
    prior_rows: float,
    share: float,
    traits: Traits,
) -> tuple[LinearSource, ...]:
    """Sources with one row for each of `statistics` and a share of what an average row of the other sites is like."""
    beside = [_with(each, others, prior_rows, share) for each in statistics]
    return fit.solve(beside, [traits] * len(beside))


def hidden(sources: Sequence[LinearSource], blocks: Sequence[GramStatistics], total: GramStatistics) -> float:
    """How little a fault stands out: mean over sources and sensors that move of the logarithm of the mean over blocks, each judged by its own row, of the
    squared residual as a share of what a lasting shift of the sensor leaves of itself; `total` is the blocks' sum.

    Not the residual alone: what follows a sensor by itself or by its own past leaves little of a normal step, and as little of a fault.
    """
    moves = _moving(sources[0], total)
    if not moves.any():
        return 0.0
    found = []
    for source in sources:
        of_block = [
            _left_over(source, i, block) / np.maximum(shift_left(source.coefficients(i)), _SEEN**2)
            for i, block in enumerate(blocks)
        ]
        found.append(float(np.mean(np.log(np.sum(of_block, axis=0)[moves] / total.rows))))
    return float(np.mean(found))


def hidden_later(
    sources: Sequence[LinearSource],
    held_out: Sequence[LinearSource],
    blocks: Sequence[GramStatistics],
    total: GramStatistics,
    later: GramStatistics,
) -> float:
    """The same of a fault among `later` rows, by `sources` whose unit is what `held_out` left of the blocks: by the mean over sensors, and not only by each sensor's own,
    of how far off the later rows are in that unit, each at most `_CAP`.

    A score is a sum over sensors: one that came to be ten times as far off as it was hides a fault at any other.
    """
    moves = _moving(sources[0], total)
    if not moves.any():
        return 0.0
    found = []
    for source, held in zip(sources, held_out, strict=True):
        unit = np.sum([_left_over(held, i, block) for i, block in enumerate(blocks)], axis=0) / total.rows
        left = np.maximum(shift_left(source.coefficients(0)), _SEEN**2)
        size = np.minimum(_left_over(source, 0, later) / later.rows / unit, _CAP)
        found.append(float(np.mean(np.log(unit / left)[moves]) + np.log(size[moves].mean())))
    return float(np.mean(found))


def _moving(source: LinearSource, rows: GramStatistics) -> NDArray[np.bool_]:
    """Sensors bool[F] that the rows show to move."""
    return np.asarray(np.diag(rows.gram)[: source.coefficients(0).shape[1]] > 0)


def _left_over(source: LinearSource, row: int, rows: GramStatistics) -> NDArray[np.float64]:
    """Sum over the rows of each sensor's squared residual by that row of the source, float64[F]. What lies under the floor anyway is not worth being predicted better."""
    return rows.unexplained(source.coefficients(row)) + rows.rows * source.floor**2


def shift_left(coefficients: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean square, float64[F], over its first `_LASTS` steps, of the residual that a shift of each sensor by 1 leaves.

    `coefficients` float[D, F] predict the sensors from a design `[z_t | z_{t-1} | .. | 1]`.
    """
    sensors = coefficients.shape[1]
    lags = (len(coefficients) - 1) // sensors
    own = np.asarray(coefficients[:-1], np.float64).reshape(lags, sensors, sensors)
    left = 1.0 - np.cumsum(np.einsum("lff->lf", own), axis=0)
    steps = np.ones(lags)
    steps[-1] = _LASTS - lags + 1
    return np.asarray(steps @ left**2 / _LASTS)


def blocks_of(fit: SourceFit, runs: Sequence[NDArray[np.float32]]) -> list[GramStatistics]:
    """Statistics of each of the contiguous blocks that `fold_rows` names."""
    empty = fit.summarise(runs[0], 0, 0)
    found = [empty] * FOLDS
    for run, rows in zip(runs, fold_rows([len(run) for run in runs]), strict=True):
        for start, stop, fold in segments(rows):
            found[fold] = found[fold].plus(fit.summarise(run, start, stop))
    return found


def sum_of(fit: SourceFit, runs: Sequence[NDArray[np.float32]]) -> GramStatistics:
    """Statistics of all steps of scaled runs float32[N_i, F], of which there is at least one."""
    return total_of([fit.summarise(run, 0, len(run)) for run in runs])


def total_of(statistics: Sequence[GramStatistics]) -> GramStatistics:
    """The sum of at least one."""
    total = statistics[0]
    for each in statistics[1:]:
        total = total.plus(each)
    return total


def _with(
    statistics: GramStatistics, prior: GramStatistics | None, rows: float, share: float
) -> GramStatistics:
    if prior is None or rows <= 0 or share <= 0:
        return statistics
    return statistics.plus(prior, share * rows / (1.0 + statistics.rows / (_HALF * rows)))
