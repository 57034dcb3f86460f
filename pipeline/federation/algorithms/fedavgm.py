"""Federated averaging with momentum at the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.federation.algorithms.base import Algorithm, Tensors, zeros_like


@dataclass(frozen=True, kw_only=True)
class FedAvgM(Algorithm):
    """Hsu, Qi, Brown (2019), "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification".

    v = momentum v + mean update; w = w + server_learning_rate v. A step that all rounds agree on grows to
    1 / (1 - momentum) times the update, which the default rate undoes.
    """

    name: ClassVar[str] = "fedavgm"

    server_learning_rate: float = 0.1
    momentum: float = 0.9

    def initial(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """No velocity."""
        return zeros_like(weights)

    def step(
        self, state: Tensors, weights: Tensors, update: Tensors, contribution: Tensors, share: Any
    ) -> tuple[Tensors, Tensors]:
        """See the class."""
        velocity = [self.momentum * v + u for v, u in zip(state, update, strict=True)]
        return velocity, [w + self.server_learning_rate * v for w, v in zip(weights, velocity, strict=True)]
