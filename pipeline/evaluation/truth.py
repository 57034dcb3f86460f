"""From labels to incidents and normal time, also where only some steps carry one.

What lies between two labels alike is theirs, unless they are further apart than `HELD` times what is usual for the machine. Between two that
differ, and beyond, nobody can tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
HELD = 5
"""So many usual distances from one label to the next are bridged, as a sensor's last value is held (`dataset.hold`)."""

Known = tuple[int, int, int]
"""Half-open range of rows `[begin, end)` that begins and ends with a label, and what it says: 1 in an incident, 0 normal."""


def reach(at: Iterable[NDArray[np.int64]]) -> float:
    """How far apart two labels may be for what lies between them to be theirs, from where a machine's labels are: int64[N_i], one array a run, times or step numbers."""
    spacings = np.concatenate([np.zeros(0, np.int64), *(np.diff(each) for each in at)])
    return HELD * float(np.median(spacings)) if len(spacings) else 0.0


def known_stretches(at: NDArray[np.int64], label: NDArray[np.int8], most: float) -> list[Known]:
    """Unbroken stretches of one label of int8[N] (1, 0 or `UNKNOWN`), each at most `most` from the next; `at` int64[N] increases, times or step numbers.

    >>> known_stretches(np.arange(7), np.array([0, -1, 0, 1, -1, -1, 1], np.int8), 2)
    [(0, 3, 0), (3, 4, 1), (6, 7, 1)]
    """
    rows = np.flatnonzero(label != UNKNOWN)
    if len(rows) == 0:
        return []
    cuts = np.flatnonzero((np.diff(label[rows]) != 0) | (np.diff(at[rows]) > most)) + 1
    return [(int(part[0]), int(part[-1]) + 1, int(label[part[0]])) for part in np.split(rows, cuts)]


@dataclass(frozen=True)
class Truth:
    """What is known of N evenly spaced steps.

    Attributes:
      label: int8[N], 1 in an incident, 0 normal, -1 where nobody can tell.
      labelled: bool[N], which steps carry a label themselves.
      judged: bool[N], which carry one or lie between two that are near enough, alike or not.
    """

    label: NDArray[np.int8]
    labelled: NDArray[np.bool_]
    judged: NDArray[np.bool_]

    @classmethod
    def of(cls, label: NDArray[np.int8], most: float) -> Truth:
        """From the labels int8[N] of a run's steps; `most` steps between two are bridged."""
        step = np.arange(len(label))
        labelled = label != UNKNOWN
        held, judged = np.full(len(label), UNKNOWN, np.int8), np.zeros(len(label), bool)
        for begin, end, value in known_stretches(step, label, most):
            held[begin:end] = value
        for begin, end, _ in known_stretches(step, np.where(labelled, 0, UNKNOWN).astype(np.int8), most):
            judged[begin:end] = True
        return cls(held, labelled, judged)
