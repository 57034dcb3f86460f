"""An adaptive optimiser at the server: what FedAdam, FedYogi and FedAdagrad have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.federation.algorithms.base import Algorithm, Tensors, halves, zeros_like


@dataclass(frozen=True, kw_only=True)
class AdaptiveServer(Algorithm):
    """Reddi et al. (2021), "Adaptive Federated Optimization", algorithm 2.

    m = beta_1 m + (1 - beta_1) u for the mean update u; v as the optimiser has it;
    w = w + server_learning_rate m / (sqrt(v) + adaptivity). As in the paper v starts at adaptivity^2 and neither is corrected for
    its start.
    """

    server_learning_rate: float = 0.01
    beta_1: float = 0.9
    adaptivity: float = 1e-3

    @abstractmethod
    def second(self, moment: Any, square: Any) -> Any:
        """The second moment v after an update of which `square` is u^2."""

    def initial(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """No momentum, and the least second moment."""
        return zeros_like(weights) + [z + np.float32(self.adaptivity**2) for z in zeros_like(weights)]

    def step(
        self, state: Tensors, weights: Tensors, update: Tensors, contribution: Tensors, share: Any
    ) -> tuple[Tensors, Tensors]:
        """See the class."""
        import tensorflow as tf

        first, second = halves(state)
        first = [self.beta_1 * m + (1 - self.beta_1) * u for m, u in zip(first, update, strict=True)]
        second = [self.second(v, u * u) for v, u in zip(second, update, strict=True)]
        moved = [
            w + self.server_learning_rate * m / (tf.sqrt(v) + self.adaptivity)
            for w, m, v in zip(weights, first, second, strict=True)
        ]
        return first + second, moved
