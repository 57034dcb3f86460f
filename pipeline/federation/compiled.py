"""Processes compiled once: a job trains the same network federated, for each site alone, and pooled."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace

from models.architectures import ArchitectureSpec
from pipeline.federation.algorithms import ALGORITHMS
from pipeline.federation.process import ProcessSpec, for_architecture
from pipeline.federation.runtime import InProcess, Runtime, open_runtime

_KEPT = 4


@contextlib.contextmanager
def compiled(architecture: ArchitectureSpec, spec: ProcessSpec) -> Iterator[tuple[Runtime, int]]:
    """Give the runtime for these arguments and the number of tensors in the model weights.

    In-process ones hold graphs only and are shared by later trainings of this process; a native one, which holds a
    worker process, is closed at the end.
    """
    settings = spec.settings
    if settings.runtime == "in-process":
        yield _in_process(architecture, _what_graphs_depend_on(spec))
        return
    process = for_architecture(architecture, spec)
    runtime = open_runtime(settings.runtime, process)
    try:
        yield runtime, process.weight_leaves
    finally:
        runtime.close()


def _what_graphs_depend_on(spec: ProcessSpec) -> ProcessSpec:
    """The same for all that compile to the same graphs: what only the loop over rounds looks at is put to one value."""
    settings = spec.settings
    alike = replace(
        settings,
        rounds=settings.rounds if settings.schedule == "cosine" or settings.warmup_rounds else 1,
        patience=1,
        min_improvement=0.0,
        keep_checkpoints=1,
        delta=0.5,
    )
    # The number of sites counts where a round's share of them does.
    counts = ALGORITHMS[settings.algorithm].remembers or settings.privacy != "none"
    return replace(spec, settings=alike, population=spec.population if counts else 1)


@functools.lru_cache(maxsize=_KEPT)
def _in_process(architecture: ArchitectureSpec, spec: ProcessSpec) -> tuple[InProcess, int]:
    process = for_architecture(architecture, spec)
    return InProcess(process), process.weight_leaves
