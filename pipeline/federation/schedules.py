"""The sites' learning rate over the rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

ScheduleName = Literal["constant", "cosine", "exponential"]


@dataclass(frozen=True)
class Schedule:
    """`peak` after `warmup` rounds of linear rise; then constant, half a cosine down to 0 after `rounds`, or times `decay` a round."""

    name: ScheduleName
    peak: float
    rounds: int
    warmup: int = 0
    decay: float = 0.95

    def at(self, number: Any) -> Any:
        """Give the rate of round `number`, an integer tensor from 1; float32 scalar."""
        import tensorflow as tf

        done = tf.cast(number, tf.float32) - 1.0
        rate = tf.constant(self.peak, tf.float32)
        after = tf.maximum(done - self.warmup, 0.0)
        if self.name == "exponential":
            rate *= tf.pow(tf.constant(self.decay, tf.float32), after)
        if self.name == "cosine":
            share = tf.minimum(after / max(1, self.rounds - self.warmup), 1.0)
            rate *= 0.5 * (1.0 + tf.cos(3.14159265 * share))
        return rate if self.warmup == 0 else rate * tf.minimum((done + 1.0) / self.warmup, 1.0)
