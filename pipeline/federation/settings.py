"""What a training is told and what it tells. Imports neither TensorFlow nor TFF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.federation.algorithms import ALGORITHMS
from pipeline.federation.privacy import Budget
from pipeline.federation.schedules import ScheduleName

Mode = Literal["federated", "local", "centralised"]
RuntimeName = Literal["in-process", "native"]


ADAPTIVE = "adaptive"


@dataclass(frozen=True)
class TrainingSettings:
    """How the sites learn together.

    Attributes:
      rounds: most rounds.
      local_epochs: passes over its own frames that a site makes per round.
      local_steps: exactly so many optimiser steps a site makes per round instead, over as many epochs as that takes.
      batch: frames per optimiser step.
      max_steps: most optimiser steps of a site per round; in centralised training times the number of sites, so that
        every mode may see the same number of frames in a round.
      stride: rows between neighbouring training frames; validation uses the same.
      algorithm: name in `pipeline.federation.algorithms`.
      proximal_strength: pull back to the common weights, of FedProx.
      server_momentum: of FedAvgM.
      server_learning_rate: scales the server's step; None is the algorithm's own.
      client_optimizer: at the sites.
      client_learning_rate: its learning rate, at its highest.
      weight_decay: of AdamW.
      schedule: of the learning rate over the rounds, see `pipeline.federation.schedules`.
      warmup_rounds: rounds in which it rises to its highest.
      learning_rate_decay: what it is multiplied with each round under the exponential schedule.
      clip_gradients: largest norm of the gradient of a step.
      weighting: of the sites' updates: by frames, each site the same, or by frames up to `weight_cap`; `auto` is by frames where the
        algorithm and the aggregation allow it.
      weight_cap: most frames that count.
      sites_per_round: so many sites, drawn anew each round; None is all.
      aggregation: of the updates: mean, or a rule that bad updates cannot move far.
      trimmed_share: share of values that the trimmed mean drops at either end.
      malicious_sites: bad sites that Krum expects in a round.
      clip_updates: largest norm of a site's update; `adaptive` follows the norms.
      privacy: how noise is added to the sum of the updates.
      noise_multiplier: standard deviation of the noise, in units of the clipping norm.
      delta: for which the privacy budget is told.
      compression_bits: numbers of an update are sent in so many bits.
      patience: rounds without improvement of the validation after which training stops.
      min_improvement: smallest relative improvement that counts.
      seed: of initial weights, of the order of frames and of the choice of sites.
      keep_checkpoints: so many of the latest rounds stay on disk.
      runtime: `in-process` runs the compiled plan with plain TensorFlow, `native` is TFF's C++ runtime.
      frozen: weights, by index, that do not move.
    """

    rounds: int = 20
    local_epochs: int = 1
    local_steps: int | None = None
    batch: int = 32
    max_steps: int | None = None
    stride: int = 1
    algorithm: str = "fedavg"
    proximal_strength: float = 0.01
    server_momentum: float = 0.9
    server_learning_rate: float | None = None
    client_optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    client_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    schedule: ScheduleName = "constant"
    warmup_rounds: int = 0
    learning_rate_decay: float = 0.95
    clip_gradients: float | None = None
    weighting: Literal["auto", "frames", "site", "capped"] = "auto"
    weight_cap: int = 1_000
    sites_per_round: int | None = None
    aggregation: Literal["mean", "median", "trimmed_mean", "krum"] = "mean"
    trimmed_share: float = 0.2
    malicious_sites: int = 1
    clip_updates: float | Literal["adaptive"] | None = None
    privacy: Literal["none", "gaussian", "gaussian_adaptive", "tree"] = "none"
    noise_multiplier: float = 1.0
    delta: float = 1e-5
    compression_bits: int | None = None
    patience: int = 3
    min_improvement: float = 0.003
    seed: int = 1
    keep_checkpoints: int = 2
    runtime: RuntimeName = "in-process"
    frozen: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that train nothing and combinations that make no sense.

        Raises:
          ConfigError: with the reason.
        """
        from pipeline.federation.rules import check

        check(self)

    @property
    def equal_sites(self) -> bool:
        """Whether every site's update weighs the same."""
        if self.weighting != "auto":
            return self.weighting == "site"
        return ALGORITHMS[self.algorithm].equal_sites or self.aggregation != "mean" or self.privacy != "none"


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
      took_part: sites whose update counted.
      shortened: sites whose update would have outweighed the others', with how many times as long as a typical one it was.
    """

    round: int
    loss: float
    frames: int
    validation: float | None
    sites: Mapping[str, float]
    seconds: float
    excluded: Mapping[str, str] = field(default_factory=dict)
    took_part: tuple[str, ...] = ()
    shortened: Mapping[str, float] = field(default_factory=dict)


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
      privacy: what the noise promises about a site; None without noise.
      shortened: sites whose update was shortened in a round, in words.
    """

    weights: list[NDArray[np.float32]]
    curve: tuple[RoundResult, ...]
    best_round: int
    sites: tuple[str, ...]
    excluded: Mapping[str, str]
    stopped: Literal["converged", "rounds"]
    privacy: Budget | None = None
    shortened: Mapping[str, str] = field(default_factory=dict)
