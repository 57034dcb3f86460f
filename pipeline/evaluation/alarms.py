"""From flagged steps to alarms: what an operator is called for is a stretch, not a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

Stretch = tuple[int, int]
"""Half-open range of steps `[start, end)`."""


def stretches(flags: ArrayLike) -> list[Stretch]:
    """Contiguous true stretches of bool[N] as `[start, end)`.

    >>> stretches([True, True, False, True])
    [(0, 2), (3, 4)]
    """
    padded = np.r_[False, np.asarray(flags, bool), False].astype(np.int8)
    edges = np.flatnonzero(np.diff(padded))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def alarms(flagged: ArrayLike, scored: ArrayLike, hold_off: float) -> list[Stretch]:
    """Flagged steps bool[N] clumped as the live scorer clumps them: at most `hold_off` steps from one to the next is one alarm.

    Neighbouring steps always are. An alarm never reaches over a step that was not scored (`scored` bool[N]): there may be any span of time behind it.

    >>> flagged = [True, False, False, True, True]
    >>> alarms(flagged, [True] * 5, hold_off=2)
    [(0, 1), (3, 5)]
    >>> alarms(flagged, [True] * 5, hold_off=3)
    [(0, 5)]
    """
    at = np.flatnonzero(np.asarray(flagged, bool))
    if len(at) == 0:
        return []
    unscored = np.cumsum(~np.asarray(scored, bool))
    cuts = np.flatnonzero((np.diff(at) > max(hold_off, 1)) | (np.diff(unscored[at]) > 0)) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(at, cuts)]
