"""What is remembered between two steps, said once: names, sizes and kinds of its tensors, and of each sensor what rules go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models import waking
from models.sensors import MEMORY, SensorHistory, follow, no_memory

if TYPE_CHECKING:
    import tensorflow as tf

SENSOR_MEMORY = (*MEMORY, *waking.MEMORY)
"""Parts of the state that the rules on sensors go by, one number a sensor."""
STATE = ("recent", "seen", "baseline", "level", "margin", "average", *SENSOR_MEMORY)
SLOW = ("baseline", "level", "margin", *SENSOR_MEMORY)
"""Parts of the state that a gap in the data does not end."""

_COUNTS = ("seen", "held", "absent", *waking.MEMORY)


@dataclass(frozen=True)
class StateShape:
    """Sizes of a state of B stretches: `recent` float32[B, C, F], `seen` int32[B], `baseline` and `level` float32[B, S, F],
    `margin` float32[B], `average` float32[B, A, F], `last_value` float32[B, F], `held`, `absent`,
    `awake` and `rested` int32[B, F]."""

    context: int
    sensors: int
    sources: int
    averages: int

    def of(self, name: str) -> tuple[int, ...]:
        """Dimensions of one tensor behind the batch."""
        return {
            "recent": (self.context, self.sensors),
            "seen": (),
            "baseline": (self.sources, self.sensors),
            "level": (self.sources, self.sensors),
            "margin": (),
            "average": (self.averages, self.sensors),
            **dict.fromkeys(SENSOR_MEMORY, (self.sensors,)),
        }[name]

    def specs(self, batch: int | None = None) -> Mapping[str, tf.TensorSpec]:
        """TensorFlow's types of a state of `batch` stretches, in the order of `STATE`."""
        import tensorflow as tf

        return {
            name: tf.TensorSpec((batch, *self.of(name)), tf.int32 if name in _COUNTS else tf.float32, name)
            for name in STATE
        }


def no_sensor_memory(sensors: int) -> dict[str, NDArray[Any]]:
    """`SENSOR_MEMORY`, [F] each, of a machine of which nothing was heard."""
    return {**no_memory(sensors), **waking.no_memory(sensors)}


def follow_sensors(
    history: SensorHistory,
    memory: Mapping[str, NDArray[Any]],
    rows: NDArray[np.floating],
    told: int | None,
) -> dict[str, NDArray[Any]]:
    """`SENSOR_MEMORY` after raw rows float[N, F] of a machine at the row that `history` is of, behind `memory`.

    `told` as `waking.told_after` gives it; None for detectors exported before sensors could wake up: `waking.MEMORY` is then neither
    wanted nor given.
    """
    followed = follow(memory, rows)
    return followed if told is None else {**followed, **waking.follow(history, memory, rows, told)}
