"""Sensors that never moved in training and wake up while scoring: commissioned, repaired, connected, or the fault itself.

Training saw one value, or none, so that any other is as good: nothing tells a repaired sensor from an emergency stop, but that the
sensor goes on. The first steps away from the training's value therefore count as any other, so that an alert is raised and names the
sensor; then it is not heard, as if it still rested, until it has rested at that value again. Pure numpy, but for `wake`, the same arithmetic in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.scaling import CONSTANT, as_float32
from models.sensors import SensorHistory
from models.threshold import INDEPENDENT

if TYPE_CHECKING:
    import tensorflow as tf

MEMORY = ("awake", "rested")
"""Readings away from the training's value since the sensor last rested, and those at it since the last one away; int32 each."""


def told_after(spans: Sequence[int]) -> int:
    """Readings for which a sensor that woke up counts, and for which it must rest to begin anew: after so many steps, three of the
    longest averages, nothing of the former score is left."""
    return INDEPENDENT * max(spans)


def resting(history: SensorHistory) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Between which values, float32[..., F] each, a sensor that never moved is at rest: its training's value and rounding noise.

    Without end for one that moved, nowhere for one that was never seen.
    """
    low, high = (np.asarray(each, np.float64) for each in (history.lowest, history.highest))
    noise = CONSTANT * np.maximum(np.abs(low), np.abs(high))
    seen = history.readings > 0
    moved = seen & (high - low > noise)
    slack = np.where(seen, noise, 0.0)
    return (
        as_float32(np.where(moved, -np.inf, low - slack)),
        as_float32(np.where(moved, np.inf, high + slack)),
    )


def no_memory(sensors: int) -> dict[str, NDArray[np.int32]]:
    """Memory of a machine whose sensors have not woken up."""
    return {name: np.zeros(sensors, np.int32) for name in MEMORY}


def follow(
    history: SensorHistory, memory: Mapping[str, NDArray[Any]], rows: NDArray[np.floating], told: int
) -> dict[str, NDArray[np.int32]]:
    """`MEMORY` int32[F] after raw rows float[N, F] of a machine at the row that `history` is of; `told` as `told_after`."""
    if not len(rows):
        return {name: np.asarray(memory[name], np.int32) for name in MEMORY}
    values = as_float32(rows)
    low, high = resting(history)
    known = np.isfinite(values)
    off = known & ((values < low) | (values > high))
    away, rest = np.cumsum(off, axis=0), np.cumsum(known & ~off, axis=0)
    rested = rest - np.maximum.accumulate(np.where(off, rest, -memory["rested"]), axis=0)
    anew = np.where(rested >= told, away, -memory["awake"])
    awake = (away - np.maximum.accumulate(anew, axis=0))[-1]
    return {
        "awake": awake.astype(np.int32),
        "rested": np.where(awake > 0, rested[-1], 0).astype(np.int32),
    }


def wake(
    low: tf.Tensor, high: tf.Tensor, raw: tf.Tensor, state: Mapping[str, tf.Tensor], told: int
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """At which steps each sensor is not to be heard, bool[B, N, F], and `MEMORY` int32[B, F] after the last of them.

    `raw` float32[B, N, F]; `low`, `high` float32[B, F] as `resting` gives them. A step without a reading counts neither way.
    """
    import tensorflow as tf

    # Few sensors never moved, and they alone are looked at: each pass over all cells counts.
    still = tf.reduce_any(low > -np.inf, axis=0)
    chosen = tf.reshape(tf.where(still), (-1,))
    place = tf.where(still, tf.cumsum(tf.cast(still, tf.int32)), 0)

    def every(found: tf.Tensor) -> tf.Tensor:
        """[B, N, F] of what was found for the chosen, 0 for the others."""
        return tf.gather(tf.pad(found, [[0, 0], [0, 0], [1, 0]]), place, axis=2)

    values = tf.gather(raw, chosen, axis=2)
    low, high = (tf.gather(each, chosen, axis=1)[:, None] for each in (low, high))
    before, rested_before = (tf.gather(state[name], chosen, axis=1)[:, None] for name in MEMORY)
    known = tf.math.is_finite(values)
    off = tf.logical_and(known, tf.logical_or(values < low, values > high))
    away = tf.cumsum(tf.cast(off, tf.int32), axis=1)
    rest = tf.cumsum(tf.cast(tf.logical_and(known, tf.logical_not(off)), tf.int32), axis=1)
    rested = rest - _highest(tf.where(off, rest, -rested_before))
    awake = away - _highest(tf.where(rested >= told, away, -before))
    last, last_rested = (
        tf.concat(each, axis=1)[:, -1:] for each in ((before, awake), (rested_before, rested))
    )
    muted = awake > told
    muted = tf.cond(tf.reduce_any(muted), lambda: every(muted), lambda: tf.zeros_like(raw, tf.bool))
    return muted, {
        "awake": every(last)[:, 0],
        "rested": every(tf.where(last > 0, last_rested, 0))[:, 0],
    }


def _highest(values: tf.Tensor) -> tf.Tensor:
    """Running maximum of int32[B, N, F] along N, in log2(N) passes."""
    import tensorflow as tf

    count = tf.shape(values)[1]

    def double(reach: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        earlier = tf.pad(found[:, :-reach], [[0, 0], [reach, 0], [0, 0]], constant_values=tf.int32.min)
        return 2 * reach, tf.maximum(found, earlier)

    shape = tf.TensorShape((None, None, None))
    _, found = tf.while_loop(
        lambda reach, _: reach < count,
        double,
        (tf.constant(1), values),
        shape_invariants=(tf.TensorShape(()), shape),
        parallel_iterations=1,
    )
    return found
