"""Settings that train nothing, and combinations that make no sense, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.federation.algorithms import ALGORITHMS

if TYPE_CHECKING:
    from pipeline.federation.settings import TrainingSettings


def check(settings: TrainingSettings) -> None:
    """Refuse the first thing that is wrong.

    Raises:
      ConfigError: naming the keys, what they are and why that cannot be.
    """
    for reason in (*_numbers(settings), *_combinations(settings)):
        raise ConfigError(reason)


def check_number(settings: TrainingSettings, sites: int) -> None:
    """Refuse an aggregation that cannot tell a bad site apart among `sites`.

    Raises:
      ConfigError: there are too few.
    """
    least = fewest_sites(settings)
    if sites < least:
        raise ConfigError(
            f"aggregation {settings.aggregation} needs at least {least} sites, {sites} can train; use mean, or add sites"
        )


def fewest_sites(settings: TrainingSettings) -> int:
    """Sites that the aggregation needs in a round."""
    if settings.aggregation == "krum":
        return 2 * settings.malicious_sites + 3
    return 1 if settings.aggregation == "mean" else 3


def unbounded(settings: TrainingSettings) -> bool:
    """Whether no rule, no clipping and no noise bounds what one site's update does, and updates are all that sites send."""
    protected = settings.aggregation != "mean" or settings.privacy != "none"
    return not protected and settings.clip_updates is None and not ALGORITHMS[settings.algorithm].contributes


def _numbers(s: TrainingSettings) -> Iterator[str]:
    for name in ("rounds", "local_epochs", "batch", "stride", "patience", "keep_checkpoints", "weight_cap"):
        if getattr(s, name) < 1:
            yield f"{name} = {getattr(s, name)}: expected at least 1"
    for name in ("max_steps", "local_steps", "sites_per_round"):
        value = getattr(s, name)
        if value is not None and value < 1:
            yield f"{name} = {value}: expected at least 1, or none for no limit"
    for name in ("client_learning_rate", "server_learning_rate", "clip_gradients", "noise_multiplier"):
        value = getattr(s, name)
        if value is not None and not 0 < value < float("inf"):
            yield f"{name} = {value}: expected a positive number"
    for name in ("seed", "warmup_rounds", "malicious_sites"):
        if getattr(s, name) < 0:
            yield f"{name} = {getattr(s, name)}: expected zero or more"
    if isinstance(s.clip_updates, float) and not 0 < s.clip_updates < float("inf"):
        yield f"clip_updates = {s.clip_updates}: expected a positive number or 'adaptive'"
    if not 0 <= s.trimmed_share < 0.5:
        yield f"trimmed_share = {s.trimmed_share}: expected less than 0.5, or nothing is left of the mean"
    if not 0 < s.delta < 1:
        yield f"delta = {s.delta}: expected a probability between 0 and 1"
    if s.compression_bits is not None and not 1 <= s.compression_bits <= 16:
        yield f"compression_bits = {s.compression_bits}: expected 1 to 16; an update has 32 without"


def _combinations(s: TrainingSettings) -> Iterator[str]:
    if s.algorithm not in ALGORITHMS:
        yield f"algorithm = {s.algorithm!r}: expected one of {', '.join(ALGORITHMS)}"
        return
    kind = ALGORITHMS[s.algorithm]
    if s.client_optimizer not in kind.optimizers:
        why = (
            "its control variates are in units of plain gradient steps"
            if kind.remembers
            else "its sites step with the server's moments, for which weight decay is not defined"
        )
        yield f"algorithm {s.algorithm} with client_optimizer {s.client_optimizer}: {why}; use {' or '.join(kind.optimizers)}"
    if kind.remembers and s.clip_gradients is not None:
        yield f"algorithm {s.algorithm} with clip_gradients: its control variates would be of clipped gradients; leave one out"
    if kind.equal_sites and s.weighting not in ("auto", "site"):
        yield f"algorithm {s.algorithm} with weighting {s.weighting}: its correction holds for sites that weigh the same; use site"
    if s.local_steps is not None and (s.local_epochs != 1 or s.max_steps is not None):
        yield "local_steps with local_epochs or max_steps: both say how long a site works; keep one"
    if s.warmup_rounds >= s.rounds and s.warmup_rounds:
        yield f"warmup_rounds = {s.warmup_rounds} of {s.rounds} rounds: the learning rate would never get to its value"
    yield from _protection(s, kind.contributes)


def _protection(s: TrainingSettings, contributes: bool) -> Iterator[str]:
    robust, private = s.aggregation != "mean", s.privacy != "none"
    protected = robust or private or s.clip_updates is not None
    if contributes and protected:
        yield (
            f"algorithm {s.algorithm} with aggregation {s.aggregation}, privacy {s.privacy}, clip_updates {s.clip_updates}: its sites "
            "send a second message that these do not protect; use an algorithm that sends updates only, such as fedavg"
        )
    if robust and s.weighting in ("frames", "capped"):
        yield f"aggregation {s.aggregation} with weighting {s.weighting}: a bad site could claim any weight; use site"
    if private and s.weighting in ("frames", "capped"):
        yield f"privacy {s.privacy} with weighting {s.weighting}: the noise hides a site that weighs 1; use site"
    if robust and private:
        yield (
            f"aggregation {s.aggregation} with privacy {s.privacy}: a {s.aggregation} has no bounded sensitivity that noise could "
            "hide; use aggregation mean"
        )
    if s.sites_per_round is not None and s.sites_per_round < fewest_sites(s):
        yield (
            f"aggregation {s.aggregation} with sites_per_round {s.sites_per_round}: it needs at least {fewest_sites(s)} sites to tell "
            "a bad one apart"
        )
    if s.compression_bits is not None and (robust or private):
        yield (
            f"compression_bits with aggregation {s.aggregation}, privacy {s.privacy}: rounding errors would be taken for the sites' "
            "own or grow their bounded norm; use one of them"
        )
    if s.privacy in ("gaussian", "tree") and not isinstance(s.clip_updates, float):
        yield f"privacy {s.privacy} with clip_updates {s.clip_updates}: noise hides what is bounded; set clip_updates to a number"
    if s.privacy == "gaussian_adaptive" and s.clip_updates not in (None, "adaptive"):
        yield f"privacy gaussian_adaptive with clip_updates {s.clip_updates}: it finds the norm itself; leave clip_updates out"
    if s.privacy == "tree" and s.algorithm not in ("fedavg", "fedprox", "fedavgm"):
        yield (
            f"privacy tree with algorithm {s.algorithm}: its noise is small on sums over rounds, which a step that is not linear in "
            "the updates does not take; use fedavg, fedprox or fedavgm"
        )
