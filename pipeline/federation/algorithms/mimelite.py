"""Sites that step with the server's optimiser state, held still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from pipeline.federation.algorithms.base import Algorithm, Site, Tensors, Worked, halves, zeros_like


@dataclass(frozen=True, kw_only=True)
class MimeLite(Algorithm):
    """Karimireddy et al. (2020), "Mime: Mimicking Centralized Stochastic Algorithms in Federated Learning".

    The server's moments are of the sites' full gradients at the common weights; a site's steps use them without changing them.
    `base` is `sgd`, with momentum m = beta_1 m + (1 - beta_1) g and steps along beta_1 m + (1 - beta_1) g, or `adam`, which
    divides that by sqrt(v) + adaptivity with v = beta_2 v + (1 - beta_2) g^2. As in the paper neither is corrected for its start.
    """

    name: ClassVar[str] = "mimelite"
    contributes: ClassVar[bool] = True
    needs_full_gradient: ClassVar[bool] = True
    optimizers: ClassVar[tuple[str, ...]] = ("sgd", "adam")

    base: Literal["sgd", "adam"] = "sgd"
    beta_1: float = 0.9
    beta_2: float = 0.99
    adaptivity: float = 1e-3

    def initial(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """No moment."""
        return zeros_like(weights) + (zeros_like(weights) if self.base == "adam" else [])

    def for_sites(self, state: Tensors) -> Tensors:
        """All moments."""
        return state

    def direction(self, gradients: Tensors, weights: Tensors, site: Site) -> Tensors:
        """See the class."""
        if self.base == "sgd":
            return self._mixed(site.received, gradients)
        import tensorflow as tf

        first, second = halves(site.received)
        mixed = self._mixed(first, gradients)
        return [d / (tf.sqrt(v) + self.adaptivity) for d, v in zip(mixed, second, strict=True)]

    def contribution(self, worked: Worked, site: Site, remembered: Tensors) -> Tensors:
        """The full gradient at the common weights."""
        return worked.full_gradient

    def step(
        self, state: Tensors, weights: Tensors, update: Tensors, contribution: Tensors, share: Any
    ) -> tuple[Tensors, Tensors]:
        """Average the updates; take the mean gradient into the moments."""
        _, moved = super().step(state, weights, update, contribution, share)
        if self.base == "sgd":
            return self._mixed(state, contribution), moved
        first, second = halves(state)
        squares = [
            self.beta_2 * v + (1 - self.beta_2) * g * g for v, g in zip(second, contribution, strict=True)
        ]
        return self._mixed(first, contribution) + squares, moved

    def _mixed(self, moments: Tensors, gradients: Tensors) -> Tensors:
        return [self.beta_1 * m + (1 - self.beta_1) * g for m, g in zip(moments, gradients, strict=True)]
