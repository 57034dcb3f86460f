"""One training from shards to weights: rounds, validation, stop rule, checkpoints, isolation of failing sites."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from models.architectures import ArchitectureSpec
from pipeline.datasets.frames import shard_spec
from pipeline.datasets.shards import ShardPaths
from pipeline.errors import ConfigError, TrainingFailed
from pipeline.federation.algorithms import ALGORITHMS
from pipeline.federation.checkpoints import CheckpointStore
from pipeline.federation.compiled import compiled
from pipeline.federation.convergence import Convergence
from pipeline.federation.memories import Memories
from pipeline.federation.privacy import Budget, training_budget
from pipeline.federation.process import ProcessSpec
from pipeline.federation.progress import Progress
from pipeline.federation.rules import check_number
from pipeline.federation.runtime import Runtime
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
    initial: Sequence[NDArray[np.float32]] | None = None,
) -> TrainingResult:
    """Train one model on the shards of all sites.

    `federated`: every site is a client, in a round all or `sites_per_round` of them. `local`: the one site given is the only client.
    `centralised`: all sites' frames, each scaled by its own site's statistics, belong to one client; a round still sees every frame
    `local_epochs` times. With one client there is nothing to combine: algorithm and protection are those of plain averaging.

    Progress is kept in `workdir`: called again with the same arguments after an interruption it goes on with the round
    after the last finished one and gives exactly the weights of an uninterrupted training. A site whose update or validation loss is not
    finite, that diverged or whose shard cannot be read is left out from then on; the others go on.

    Args:
      shards: by site, see `pipeline.datasets.shards`.
      architecture: the network.
      settings: rounds, optimisers, stop rule, runtime.
      steps: T, rows of a frame.
      sensors: F.
      workdir: folder for checkpoints, this training's alone.
      mode: how the sites become clients.
      on_round: called after each round, also for rounds read back from a checkpoint.
      initial: weights to begin with; None is the architecture's own, drawn by the seed.

    Raises:
      ConfigError: the mode is unknown, or there are too few sites for a robust aggregation.
      TrainingFailed: no site is given or none is left.
    """
    if mode not in get_args(Mode):
        raise ConfigError(f"mode = {mode!r}: expected one of {', '.join(get_args(Mode))}")
    if not shards:
        raise TrainingFailed("no site has frames to train on; see why each site was excluded, then add data")
    if mode == "local" and len(shards) != 1:
        raise TrainingFailed(f"local training takes one site, got {len(shards)}; call it once for each")
    if mode == "federated":
        check_number(settings, len(shards))
    else:
        settings = alone(settings)
    max_steps = settings.max_steps
    if mode == "centralised" and max_steps is not None:
        max_steps *= len(shards)
    fingerprint = _fingerprint(shards, architecture, settings, steps, sensors, mode, initial)
    store = CheckpointStore(workdir, fingerprint, settings.keep_checkpoints)
    memories = Memories(workdir / "memory", settings.keep_checkpoints)
    spec = ProcessSpec(settings, steps, sensors, max_steps, population=len(shards))
    with compiled(architecture, spec) as (runtime, weight_leaves):
        rule = Convergence(settings.patience, settings.min_improvement)
        found = store.latest()
        if found is not None:
            progress = Progress.of(found, weight_leaves, rule)
        else:
            progress = Progress(list(runtime.initialize()), weight_leaves, rule)
            if initial is not None:
                progress.state[:weight_leaves] = list(initial)
        tell = on_round or _silent
        for result in progress.curve:
            tell(result)
        rounds = _Rounds(shards, settings, mode, steps, runtime, memories)
        while len(progress.curve) < settings.rounds and not progress.rule.stop:
            finished = rounds.next(progress)
            if finished is None:
                continue
            store.save(progress.checkpoint())
            tell(finished)
    return TrainingResult(
        weights=[np.asarray(value, np.float32) for value in progress.best],
        curve=tuple(progress.curve),
        best_round=progress.rule.best_round,
        sites=tuple(site for site in shards if site not in progress.excluded),
        excluded=progress.excluded,
        stopped="converged" if progress.rule.stop else "rounds",
        privacy=_budget(settings, shards, progress.curve),
        shortened=_shortened(progress.curve),
    )


def _silent(_result: RoundResult) -> None:
    return None


@dataclass(frozen=True)
class _Rounds:
    """One round after another: who takes part, on which files, and what came of it."""

    shards: Mapping[str, ShardPaths]
    settings: TrainingSettings
    mode: str
    steps: int
    runtime: Runtime
    memories: Memories

    @property
    def _remembers(self) -> bool:
        return ALGORITHMS[self.settings.algorithm].remembers

    def next(self, progress: Progress) -> RoundResult | None:
        """Advance `progress` by a round; None if only sites failed, which are then excluded and the round is to be done again.

        Raises:
          TrainingFailed: no site is left, or their shards hold no frame.
        """
        number, began = len(progress.curve) + 1, time.perf_counter()
        left = [site for site in self.shards if site not in progress.excluded]
        clients = {site: self.shards[site].train for site in draw(left, self.settings, number)}
        outcome = self.runtime.round(progress.state, self._specs(clients, progress, number))
        failed = dict(outcome.failed)
        if ALL_SITES in failed:
            failed = _missing(clients) or dict.fromkeys(clients, failed[ALL_SITES])
        progress.excluded.update(failed)
        if len(progress.excluded) == len(self.shards):
            reasons = "; ".join(f"{site}: {reason}" for site, reason in progress.excluded.items())
            raise TrainingFailed(f"round {number}: no site is left to train with ({reasons})")
        if outcome.frames == 0:
            if not failed:
                raise TrainingFailed(
                    f"round {number}: the shards hold no frame of {self.steps} steps; use more data"
                )
            return None
        validation, sites, unsound = self._validated(outcome.state, progress.excluded)
        progress.excluded.update(unsound)
        result = RoundResult(
            round=number,
            loss=outcome.loss,
            frames=outcome.frames,
            validation=validation,
            sites=sites,
            seconds=time.perf_counter() - began,
            excluded=dict(progress.excluded),
            took_part=tuple(site for site in clients if site not in failed),
            shortened=outcome.shortened,
        )
        progress.add(result, outcome.state)
        if self._remembers:
            self.memories.drop_old(progress.curve)
        return result

    def _specs(self, clients: Mapping[str, str], progress: Progress, number: int) -> dict[str, str]:
        """What the runtime is told of each client: its shard, the order of its frames, and where its memory lies."""
        seed = self.settings.seed
        if self.mode == "centralised":
            return {ALL_SITES: shard_spec(list(clients.values()), seed=seed, round_number=number)}
        return {
            site: shard_spec(
                path,
                seed=seed,
                round_number=number,
                **(self.memories.files(site, progress.curve, number) if self._remembers else {}),
            )
            for site, path in clients.items()
        }

    def _validated(
        self, state: list[Any], excluded: Mapping[str, str]
    ) -> tuple[float | None, dict[str, float], dict[str, str]]:
        """Mean validation loss over all frames of the sites that are left, None without frames; by site; and sites whose loss can be no part of it, with the reason.

        One such loss would end the training of all: beside NaN no round is better than another.
        """
        specs = {
            site: paths.validation
            for site, paths in self.shards.items()
            if paths.validation_frames > 0 and site not in excluded
        }
        losses = self.runtime.evaluate(state, specs)
        counted = {site: (total, count) for site, (total, count) in losses.items() if count}
        sound = {site: each for site, each in counted.items() if np.isfinite(each[0])}
        unsound = dict.fromkeys((s for s in specs if s not in losses), "its validation shard cannot be read")
        unsound.update(
            dict.fromkeys((s for s in counted if s not in sound), "its validation loss is not finite")
        )
        if not sound:
            # It is the model that cannot be validated, and no site's fault.
            sound, unsound = counted, {}
        sites = {site: total / count for site, (total, count) in sound.items()}
        frames = sum(count for _, count in sound.values())
        return sum(total for total, _ in sound.values()) / frames if frames else None, sites, unsound


def alone(settings: TrainingSettings) -> TrainingSettings:
    """Give the settings for one client that holds all the data: the same steps, but nothing to combine or to protect."""
    return replace(
        settings,
        algorithm="fedavg",
        server_learning_rate=None,
        weighting="auto",
        sites_per_round=None,
        aggregation="mean",
        clip_updates=None,
        privacy="none",
        compression_bits=None,
    )


def draw(sites: Sequence[str], settings: TrainingSettings, number: int) -> list[str]:
    """Give the sites of a round: all, or so many as are wanted, drawn by the seed and the round's number alone."""
    if settings.sites_per_round is None or settings.sites_per_round >= len(sites):
        return list(sites)
    random = np.random.default_rng([settings.seed, number])
    chosen = random.choice(len(sites), settings.sites_per_round, replace=False)
    return [sites[place] for place in sorted(chosen)]


