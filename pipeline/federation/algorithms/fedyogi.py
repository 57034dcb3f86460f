"""Yogi at the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.federation.algorithms.base import Algorithm, Tensors, adaptive_step, halves, zeros_like


@dataclass(frozen=True, kw_only=True)
class FedYogi(Algorithm):
    """Reddi et al. (2021), "Adaptive Federated Optimization", algorithm 2.

    m = beta_1 m + (1 - beta_1) u for the mean update u; v = v - (1 - beta_2) u^2 sign(v - u^2);
    w = w + server_learning_rate m / (sqrt(v) + adaptivity). As in the paper v starts at adaptivity^2 and neither is corrected for
    its start.
    """

    name: ClassVar[str] = "fedyogi"

    server_learning_rate: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.99
    adaptivity: float = 1e-3

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
        second = [
            v - (1 - self.beta_2) * u * u * tf.sign(v - u * u) for v, u in zip(second, update, strict=True)
        ]
        return first + second, adaptive_step(
            weights, first, second, self.server_learning_rate, self.adaptivity
        )
