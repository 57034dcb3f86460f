"""What an algorithm decides: the direction of a site's steps, what a site sends beside its update, and the server's step."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

Tensors = list[Any]
"""One tensor for each of the model's weights, in their order, unless a docstring says otherwise."""


@dataclass(frozen=True)
class Site:
    """What one site knows in a round.

    Attributes:
      start: the common weights it began with.
      received: what `Algorithm.for_sites` gave.
      remembered: what `Algorithm.remember` gave when the site last took part, zeros before; empty if the algorithm needs none.
    """

    start: Tensors
    received: Tensors
    remembered: Tensors


@dataclass(frozen=True)
class Worked:
    """What one site did in a round.

    Attributes:
      update: its weights after the round minus those before.
      steps: optimiser steps, float32 scalar.
      learning_rate: of these steps, float32 scalar.
      full_gradient: of all its frames at the common weights; empty unless the algorithm asks for it.
    """

    update: Tensors
    steps: Any
    learning_rate: Any
    full_gradient: Tensors


@dataclass(frozen=True, kw_only=True)
class Algorithm(ABC):
    """Frozen parameters of one algorithm; the methods build TensorFlow operations.

    `server_learning_rate` scales the server's step. The defaults of all methods are federated averaging.
    """

    name: ClassVar[str]
    remembers: ClassVar[bool] = False
    """Whether a site keeps something of its own from round to round."""
    contributes: ClassVar[bool] = False
    """Whether a site sends more than its update: a second message that no protection of the update covers."""
    needs_full_gradient: ClassVar[bool] = False
    equal_sites: ClassVar[bool] = False
    """Whether every site must weigh the same."""
    optimizers: ClassVar[tuple[str, ...]] = ("sgd", "adam", "adamw")
    """What may run at the sites."""

    server_learning_rate: float = 1.0

    def initial(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Give the server's state before the first round, beside the weights; any number of arrays."""
        return []

    def for_sites(self, state: Tensors) -> Tensors:
        """Give what of the server's state every site gets."""
        return []

    def direction(self, gradients: Tensors, weights: Tensors, site: Site) -> Tensors:
        """Give what a site's optimiser takes for the gradients at `weights`."""
        return gradients

    def remember(self, worked: Worked, site: Site) -> Tensors:
        """Give what the site keeps for the next round that it takes part in."""
        return []

    def contribution(self, worked: Worked, site: Site, remembered: Tensors) -> Tensors:
        """Give what the site sends beside its update; the server gets the mean over sites. `remembered` is the new memory."""
        return []

    def step(
        self, state: Tensors, weights: Tensors, update: Tensors, contribution: Tensors, share: Any
    ) -> tuple[Tensors, Tensors]:
        """Give the server's new state and weights.

        Args:
          state: as `initial` gave it, or the last step.
          weights: the common weights.
          update: mean of the sites' updates.
          contribution: mean of their contributions.
          share: sites that took part over sites that there are, float32 scalar.
        """
        return state, [w + self.server_learning_rate * u for w, u in zip(weights, update, strict=True)]


def zeros_like(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Give zeros of the weights' shapes."""
    return [np.zeros(weight.shape, np.float32) for weight in weights]


def halves(state: Tensors) -> tuple[Tensors, Tensors]:
    """Split a state that holds two tensors for each weight, the first ones of all weights in front."""
    middle = len(state) // 2
    return state[:middle], state[middle:]
