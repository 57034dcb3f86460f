"""One trial of `fedplant tune`: a training with some settings changed, and what two measures without labels say of it."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError
from models.scaling import SensorScaling, moments
from pipeline.config.change import changed
from pipeline.config.schema import Config
from pipeline.datasets.prepared import Prepared
from pipeline.datasets.run import Run
from pipeline.datasets.shards import Dataset
from pipeline.errors import ConfigError, TrainingFailed
from pipeline.evaluation.expectation import earlier_detector
from pipeline.evaluation.injection import found_faults
from pipeline.learning.configured import architecture

VALIDATION, INJECTED = "validation", "injected"

Choice = tuple[tuple[str, str, Any], ...]
"""What differs from the configuration: section, key, value."""


@dataclass(frozen=True)
class Trial:
    """One training: what differs from the configuration, and what came of it.

    Attributes:
      changes: `section.key` to value; empty for the configuration itself.
      validation: loss of the best round; None if it failed or trains no network.
      injected: mean over sites of the AUC-PR on injected faults; None if it failed or no site holds enough rows back.
      rounds: that it took.
      seconds: that they took.
      failed: why, if it failed.
    """

    changes: Mapping[str, Any]
    validation: float | None
    injected: float | None = None
    rounds: int = 0
    seconds: float = 0.0
    failed: str | None = None


def changes_of(choice: Choice) -> dict[str, Any]:
    """`section.key` to value."""
    return {f"{section}.{key}": value for section, key, value in choice}


def loss_of(trial: Trial, by: str) -> float:
    """Smaller is better."""
    if by == INJECTED:
        return math.inf if trial.injected is None else -trial.injected
    return math.inf if trial.validation is None else trial.validation


def key_of(changes: Mapping[str, Any]) -> str:
    """A short name, the same for the same changes."""
    return hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:12]


def run_trial(
    config: Config,
    choice: Choice,
    prepared: Prepared,
    folder: Path,
    on_round: Callable[[int, float | None], None],
) -> Trial:
    """Train and measure; a trial that its settings make impossible, or that diverges, is one that failed.

    `folder` is the search's; `on_round` is told the number and the validation loss of each round.
    """
    changes, began = changes_of(choice), time.monotonic()
    result = None
    try:
        tried = changed(config, _by_section(choice))
        if "network" in tried.detector.sources:
            from pipeline.federation.training import train

            # Only what the network depends on names its folder: other sources do not train it again.
            own = {key: value for key, value in changes.items() if not key.startswith("detector.")}
            result = train(
                prepared.dataset.shards,
                architecture(tried),
                tried.training.settings(tried.model.steps),
                steps=tried.model.steps,
                sensors=len(prepared.dataset.sensors),
                workdir=folder / "training" / key_of(own),
                on_round=lambda done: on_round(done.round, done.validation),
            )
        injected = _injected(tried, prepared, None if result is None else result.weights)
    except (ConfigError, TrainingFailed, ModelError) as error:
        return Trial(changes, None, failed=str(error))
    best = result.curve[result.best_round - 1].validation if result and result.best_round else None
    usable = best is not None and math.isfinite(best)
    rounds = len(result.curve) if result else 0
    # Rounds read back from a checkpoint were paid for earlier, and count.
    seconds = max(time.monotonic() - began, sum(done.seconds for done in result.curve) if result else 0.0)
    failed = "no validation loss" if result is not None and not usable else None
    return Trial(changes, best if usable else None, injected, rounds, round(seconds, 3), failed)


def _injected(
    config: Config, prepared: Prepared, weights: Sequence[NDArray[np.float32]] | None
) -> float | None:
    """Mean over sites of what the detector of the training parts finds of faults injected into the validation parts."""
    dataset = prepared.dataset
    parts = {site: prepared.parts(site) for site in dataset.shards}
    earlier = {site: training for site, (training, _) in parts.items()}
    detector = earlier_detector(config, dataset, earlier, 1.0 - config.dataset.validation, weights)
    areas = [
        found_faults(
            detector,
            site,
            [run.values for run in held_out],
            _deviation(dataset, site, training),
            config.training.seed,
        )
        for site, (training, held_out) in parts.items()
    ]
    known = [area for area in areas if area is not None]
    return round(float(np.mean(known)), 6) if known else None


def _deviation(dataset: Dataset, site: str, training: Sequence[Run]) -> NDArray[np.float64]:
    """Of each sensor's readings, float64[F]: the site's scale, but where that is of logarithms the one of the readings themselves."""
    scaling = SensorScaling.from_dict(dataset.scaling[site])
    if scaling.floor is None:
        return scaling.scale
    raw = moments([run.values for run in training], len(dataset.sensors)).scaling()
    return np.where(np.isnan(scaling.floor), scaling.scale, raw.scale)


def _by_section(choice: Choice) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for section, key, value in choice:
        found.setdefault(section, {})[key] = value
    return found
