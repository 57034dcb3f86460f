"""Residuals of a federated network: truth minus prediction. The same weights serve every site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.architectures.spec import ArchitectureSpec, build
from models.errors import InvalidModel

if TYPE_CHECKING:
    import tensorflow as tf


_MODELS: dict[int, tuple[NetworkSource, tf.keras.Model]] = {}


@dataclass(frozen=True, eq=False)
class NetworkSource:
    """Architecture and weights (in the order of `tf.keras.Model.get_weights`) for frames of `steps` x `sensors`."""

    name: ClassVar[str] = "network"

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
        expected = [tuple(weight.shape) for weight in build(spec, steps, sensors, seed=0).weights]
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
    def context(self) -> int:
        """That of the architecture."""
        return self.spec.context

    @property
    def shift_invariant(self) -> bool:
        """That of the architecture."""
        return self.spec.shift_invariant

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """The weights, numbered."""
        return {f"weight{index:02d}": weight for index, weight in enumerate(self.weights)}

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """As `Source.residuals`."""
        return frames[:, self.context :] - self.model()(frames)

    def model(self) -> tf.keras.Model:
        """The Keras model with its weights, built once outside of any graph."""
        import tensorflow as tf

        found = _MODELS.get(id(self))
        if found is None or found[0] is not self:
            with tf.init_scope():
                steps = None if self.shift_invariant else self.steps
                model = build(self.spec, steps, self.sensors, seed=0)
                model.set_weights(list(self.weights))
            _MODELS.clear()
            found = _MODELS[id(self)] = (self, model)
        return found[1]
