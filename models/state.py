"""What is remembered between two steps: names, sizes and kinds of its tensors, said once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models import waking
from models.sensors import MEMORY

if TYPE_CHECKING:
    import tensorflow as tf

STATE = ("recent", "seen", "baseline", "level", "margin", "average", *MEMORY, *waking.MEMORY)
SLOW = ("baseline", "level", "margin", *MEMORY, *waking.MEMORY)
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
            **dict.fromkeys((*MEMORY, *waking.MEMORY), (self.sensors,)),
        }[name]

    def specs(self, batch: int | None = None) -> Mapping[str, tf.TensorSpec]:
        """TensorFlow's types of a state of `batch` stretches, in the order of `STATE`."""
        import tensorflow as tf

        return {
            name: tf.TensorSpec((batch, *self.of(name)), tf.int32 if name in _COUNTS else tf.float32, name)
            for name in STATE
        }
