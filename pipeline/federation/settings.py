"""What a training is told and what it tells. Imports neither TensorFlow nor TFF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

Mode = Literal["federated", "local", "centralised"]
RuntimeName = Literal["in-process", "native"]


@dataclass(frozen=True)
class TrainingSettings:
    """How the sites learn together.

    Attributes:
      rounds: most rounds of federated averaging.
      local_epochs: passes over its own frames that a site makes per round.
      batch: frames per optimiser step.
      max_steps: most optimiser steps of a site per round; in centralised training times the number of sites, so that
        every mode may see the same number of frames in a round.
      stride: rows between neighbouring training frames; validation uses the same.
      client_optimizer: at the sites.
      client_learning_rate: its learning rate.
      server_optimizer: on the averaged update; `sgd` with rate 1 is FedAvg (McMahan et al. 2017).
      server_learning_rate: its learning rate.
      patience: rounds without improvement of the validation after which training stops.
      min_improvement: smallest relative improvement that counts.
      seed: of initial weights and of the order of frames.
      keep_checkpoints: so many of the latest rounds stay on disk.
      runtime: `in-process` runs the compiled plan with plain TensorFlow, `native` is TFF's C++ runtime.
    """

    rounds: int = 20
    local_epochs: int = 1
    batch: int = 32
    max_steps: int | None = None
    stride: int = 1
    client_optimizer: Literal["adam", "sgd"] = "adam"
    client_learning_rate: float = 1e-3
    server_optimizer: Literal["sgd", "adam"] = "sgd"
    server_learning_rate: float = 1.0
    patience: int = 3
    min_improvement: float = 0.003
    seed: int = 1
    keep_checkpoints: int = 2
    runtime: RuntimeName = "in-process"

    def __post_init__(self) -> None:
        """Refuse numbers that train nothing."""
        for name in ("rounds", "local_epochs", "batch", "stride", "patience", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected at least 1")
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"max_steps = {self.max_steps}: expected at least 1, or none for no limit")
        for name in ("client_learning_rate", "server_learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} = {getattr(self, name)}: expected a positive number")
        if self.seed < 0:
            raise ConfigError(f"seed = {self.seed}: expected zero or more")


@dataclass(frozen=True)
class RoundResult:
    """One round.

    Attributes:
      round: number from 1.
      loss: mean training loss over the frames of the round, as seen before each step.
      frames: frames that were trained on.
      validation: mean validation loss over all sites' frames after the round; None without validation frames.
      sites: validation loss by site.
      seconds: wall time of round and validation.
      excluded: sites that no longer take part, with the reason.
    """

    round: int
    loss: float
    frames: int
    validation: float | None
    sites: Mapping[str, float]
    seconds: float
    excluded: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingResult:
    """What was learned.

    Attributes:
      weights: of the best round, in Keras order, float32.
      curve: all rounds.
      best_round: the round of `weights`.
      sites: sites that took part to the end.
      excluded: sites that did not, with the reason.
      stopped: `converged` or `rounds`.
    """

    weights: list[NDArray[np.float32]]
    curve: tuple[RoundResult, ...]
    best_round: int
    sites: tuple[str, ...]
    excluded: Mapping[str, str]
    stopped: Literal["converged", "rounds"]
