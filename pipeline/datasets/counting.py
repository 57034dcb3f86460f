"""Sensors that count: pieces, operating hours, energy. What they read tomorrow lies beyond all that was learned, and is nothing odd."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOVES = 50
"""Moves one way, without one back, that no noise makes: by chance one in 10^15."""


def counts(runs: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """bool[F], which sensors of raw runs float64[N_i, F], at least one, only rise or only fall, and moved often.

    One that begins anew now and then is none: its readings stay where they were.
    """
    moves = [_moves(run) for run in runs]
    ups, downs = (np.sum([each[which] for each in moves], axis=0) for which in (0, 1))
    return (np.minimum(ups, downs) == 0) & (np.maximum(ups, downs) >= _MOVES)


def _moves(run: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64[F] each, moves up and down from one known reading to the next."""
    known = ~np.isnan(run)
    if known.all():
        # Compared, because the difference of huge values overflows.
        return (run[1:] > run[:-1]).sum(axis=0), (run[1:] < run[:-1]).sum(axis=0)
    each = [run[known[:, at], at] for at in range(run.shape[1])]
    return np.array([(one[1:] > one[:-1]).sum() for one in each]), np.array(
        [(one[1:] < one[:-1]).sum() for one in each]
    )
