"""Dense autoencoder over a whole frame: what the frame cannot be rebuilt from is the residual."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from models.architectures.spec import ArchitectureSpec, known
from models.errors import InvalidModel

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderSpec(ArchitectureSpec):
    """`widths` of the encoder's layers, the last one the code; the decoder mirrors them."""

    name: ClassVar[str] = "autoencoder"
    shift_invariant: ClassVar[bool] = False

    widths: tuple[int, ...] = (128, 32)

    def __post_init__(self) -> None:
        """Refuse parameters that build no network."""
        if not self.widths or min(self.widths) < 1:
            raise InvalidModel(f"autoencoder needs widths >= 1, got {self.widths}")

    @property
    def context(self) -> int:
        """Zero: every step of the frame is rebuilt."""
        return 0

    def network(self, steps: int | None, sensors: int, seed: int) -> tf.keras.Model:
        """Frames `[B, T, F]` to their reconstruction `[B, T, F]`."""
        import tensorflow as tf

        layers = tf.keras.layers
        assert steps is not None
        size = steps * sensors
        frames = layers.Input((steps, sensors), dtype=tf.float32, name="frames")
        hidden = layers.Reshape((size,), name="flat")(known(frames))
        for index, width in enumerate((*self.widths, *reversed(self.widths[:-1]), size)):
            hidden = layers.Dense(
                width,
                activation="relu" if index < 2 * len(self.widths) - 1 else None,
                kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed * 1009 + index),
                name=f"dense{index}",
            )(hidden)
        return tf.keras.Model(
            frames, layers.Reshape((steps, sensors), name="rebuilt")(hidden), name=self.name
        )
