"""Processes compiled once: a job trains the same network federated, for each site alone, and pooled."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace

from models.architectures import ArchitectureSpec
from pipeline.federation.algorithms import ALGORITHMS
from pipeline.federation.process import for_architecture
from pipeline.federation.runtime import InProcess, Runtime, open_runtime
from pipeline.federation.settings import TrainingSettings

_KEPT = 4


@contextlib.contextmanager
def compiled(
    architecture: ArchitectureSpec,
    settings: TrainingSettings,
    *,
    steps: int,
    sensors: int,
    max_steps: int | None,
    population: int,
) -> Iterator[tuple[Runtime, int]]:
    """Give the runtime for these arguments and the number of tensors in the model weights.

    In-process ones hold graphs only and are shared by later trainings of this process; a native one, which holds a
    worker process, is closed at the end.
    """
    # What only the loop over rounds looks at does not change the graphs.
    graph_settings = replace(
        settings,
        rounds=settings.rounds if settings.schedule == "cosine" or settings.warmup_rounds else 1,
        patience=1,
        min_improvement=0.0,
        keep_checkpoints=1,
        delta=0.5,
    )
    # Nor does the number of sites, but where a round's share of them counts.
    if not ALGORITHMS[settings.algorithm].remembers and settings.privacy == "none":
        population = 1
    if settings.runtime == "in-process":
        yield _in_process(architecture, graph_settings, steps, sensors, max_steps, population)
        return
    process = for_architecture(
        architecture,
        steps=steps,
        sensors=sensors,
        settings=settings,
        max_steps=max_steps,
        population=population,
    )
    runtime = open_runtime(settings.runtime, process)
    try:
        yield runtime, process.weight_leaves
    finally:
        runtime.close()


@functools.lru_cache(maxsize=_KEPT)
def _in_process(
    architecture: ArchitectureSpec,
    settings: TrainingSettings,
    steps: int,
    sensors: int,
    max_steps: int | None,
    population: int,
) -> tuple[InProcess, int]:
    process = for_architecture(
        architecture,
        steps=steps,
        sensors=sensors,
        settings=settings,
        max_steps=max_steps,
        population=population,
    )
    return InProcess(process), process.weight_leaves
