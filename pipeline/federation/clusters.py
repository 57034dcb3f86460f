"""Groups of sites that pull the common model the same way, each with a model of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cut_tree, linkage

from models.architectures import ArchitectureSpec
from pipeline.datasets.frames import shard_spec
from pipeline.datasets.shards import ShardPaths
from pipeline.errors import ConfigError
from pipeline.federation.compiled import compiled
from pipeline.federation.process import ProcessSpec
from pipeline.federation.rules import fewest_sites
from pipeline.federation.settings import TrainingResult, TrainingSettings
from pipeline.federation.training import alone, train

Weights = Sequence[NDArray[np.float32]]


def update_clusters(updates: Mapping[str, NDArray[np.floating]], count: int) -> tuple[tuple[str, ...], ...]:
    """Group sites by the cosine similarity of their updates float[D], by average linkage, until `count` groups are left.

    Sattler, Müller, Samek (2020), "Clustered Federated Learning", split where updates at a common optimum disagree.

    Raises:
      ConfigError: fewer than one group, or more groups than sites.
    """
    if not 1 <= count <= len(updates):
        raise ConfigError(f"clusters = {count}: expected 1 to {len(updates)}, the number of sites")
    names = sorted(updates)
    matrix = np.stack([np.asarray(updates[name], np.float64) for name in names])
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-300)
    distance = np.clip(1.0 - unit @ unit.T, 0.0, 2.0)
    if len(names) == 1:
        return ((names[0],),)
    tree = linkage(distance[np.triu_indices(len(names), 1)], "average")
    groups: dict[int, list[str]] = {}
    for name, group in zip(names, cut_tree(tree, n_clusters=count)[:, 0], strict=True):
        groups.setdefault(int(group), []).append(name)
    return tuple(sorted(tuple(group) for group in groups.values()))


def site_updates(
    shards: Mapping[str, ShardPaths],
    weights: Weights,
    architecture: ArchitectureSpec,
    settings: TrainingSettings,
    *,
    steps: int,
    sensors: int,
) -> dict[str, NDArray[np.float32]]:
    """Give what each site makes of the common weights in one round by plain descent, as one vector."""
    plain = replace(alone(settings), client_optimizer="sgd")
    with compiled(architecture, ProcessSpec(plain, steps, sensors, settings.max_steps)) as (runtime, leaves):
        state = runtime.initialize()
        state[:leaves] = list(weights)
        found = {}
        for site, paths in shards.items():
            spec = shard_spec(paths.train, seed=settings.seed, round_number=0)
            after = runtime.round(state, {site: spec}).state[:leaves]
            moved = [np.ravel(new - old) for new, old in zip(after, weights, strict=True)]
            found[site] = np.concatenate(moved)
    return found


def train_clusters(
    shards: Mapping[str, ShardPaths],
    common: TrainingResult,
    architecture: ArchitectureSpec,
    settings: TrainingSettings,
    count: int,
    *,
    steps: int,
    sensors: int,
    workdir: Path,
) -> dict[tuple[str, ...], TrainingResult]:
    """Go on from the common model with one training for each of `count` groups of the sites that are left, or one a site if they are fewer.

    A group with fewer sites than `settings.aggregation` can tell a bad one apart in is not trained: it has no entry.

    Raises:
      TrainingFailed: a group has no site left.
    """
    present = {site: shards[site] for site in common.sites}
    updates = site_updates(present, common.weights, architecture, settings, steps=steps, sensors=sensors)
    groups = update_clusters(updates, min(count, len(present)))
    return {
        group: train(
            {site: shards[site] for site in group},
            architecture,
            settings,
            steps=steps,
            sensors=sensors,
            workdir=workdir / f"cluster-{number}",
            initial=common.weights,
        )
        for number, group in enumerate(groups)
        if len(group) >= fewest_sites(settings)
    }
