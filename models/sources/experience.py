"""What sites with a history say of how much a young one should take from others: they play young themselves.

A machine of two hundred rows cannot tell what later rows will be like; blocks held back of the same hours are predicted well by what was fitted on the
others of them. A site with weeks can: it takes as many rows out of its history, fits on them with each share of the others' statistics beside, and looks at the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from models.scaling import SensorMoments, SensorScaling, moments
from models.sources.base import SourceFit, Traits
from models.sources.folds import (
    FOLDS,
    SHARES,
    blocks_of,
    hidden,
    hidden_later,
    solve_beside,
    sum_of,
    total_of,
    without_each,
)
from models.sources.gram import GramStatistics

LONGER = 4
"""A site tells of stretches that its history is so many times as long as."""
_PLACES = (0.3, 0.7)
"""Where the stretches lie in a history."""
_JUDGED, _PIECES = 8192, 16
"""Rows of the rest that are looked at, and in how many pieces, evenly spread."""
_TELLS = 0.5
"""How much of what a young site's own blocks say differently from those of the others at its age is believed."""
_SURE, _FEWEST_SITES = 0.95, 2

Runs = Sequence[NDArray[np.floating]]


@dataclass(frozen=True, eq=False)
class Experience:
    """Sums over `sites` sites, each float64[len(SHARES)], of how much less a fault is `hidden` with each share than with none.

    Attributes:
      later: in rows the sources were not fitted near. `held_back`: in held-back blocks of the stretch, which a young site sees too.
      apart_squared: of the square of `later - held_back / 2`.
    """

    sites: float
    later: NDArray[np.float64]
    held_back: NDArray[np.float64]
    apart_squared: NDArray[np.float64]

    @classmethod
    def of(cls, later: NDArray[np.float64], held_back: NDArray[np.float64]) -> Experience:
        """One site's, from means over its stretches."""
        return cls(1.0, later, held_back, np.square(later - _TELLS * held_back))

    def plus(self, other: Experience) -> Experience:
        """The sum."""
        return Experience(
            self.sites + other.sites,
            self.later + other.later,
            self.held_back + other.held_back,
            self.apart_squared + other.apart_squared,
        )

    def best(self, held_back: NDArray[np.float64]) -> int:
        """Which of the shares a young site should take, given the same of its own blocks; the first, nothing, unless another is surely better (Student's t).

        Its later rows are expected to be as those of the others were, moved by half of what its blocks say differently from theirs.
        """
        if self.sites < _FEWEST_SITES:
            return int(np.argmin(held_back))
        others = (self.later - _TELLS * self.held_back) / self.sites
        spread = np.maximum(self.apart_squared / self.sites - others**2, 0.0)
        error = np.sqrt(spread / (self.sites - 1.0))
        expected = others + _TELLS * held_back
        best = int(np.argmin(expected))
        return best if expected[best] < -t.ppf(_SURE, self.sites - 1.0) * error[best] else 0


def added(each: Iterable[Experience]) -> Experience | None:
    """The sum over sites; None without any."""
    found = list(each)
    return functools.reduce(Experience.plus, found) if found else None


def age(rows: int) -> int:
    """The length of history that stands for one of so many rows: the nearest power of two."""
    return int(2 ** round(np.log2(max(rows, 1))))


def experience(
    fit: SourceFit,
    runs: Runs,
    rows: int,
    young: Callable[[SensorMoments], SensorScaling],
    others: GramStatistics,
    prior_rows: float,
    traits: Callable[[Sequence[NDArray[np.float32]]], Traits],
    floor: NDArray[np.float64] | None = None,
) -> Experience | None:
    """What a site with raw runs float[N_i, F] tells of histories of `rows` rows; None if its own is not `LONGER` times as long, or in runs too short to
    tell anything.

    `young` gives the scaling that it would have with so little, `traits` what scaled runs say of the machine, `floor` those whose logarithm is taken (`models.logarithms`), `others` what an average row of the other sites is like.
    """
    total = sum(len(run) for run in runs)
    if total < LONGER * rows or rows < FOLDS * (fit.context + 1):
        return None
    later, held_back = [], []
    for place in _PLACES:
        first = int(place * (total - rows))
        own = cut(runs, first, first + rows)
        scaling = young(moments(own, runs[0].shape[1], floor))
        scaled = [scaling.apply(run) for run in own]
        rest = [scaling.apply(run) for run in _rest(runs, first, first + rows)]
        blocks, far = blocks_of(fit, scaled), sum_of(fit, rest)
        whole, kept = total_of(blocks), traits(scaled)
        if min(whole.rows, far.rows) < 1:
            return None
        found = []
        for share in SHARES:
            sources = solve_beside(fit, [whole], others, prior_rows, share, kept)
            held_out = without_each(fit, blocks, whole, others, prior_rows, share, kept)
            found.append(
                (hidden_later(sources, held_out, blocks, whole, far), hidden(held_out, blocks, whole))
            )
        differences = np.asarray(found) - found[0]
        later.append(differences[:, 0])
        held_back.append(differences[:, 1])
    return Experience.of(np.mean(later, axis=0), np.mean(held_back, axis=0))


def cut(runs: Runs, first: int, stop: int) -> list[NDArray[np.floating]]:
    """Rows `first` to `stop` of the runs as one, in pieces that do not cross runs."""
    found, begins = [], 0
    for run in runs:
        part = run[max(first - begins, 0) : max(stop - begins, 0)]
        if len(part):
            found.append(part)
        begins += len(run)
    return found


def _rest(runs: Runs, first: int, stop: int) -> list[NDArray[np.floating]]:
    """Rows before `first` and from `stop` on: all, or `_JUDGED` of them in pieces evenly spread."""
    total = sum(len(run) for run in runs)
    found = []
    for begins, ends in ((0, first), (stop, total)):
        edges = np.linspace(begins, ends, _PIECES + 1).astype(int)
        most = max(1, _JUDGED * (ends - begins) // max(1, total - (stop - first)) // _PIECES)
        for left, right in pairwise(edges):
            found += cut(runs, int(left), min(int(right), int(left) + most))
    return found
