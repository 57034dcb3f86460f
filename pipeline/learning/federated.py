"""What sites learn together, and what is to be said of each of them: who took no part, who is treated otherwise, what noise protects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.detector import Detector
from pipeline.artefacts import FEDERATED
from pipeline.config.schema import Config
from pipeline.learning.enough import refuse_too_few
from pipeline.learning.trainer import OwnModels, Trainer
from pipeline.watch import Step

if TYPE_CHECKING:
    from pipeline.federation.settings import TrainingResult
    from pipeline.federation.statistics import FleetStatistics

_EARLY = "too short a training to tell slow changes from faults; they are followed all the same, as sites with a history advise"
_TOO_FEW_LEFT = "so few sites were left in the end that training.aggregation could not tell a bad one apart"
_SMALL_GROUP = "its group has fewer sites than training.aggregation needs, so it keeps the common network"
_SWITCHING = "a machine that switches between states: what the other sensors of the same instant explain is nothing unusual there"


@dataclass(frozen=True)
class Together:
    """The federated detector, the training of its network, if it has one, models that sites have of their own, and what noise promises by what was shared, `rounds` and `statistics`.

    `remarks`: site and remark.
    """

    detector: Detector
    result: TrainingResult | None
    own: OwnModels
    privacy: Mapping[str, Mapping[str, Any]]
    remarks: tuple[tuple[str, str], ...]


def learn_together(trainer: Trainer, sites: list[str], step: Step) -> Together:
    """Sum, train, personalise and fit.

    Raises:
      ConfigError: more groups of sites are wanted than there are sites, or too few sites for a robust aggregation. TrainingFailed: no site is left to train with.
      NotEnoughData: too few rows to calibrate.
    """
    config = trainer.config
    refuse_too_few(config, len(sites))
    statistics = trainer.fleet_statistics(sites)
    result = trainer.network(FEDERATED, sites, step)
    own = OwnModels() if result is None else trainer.own_models(result)
    components = trainer.component_statistics(sites)
    detector = trainer.detector(
        result,
        sites,
        None if statistics is None else statistics.prior,
        None if components is None else components.prior,
        own_weights=own.weights,
    )
    budgets = {"rounds": result and result.privacy, "statistics": statistics and statistics.budget}
    privacy = {shared: asdict(budget) for shared, budget in budgets.items() if budget}
    remarks = [
        *((site, _SMALL_GROUP) for site in own.in_small_groups),
        *((site, _EARLY) for site in sorted(trainer.early)),
        *((site, _SWITCHING) for site in detector.switching),
        *_excluded(result, "federated rounds"),
        *_excluded(statistics, "shared sum of statistics"),
        *_of_rounds(trainer, result),
    ]
    if privacy and len(sites) > 1:
        remarks += [(site, what) for what in _without_noise(config, privacy) for site in sites]
    return Together(detector, result, own, privacy, tuple(remarks))


def _excluded(of: TrainingResult | FleetStatistics | None, what: str) -> Sequence[tuple[str, str]]:
    return (
        [] if of is None else [(site, f"left out of the {what}: {why}") for site, why in of.excluded.items()]
    )


def _of_rounds(trainer: Trainer, result: TrainingResult | None) -> Iterator[tuple[str, str]]:
    from pipeline.federation.rules import fewest_sites

    if result is None:
        return
    yield from result.shortened.items()
    if len(result.sites) < fewest_sites(trainer.settings()):
        yield from ((site, _TOO_FEW_LEFT) for site in result.sites)


def _without_noise(config: Config, privacy: Mapping[str, Any]) -> Iterator[str]:
    """What sites share without noise where some of what they share carries it, `privacy`: whoever reads that budget alone takes it for that of the detector."""
    sources = set(config.detector.sources)
    shared = {
        "updates of the network": ("network" in sources and "rounds" not in privacy, "training.privacy"),
        "statistics for linear sources": (
            sources & {"ridge", "stiff_ridge", "pca"} and "statistics" not in privacy,
            "training.statistics_noise",
        ),
        "sums for the others' scales": (config.dataset.share_scale, "dataset.share_scale = false"),
    }
    for what, (without, key) in shared.items():
        if without:
            yield f"shares {what} without noise, so the privacy budget does not cover the detector ({key})"
