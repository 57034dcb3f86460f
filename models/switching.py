"""Machines that switch between states: stand still, and then nearly every sensor moves at once.

A ridge spreads its weight over a sensor's own last samples and all the others, and its penalty is a share of a variance that is the switches', so that
at a switch it expects half of it, and within a state sees little of what the sensors say of each other. A few switches a day then lift the threshold and are
the highest scores. A site whose training looks like that gets ridges of a tenth (`SOFTER`), residuals that are the smaller one of a ridge's own and of what the
others of the same instant leave (`models.sources.ridge`), and residuals in units of what they usually are when the other sensors move so much (`restlessness`). Elsewhere
it is not so: at servers that carry one load, what all do at once is what incidents look like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.known import known_mean
from models.sources.base import Traits

if TYPE_CHECKING:
    import tensorflow as tf

STEPS = 3
"""Steps over which a movement lasts: as many as a ridge looks back."""
SWITCHES = 5.0
"""So many times as far as usually must the sensors together move once in a thousand steps, for their machine to be one that switches."""
LARGEST_MOVE = 1.0
"""Change of a scaled reading from step to step that counts at most: one sensor that leaps is no machine that switches."""
SOFTER = 0.1
"""Share of a ridge's penalty that is left."""
FEWER_COMPONENTS = 0.25
"""Share of the components' weight that is left: they know no past, and see each switch."""
_ROWS = 65_536
_RARE = 0.001
_OFTEN = 3
"""Switches that a training must have seen: one is an incident."""
_STILL = 1e-3
"""Mean change below which a machine stands still; what is usual is said of the other steps."""
_RESTLESS = (0.0, *(10.0 ** np.linspace(-2, 5, 15)))


def switches(runs: Sequence[NDArray[np.floating]]) -> bool:
    """Whether scaled runs float[N_i, F] are of a machine that switches. Unknown cells say nothing."""
    together = np.concatenate([np.empty(0), *(_together(piece) for run in runs for piece in _pieces(run))])
    usual = together[together > _STILL]
    if not len(usual):
        return False
    far = together >= SWITCHES * np.median(usual)
    times = np.count_nonzero(far[1:] & ~far[:-1]) + int(far[0])
    return bool(times >= _OFTEN and far.mean() >= _RARE)


def as_elders_do(traits: list[Traits], rows: Sequence[int], enough: int) -> None:
    """Take sites with fewer than `enough` of the training `rows` for machines that switch if most of those with more are: they may not have been seen to yet."""
    elders = [row for row, known in enumerate(rows) if known >= enough]
    if 2 * sum(traits[row].switches for row in elders) > len(elders):
        for row in set(range(len(rows))) - set(elders):
            traits[row] = replace(traits[row], switches=True)


def _pieces(run: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """The run in parts that fit in memory several times over, each with the steps before it that its first change looks at."""
    for first in range(0, len(run), _ROWS):
        yield run[max(first - STEPS, 0) : first + _ROWS]


def _together(run: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean change over the sensors known at both steps, the largest of `STEPS` changes, [N - STEPS]; steps of which half as many as usual are known say nothing."""
    change = np.minimum(np.abs(np.diff(run, axis=0)), LARGEST_MOVE)
    known = np.isfinite(change)
    count = known.sum(axis=1)
    mean = np.where(known, change, 0.0).sum(axis=1) / np.maximum(count, 1)
    mean = mean[(count > 0) & (count >= 0.5 * count.mean())] if len(count) else mean
    return _largest(mean)


def movement(run: NDArray[np.floating]) -> NDArray[np.float64]:
    """By how much the *other* sensors moved, mean over them of the largest of the last `STEPS` changes: float64[N - STEPS, F] of scaled float[N, F].

    Unknown cells do not move. Without the sensor itself, whose faults it shall not excuse.
    """
    change = np.minimum(
        np.nan_to_num(np.abs(np.diff(np.asarray(run, np.float64), axis=0)), nan=0.0), LARGEST_MOVE
    )
    moved = _largest(change)
    return np.asarray((moved.sum(axis=1, keepdims=True) - moved) / max(moved.shape[1] - 1, 1))


def movement_tensor(joined: tf.Tensor, context: int) -> tf.Tensor:
    """As `movement`, float32[B, N, F], of scaled steps float32[B, context + N, F]."""
    import tensorflow as tf

    recent = joined[:, context - STEPS :]
    change = tf.abs(recent[:, 1:] - recent[:, :-1])
    change = tf.minimum(tf.where(tf.math.is_nan(change), 0.0, change), LARGEST_MOVE)
    count = tf.shape(joined)[1] - context
    moved = tf.reduce_max(tf.stack([change[:, lag : lag + count] for lag in range(STEPS)]), axis=0)
    return (tf.reduce_sum(moved, axis=2, keepdims=True) - moved) / max(joined.shape[2] - 1, 1)


def _largest(change: NDArray[np.floating]) -> NDArray[np.floating]:
    rows = max(len(change) - STEPS + 1, 0)
    return np.asarray(np.max([change[lag : lag + rows] for lag in range(STEPS)], axis=0))


def restlessness(
    residual: NDArray[np.float64], moved: NDArray[np.float64], floor: float
) -> NDArray[np.float64]:
    """By sensor the k, float64[F], with which `residual / sqrt(1 + k moved^2)` is most of one size: the likeliest of a few, for normal residuals.

    A variance that depends on what was seen just before, as in Engle's ARCH (Econometrica 1982), of the others instead of the residual's own past. `residual`, `moved` float64[N, F];
    NaN says nothing.
    """
    square = residual**2
    known = np.isfinite(square)
    losses = []
    for each in _RESTLESS:
        size = 1.0 + each * moved**2
        losses.append(known_mean(np.log(size), known) + np.log(known_mean(square / size, known) + floor**2))
    return np.asarray(_RESTLESS)[np.argmin(losses, axis=0)]


def damping(restless: NDArray[np.float64], moved: NDArray[np.float64]) -> NDArray[np.float64]:
    """What residuals are divided by, float64[N, F]."""
    return np.asarray(np.sqrt(1.0 + restless * moved**2))
