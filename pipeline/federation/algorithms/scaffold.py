"""Steps that are corrected for how a site's gradient differs from the fleet's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.federation.algorithms.base import Algorithm, Site, Tensors, Worked, zeros_like


@dataclass(frozen=True, kw_only=True)
class Scaffold(Algorithm):
    """Karimireddy et al. (2020), "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", option II.

    A site steps along g - c_i + c. After K steps of size eta from x to y its control variate becomes
    c_i' = c_i - c + (x - y) / (K eta), and it sends y - x and c_i' - c_i. The server takes
    x = x + server_learning_rate mean(y - x) and c = c + |S| / N mean(c_i' - c_i) over the S of N sites that took part.
    c_i is the site's memory: it lies in a file of the site and never leaves it.
    """

    name: ClassVar[str] = "scaffold"
    remembers: ClassVar[bool] = True
    contributes: ClassVar[bool] = True
    equal_sites: ClassVar[bool] = True
    optimizers: ClassVar[tuple[str, ...]] = ("sgd",)

    def initial(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """No correction."""
        return zeros_like(weights)

    def for_sites(self, state: Tensors) -> Tensors:
        """The server's control variate."""
        return state

    def direction(self, gradients: Tensors, weights: Tensors, site: Site) -> Tensors:
        """See the class."""
        return [g - own + c for g, own, c in zip(gradients, site.remembered, site.received, strict=True)]

    def remember(self, worked: Worked, site: Site) -> Tensors:
        """The new control variate."""
        import tensorflow as tf

        share = tf.math.divide_no_nan(1.0, worked.steps * worked.learning_rate)
        moved = tf.cast(worked.steps > 0, tf.float32)
        return [
            own - moved * c - u * share
            for own, c, u in zip(site.remembered, site.received, worked.update, strict=True)
        ]

    def contribution(self, worked: Worked, site: Site, remembered: Tensors) -> Tensors:
        """How the control variate changed."""
        return [new - old for new, old in zip(remembered, site.remembered, strict=True)]

    def step(
        self, state: Tensors, weights: Tensors, update: Tensors, contribution: Tensors, share: Any
    ) -> tuple[Tensors, Tensors]:
        """See the class."""
        _, moved = super().step(state, weights, update, contribution, share)
        return [c + share * d for c, d in zip(state, contribution, strict=True)], moved
