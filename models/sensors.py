"""Sensors judged by rule, not by score: what each was in training, and which are stuck, saturated or dead now.

A rule is plain: a sensor that moved in training and now shows one value for more than three times its longest unmoved stretch is
stuck, and saturated if that value is an end of its range in training; one that gives nothing for more than three times its longest
silence is dead. Pure numpy, but for `trailing`, the same arithmetic in the graph that carries it from step to step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.scaling import as_float32

if TYPE_CHECKING:
    import tensorflow as tf

MEMORY = ("last_value", "held", "absent")
STUCK, SATURATED, DEAD, WOKE_UP = "stuck", "saturated", "dead", "woke up"
NEVER_SEEN, CONSTANT, WANDERS = "never seen", "constant", "wanders"
_TIMES = 3
_LEAST = 30
"""Readings or steps below which nothing is called stuck or dead, however lively a short training was."""
_WANDERS = 0.5
"""Share of a sensor's variance between five blocks of training from which on it wanders."""


@dataclass(frozen=True, eq=False)
class SensorHistory:
    """What sensors were in training: float32[F] each, stacked over sites float32[R, F].

    `lowest`, `highest`: ends of the range. `held`: most readings in a row that showed one value. `absent`: most steps in a row without a
    reading. `readings`: how many there were. `wander`: share of variance that lies between five blocks.
    """

    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    held: NDArray[np.float32]
    absent: NDArray[np.float32]
    readings: NDArray[np.float32]
    wander: NDArray[np.float32]

    @classmethod
    def of(cls, runs: Sequence[NDArray[np.floating]], wander: NDArray[np.floating]) -> SensorHistory:
        """History of raw runs float[N, F], at least one; `wander` float[F]."""
        rows = [as_float32(run) for run in runs]
        every = np.concatenate(rows)
        known = np.isfinite(every)
        found = [np.array([_longest(column) for column in run.T]).reshape(-1, 2) for run in rows]
        longest = np.max(found, axis=0)
        return cls(
            lowest=np.where(known, every, np.inf)
            .min(axis=0, initial=np.inf)
            .clip(max=np.finfo(np.float32).max),
            highest=np.where(known, every, -np.inf)
            .max(axis=0, initial=-np.inf)
            .clip(min=np.finfo(np.float32).min),
            held=longest[:, 0].astype(np.float32),
            absent=longest[:, 1].astype(np.float32),
            readings=known.sum(axis=0).astype(np.float32),
            wander=np.asarray(wander, np.float32),
        )

    @classmethod
    def stacked(cls, rows: Sequence[SensorHistory]) -> SensorHistory:
        """All rows as one."""
        return cls(*(np.stack([getattr(row, each.name) for row in rows]) for each in dataclasses.fields(cls)))

    def row(self, index: int) -> SensorHistory:
        """One row of several."""
        return SensorHistory(*(getattr(self, each.name)[index] for each in dataclasses.fields(self)))

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """All arrays by name."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Sensors that showed one value through all of training."""
        return np.asarray((self.readings > 0) & (self.lowest == self.highest))

    def in_training(self, sensors: Sequence[str]) -> dict[str, str]:
        """Sensors of a row that were not ordinary, and what they were: never seen, constant or wandering."""
        found = {}
        for i, name in enumerate(sensors):
            if self.readings[i] == 0:
                found[name] = NEVER_SEEN
            elif self.constant[i]:
                found[name] = CONSTANT
            elif self.wander[i] >= _WANDERS:
                found[name] = WANDERS
        return found

    def suspects(self, sensors: Sequence[str], memory: Mapping[str, NDArray[Any]]) -> dict[str, str]:
        """Sensors of a row that a machine with this memory (`MEMORY`, [F] each) cannot rely on now, and why; `awake` there names those
        that woke up (`models.waking`)."""
        awake = memory.get("awake", np.zeros(len(sensors), np.int32))
        found = {}
        for i, name in enumerate(sensors):
            value, seen = memory["last_value"][i], self.readings[i] > 0
            if seen and memory["absent"][i] > max(_TIMES * self.absent[i], _LEAST):
                found[name] = DEAD
            elif awake[i] > 0:
                found[name] = WOKE_UP
            elif seen and not self.constant[i] and memory["held"][i] > max(_TIMES * self.held[i], _LEAST):
                found[name] = SATURATED if value >= self.highest[i] or value <= self.lowest[i] else STUCK
        return found


def no_memory(sensors: int) -> dict[str, NDArray[Any]]:
    """Of a machine of which nothing was heard."""
    zero = np.zeros(sensors, np.int32)
    return {"last_value": np.full(sensors, np.nan, np.float32), "held": zero, "absent": zero}


def follow(memory: Mapping[str, NDArray[Any]], rows: NDArray[np.floating]) -> dict[str, NDArray[Any]]:
    """Memory after raw rows float[N, F]: the last value, the readings in a row that showed it, the steps since a reading."""
    values = as_float32(rows)
    known = np.isfinite(values)
    at = np.arange(1, len(values) + 1)[:, None]
    last = np.max(at * known, axis=0, initial=0)
    value = np.where(
        last > 0,
        np.take_along_axis(
            np.concatenate([memory["last_value"][None], np.where(known, values, 0)]), last[None], 0
        )[0],
        memory["last_value"],
    ).astype(np.float32)
    other = np.max(at * (known & (values != value)), axis=0, initial=0)
    same = (known & (at > other)).sum(axis=0)
    goes_on = (other == 0) & (memory["last_value"] == value)
    return {
        "last_value": value,
        "held": (same + np.where(goes_on, memory["held"], 0)).astype(np.int32),
        "absent": np.where(last > 0, len(values) - last, memory["absent"] + len(values)).astype(np.int32),
    }


def trailing(state: Mapping[str, tf.Tensor], raw: tf.Tensor) -> dict[str, tf.Tensor]:
    """As `follow`, of B machines in TensorFlow: `raw` float32[B, N, F], memory [B, F] each."""
    import tensorflow as tf

    count = tf.shape(raw)[1]
    known = tf.math.is_finite(raw)
    at = tf.range(1, count + 1)[None, :, None]
    # Before the first step, so that there is always one.
    ahead = tf.zeros_like(state["held"])[:, None]

    def latest(where: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(tf.concat([ahead, tf.where(where, at, 0)], axis=1), axis=1)

    last = latest(known)
    joined = tf.concat([state["last_value"][:, None], raw], axis=1)
    value = tf.squeeze(
        tf.gather(tf.transpose(joined, (0, 2, 1)), last[:, :, None], batch_dims=2, axis=2), axis=2
    )
    other = latest(tf.logical_and(known, raw != value[:, None]))
    same = tf.reduce_sum(tf.cast(tf.logical_and(known, at > other[:, None]), tf.int32), axis=1)
    goes_on = tf.logical_and(other == 0, state["last_value"] == value)
    return {
        "last_value": value,
        "held": same + tf.where(goes_on, state["held"], 0),
        "absent": tf.where(last > 0, count - last, state["absent"] + count),
    }


def _longest(column: NDArray[np.float32]) -> tuple[int, int]:
    """Most readings in a row of one value, and most steps in a row without a reading."""
    known = np.isfinite(column)
    values = column[known]
    edges = np.r_[0, np.flatnonzero(np.diff(values) != 0) + 1, len(values)]
    heard = np.r_[-1, np.flatnonzero(known), len(column)]
    return int(np.diff(edges).max(initial=0)), int(np.diff(heard).max(initial=1) - 1)
