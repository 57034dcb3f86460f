"""Training loss of every architecture: robust, and blind to what was not measured."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class MaskedLoss(tf.keras.losses.Loss):
    """Huber loss (Huber 1964) between a prediction `float32[B, T', F]` and the last `T'` steps of its frame `float32[B, T, F]`.

    Cells whose truth is NaN weigh nothing; a frame without any truth has loss 0. Gives one value per frame, the mean over
    its known cells; the mean over frames follows. `delta` is in units of scaled sensors; `inf` makes it half the squared error.
    """

    def __init__(self, delta: float = 1.0, name: str = "masked_loss", **kwargs: Any) -> None:
        """Keep `delta`, where the loss turns from quadratic to linear."""
        super().__init__(name=name, **kwargs)
        self.delta = delta

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Loss per frame, `float32[B]`."""
        truth = y_true[:, tf.shape(y_true)[1] - tf.shape(y_pred)[1] :]
        known = tf.math.is_finite(truth)
        # The difference itself is masked, not the loss: NaN times zero is NaN, in the gradient too.
        error = tf.abs(tf.where(known, y_pred - tf.where(known, truth, 0.0), 0.0))
        inner = tf.minimum(error, self.delta)
        loss = inner * (error - 0.5 * inner)
        count = tf.reduce_sum(tf.cast(known, tf.float32), axis=(1, 2))
        return tf.reduce_sum(loss, axis=(1, 2)) / tf.maximum(count, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Parameters for Keras."""
        return {**super().get_config(), "delta": self.delta}


loss_fn = MaskedLoss()
"""`loss_fn(frames, prediction)`: the default, Huber with delta 1."""
