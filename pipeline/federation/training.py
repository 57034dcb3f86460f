"""One training from shards to weights: rounds, validation, stop rule, checkpoints, isolation of failing sites."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np

from models.architectures import ArchitectureSpec
from pipeline.datasets.frames import shard_spec
from pipeline.datasets.shards import ShardPaths
from pipeline.errors import ConfigError, TrainingFailed
from pipeline.federation.checkpoints import Checkpoint, CheckpointStore
from pipeline.federation.compiled import compiled
from pipeline.federation.convergence import Convergence
from pipeline.federation.settings import Mode, RoundResult, TrainingResult, TrainingSettings

OnRound = Callable[[RoundResult], None]
ALL_SITES = "all sites"


def train(
    shards: Mapping[str, ShardPaths],
    architecture: ArchitectureSpec,
    settings: TrainingSettings,
    *,
    steps: int,
    sensors: int,
    workdir: Path,
    mode: str = "federated",
    on_round: OnRound | None = None,
) -> TrainingResult:
    """Train one model on the shards of all sites.

    `federated`: every site is a client. `local`: the same with the one site given. `centralised`: all sites' frames,
    each scaled by its own site's statistics, belong to one client; a round still sees every frame `local_epochs` times.

    Progress is kept in `workdir`: called again with the same arguments after an interruption it goes on with the round
    after the last finished one and gives exactly the weights of an uninterrupted training. A site whose update is not
    finite or whose shard cannot be read is left out from then on; the others go on.

    Args:
      shards: by site, see `pipeline.datasets.shards`.
      architecture: the network.
      settings: rounds, optimisers, stop rule, runtime.
      steps: T, rows of a frame.
      sensors: F.
      workdir: folder for checkpoints, this training's alone.
      mode: how the sites become clients.
      on_round: called after each round, also for rounds read back from a checkpoint.

    Raises:
      ConfigError: the mode is unknown.
      TrainingFailed: no site is given or none is left.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"mode = {mode!r}: expected one of {', '.join(get_args(Mode))}")
    if not shards:
        raise TrainingFailed("no site has frames to train on; see why each site was excluded, then add data")
    if mode == "local" and len(shards) != 1:
        raise TrainingFailed(f"local training takes one site, got {len(shards)}; call it once for each")
    max_steps = settings.max_steps
    if mode == "centralised" and max_steps is not None:
        max_steps *= len(shards)
    store = CheckpointStore(
        workdir,
        _fingerprint(shards, architecture, settings, steps, sensors, mode),
        settings.keep_checkpoints,
    )
    validation_specs = {s: paths.validation for s, paths in shards.items() if paths.validation_frames > 0}
    with compiled(architecture, settings, steps=steps, sensors=sensors, max_steps=max_steps) as (
        runtime,
        weight_leaves,
    ):
        curve: list[RoundResult] = []
        excluded: dict[str, str] = {}
        rule = Convergence(settings.patience, settings.min_improvement)
        found = store.latest()
        if found is None:
            state, best = runtime.initialize(), []
        else:
            state, best = list(found.state), list(found.best_weights)
            curve = [RoundResult(**entry) for entry in found.progress["curve"]]
            excluded = dict(found.progress["excluded"])
            for result in curve:
                rule = rule.after(result.round, result.validation)
                if on_round is not None:
                    on_round(result)
        while len(curve) < settings.rounds and not rule.stop:
            number = len(curve) + 1
            began = time.perf_counter()
            clients = {s: paths.train for s, paths in shards.items() if s not in excluded}
            specs = {
                s: shard_spec(path, seed=settings.seed, round_number=number) for s, path in clients.items()
            }
            if mode == "centralised":
                joined = shard_spec(list(clients.values()), seed=settings.seed, round_number=number)
                specs = {ALL_SITES: joined}
            outcome = runtime.round(state, specs)
            failed = dict(outcome.failed)
            if ALL_SITES in failed:
                failed = _missing(clients) or dict.fromkeys(clients, failed[ALL_SITES])
            excluded.update(failed)
            if len(excluded) == len(shards):
                reasons = "; ".join(f"{site}: {reason}" for site, reason in excluded.items())
                raise TrainingFailed(f"round {number}: no site is left to train with ({reasons})")
            if outcome.frames == 0:
                if not failed:
                    raise TrainingFailed(
                        f"round {number}: the shards hold no frame of {steps} steps; use more data"
                    )
                continue
            state = outcome.state
            losses = runtime.evaluate(state, {s: p for s, p in validation_specs.items() if s not in excluded})
            validation, sites = _summary(losses)
            result = RoundResult(
                round=number,
                loss=outcome.loss,
                frames=outcome.frames,
                validation=validation,
                sites=sites,
                seconds=time.perf_counter() - began,
                excluded=dict(excluded),
            )
            curve.append(result)
            rule = rule.after(number, validation)
            if rule.best_round == number or not best:
                best = list(state[:weight_leaves])
            progress = {"curve": [asdict(entry) for entry in curve], "excluded": excluded}
            store.save(Checkpoint(number, state, best, progress))
            if on_round is not None:
                on_round(result)
    return TrainingResult(
        weights=[np.asarray(value, np.float32) for value in best],
        curve=tuple(curve),
        best_round=rule.best_round,
        sites=tuple(site for site in shards if site not in excluded),
        excluded=excluded,
        stopped="converged" if rule.stop else "rounds",
    )


def _summary(losses: Mapping[str, tuple[float, int]]) -> tuple[float | None, dict[str, float]]:
    sites = {site: total / count for site, (total, count) in losses.items() if count}
    frames = sum(count for _, count in losses.values())
    if not frames:
        return None, sites
    return sum(total for total, _ in losses.values()) / frames, sites


def _missing(clients: Mapping[str, str]) -> dict[str, str]:
    return {
        site: "its shard cannot be read (missing)"
        for site, path in clients.items()
        if not Path(path).exists()
    }


def _fingerprint(
    shards: Mapping[str, ShardPaths],
    architecture: ArchitectureSpec,
    settings: TrainingSettings,
    steps: int,
    sensors: int,
    mode: str,
) -> str:
    content = {
        "shards": {site: asdict(paths) for site, paths in shards.items()},
        "architecture": architecture.to_dict(),
        "settings": {k: v for k, v in asdict(settings).items() if k not in {"rounds", "keep_checkpoints"}},
        "steps": steps,
        "sensors": sensors,
        "mode": mode,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