def _budget(
    settings: TrainingSettings, shards: Mapping[str, ShardPaths], curve: Sequence[RoundResult]
) -> Budget | None:
    if settings.privacy == "none":
        return None
    took_part = [[r.round for r in curve if site in r.took_part] for site in shards]
    return training_budget(settings.privacy, settings.noise_multiplier, settings.delta, took_part, len(curve))


def _shortened(curve: Sequence[RoundResult]) -> dict[str, str]:
    """By site, what to tell of updates that were shortened."""
    times: dict[str, list[float]] = {}
    for result in curve:
        for site, length in result.shortened.items():
            times.setdefault(site, []).append(length)
    return {
        site: f"its update was up to {max(found):.3g} times as long as a typical site's and was shortened to that, "
        f"in {len(found)} of {len(curve)} rounds; look at its data, and set training.aggregation if you do not trust it"
        for site, found in times.items()
    }


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
    initial: Sequence[NDArray[np.float32]] | None,
) -> str:
    # More rounds go on where fewer ended, but for a learning rate that is laid out over all of them.
    unseen = {"keep_checkpoints"} if settings.schedule == "cosine" else {"keep_checkpoints", "rounds"}
    content = {
        "shards": {site: asdict(paths) for site, paths in shards.items()},
        "architecture": architecture.to_dict(),
        "settings": {k: v for k, v in asdict(settings).items() if k not in unseen},
        "steps": steps,
        "sensors": sensors,
        "mode": mode,
        "initial": None if initial is None else [hashlib.sha256(w.tobytes()).hexdigest() for w in initial],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
