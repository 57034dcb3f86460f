"""Residuals of a federated network: truth minus prediction. The same weights serve every site."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.architectures.spec import ArchitectureSpec, build
from models.errors import InvalidModel

if TYPE_CHECKING:
    import tensorflow as tf


_FRAMES = 256


@lru_cache(maxsize=64)
def _shapes(spec: ArchitectureSpec, steps: int, sensors: int) -> tuple[tuple[int, ...], ...]:
    """Shapes of the weights; a model is built to know them."""
    return tuple(tuple(weight.shape) for weight in build(spec, steps, sensors, seed=0).weights)


@dataclass(frozen=True, eq=False)
class NetworkSource:
    """Architecture and weights (in the order of `tf.keras.Model.get_weights`) for frames of `steps` x `sensors`."""

    name: ClassVar[str] = "network"
    excursion: ClassVar[bool] = False

    spec: ArchitectureSpec
    weights: tuple[NDArray[np.float32], ...]
    steps: int
    sensors: int
    floor: float = 0.5

    @classmethod
    def of(
        cls, spec: ArchitectureSpec, weights: Sequence[NDArray[np.floating]], steps: int, sensors: int
    ) -> NetworkSource:
        """Check that the weights fit the architecture and are finite.

        Raises:
          InvalidModel: they do not; the message names the first that differs.
        """
        arrays = tuple(np.asarray(weight, np.float32) for weight in weights)
        expected = list(_shapes(spec, steps, sensors))
        found = [array.shape for array in arrays]
        if expected != found:
            raise InvalidModel(
                f"weights of shapes {found} do not fit architecture {spec.name!r} with {sensors} sensors; expected {expected}"
            )
        for index, array in enumerate(arrays):
            if not np.isfinite(array).all():
                raise InvalidModel(
                    f"weight {index} of architecture {spec.name!r} holds NaN or infinity: training diverged; "
                    "lower the learning rate"
                )
        return cls(spec, arrays, steps, sensors)

    @property
    def networks(self) -> tuple[NetworkSource, ...]:
        """This one; others hold several."""
        return (self,)

    def copy(self) -> NetworkSource:
        """The same with a model of its own."""
        return replace(self)

    @property
    def context(self) -> int:
        """That of the architecture; a frame less one step where a step is judged by the frame that ends there."""
        return self.spec.context if self.spec.shift_invariant else self.steps - 1

    @property
    def build(self) -> Hashable:
        """As `Source.build`."""
        return (self.name, self.spec, self.steps)

    def tables(self) -> Mapping[str, NDArray[np.float32]]:
        """As `Source.tables`."""
        return {}

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """The weights, numbered."""
        return {f"weight{index:02d}": weight for index, weight in enumerate(self.weights)}

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """As `Source.residuals`."""
        if self.spec.shift_invariant:
            import tensorflow as tf

            # One step more, and one stretch where there is none, then cut off: a convolution over nothing at all is an error.
            batch = tf.shape(frames)[0]
            more = tf.pad(frames, [[0, tf.cast(tf.equal(batch, 0), tf.int32)], [0, 1], [0, 0]])
            predicted = self.model()(tf.ensure_shape(more, (None, None, self.sensors)))
            return frames[:, self.context :] - predicted[:batch, :-1]
        return self._frame_by_frame(frames)

    def _frame_by_frame(self, frames: tf.Tensor) -> tf.Tensor:
        """Residual of each step in the frame that ends there; groups of frames, so that memory does not grow with N."""
        import tensorflow as tf

        batch, count = tf.shape(frames)[0], tf.shape(frames)[1] - self.context
        ends = tf.range(batch * count)
        groups = -(-(batch * count) // _FRAMES)

        def step(group: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            chosen = ends[group * _FRAMES : (group + 1) * _FRAMES]
            at = tf.stack(
                [
                    tf.repeat((chosen // count)[:, None], self.steps, axis=1),
                    (chosen % count)[:, None] + tf.range(self.steps)[None],
                ],
                axis=2,
            )
            every = tf.ensure_shape(tf.gather_nd(frames, at), (None, self.steps, self.sensors))
            return group + 1, found.write(group, every[:, -1] - self.model()(every)[:, -1])

        found = tf.TensorArray(tf.float32, groups, element_shape=(None, self.sensors), infer_shape=False)
        _, found = tf.while_loop(lambda group, _: group < groups, step, (0, found), parallel_iterations=1)
        return tf.reshape(found.concat(), (batch, count, self.sensors))

    def model(self) -> tf.keras.Model:
        """The Keras model with its weights, this source's own."""
        return self._model

    @cached_property
    def _model(self) -> tf.keras.Model:
        import tensorflow as tf

        # Built once outside of any graph: a traced function only captures its variables.
        with tf.init_scope():
            steps = None if self.spec.shift_invariant else self.steps
            model = build(self.spec, steps, self.sensors, seed=0)
            model.set_weights(list(self.weights))
        return model
