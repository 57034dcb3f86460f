"""A model for each site, made from the common one after the last round, on the site's data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.architectures import ArchitectureSpec
from pipeline.datasets.frames import shard_spec
from pipeline.datasets.shards import ShardPaths
from pipeline.errors import ConfigError
from pipeline.federation.compiled import compiled
from pipeline.federation.process import ProcessSpec
from pipeline.federation.settings import TrainingSettings
from pipeline.federation.training import alone

HEAD = 2
"""Kernel and bias of the last layer."""


@dataclass(frozen=True)
class Personal:
    """How a site makes the common model its own, in `epochs` passes over its frames at the highest learning rate of the rounds.

    `fine_tune` moves all weights; `head` only those of the last layer (Arivazhagan et al. 2019, "Federated Learning with
    Personalization Layers", after the last round); `ditto` all weights, held near the common ones by `strength` (Li et al. 2021,
    "Ditto: Fair and Robust Federated Learning Through Personalization").
    """

    kind: Literal["fine_tune", "head", "ditto"] = "fine_tune"
    epochs: int = 3
    strength: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what changes nothing."""
        if self.epochs < 1 or self.strength < 0:
            raise ConfigError(
                f"personal epochs = {self.epochs}, strength = {self.strength}: expected at least 1 and 0"
            )


@dataclass(frozen=True)
class Personalised:
    """A site's own `weights`; the common ones if its own are not better on its validation frames.

    `before` and `after` are the validation losses of the common weights and of those that were kept; None without such frames.
    """

    weights: list[NDArray[np.float32]]
    before: float | None
    after: float | None

    @property
    def improved(self) -> bool:
        """Whether the site's own weights were kept."""
        return self.before is not None and self.after is not None and self.after < self.before


def personalise(
    shards: Mapping[str, ShardPaths],
    weights: Sequence[NDArray[np.float32]],
    architecture: ArchitectureSpec,
    settings: TrainingSettings,
    personal: Personal,
    *,
    steps: int,
    sensors: int,
) -> dict[str, Personalised]:
    """Give each site's own weights. Nothing leaves a site; a site that cannot be read or diverges keeps the common weights."""
    # To a new process every round is the first: of a warm-up that is its lowest rate.
    own = replace(alone(settings), schedule="constant", warmup_rounds=0)
    own = replace(own, local_steps=None, max_steps=None, local_epochs=personal.epochs)
    if personal.kind == "ditto":
        own = replace(own, algorithm="fedprox", proximal_strength=personal.strength)
    if personal.kind == "head":
        own = replace(own, frozen=tuple(range(len(weights) - HEAD)))
    found = {}
    with compiled(architecture, ProcessSpec(own, steps, sensors)) as (runtime, leaves):
        common = runtime.initialize()
        common[:leaves] = list(weights)
        for site, paths in shards.items():
            spec = shard_spec(paths.train, seed=settings.seed, round_number=0)
            tuned = runtime.round(common, {site: spec}).state
            losses: list[float | None] = [None, None]
            if paths.validation_frames > 0:
                for place, state in enumerate((common, tuned)):
                    total, count = runtime.evaluate(state, {site: paths.validation}).get(site, (0.0, 0))
                    losses[place] = total / count if count else None
            before, after = losses
            better = before is not None and after is not None and after < before
            chosen = tuned if better else common
            found[site] = Personalised(
                [np.asarray(value, np.float32) for value in chosen[:leaves]],
                before,
                after if better else before,
            )
    return found
