"""One data set learned in several ways: federated, each site alone, and pooled, with the same model, steps and calibration.

Pooling raw data is what no plant may do; it is trained only to show what federation loses against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.architectures import ArchitectureSpec, from_name
from models.baselines import fit_baseline
from models.detector import Detector, Scores
from models.fitting import Prior, fit_detector
from models.options import DetectorOptions
from models.scaling import SensorScaling
from models.sharing import Young
from models.sources.pca import CLIP as COMPONENT_CLIP
from pipeline.artefacts import BASELINES, CENTRALISED, FEDERATED, LOCAL, Curve, Curves, RoundRecord
from pipeline.config.schema import Config
from pipeline.datasets.prepared import TrainingRows
from pipeline.datasets.shards import Dataset, alone_shards
from pipeline.errors import ConfigError
from pipeline.sharing import early_sites, young_scaling
from pipeline.watch import Step, Watch

if TYPE_CHECKING:
    from pipeline.federation.settings import RoundResult, TrainingResult, TrainingSettings
    from pipeline.federation.statistics import FleetStatistics


_EARLY = "too short a training to tell slow changes from faults; they are followed all the same, as sites with a history advise"

_TOO_FEW_LEFT = "so few sites were left in the end that training.aggregation could not tell a bad one apart"

_SMALL_GROUP = "its group has fewer sites than training.aggregation needs, so it keeps the common network"

_SWITCHING = "a machine that switches between states: what the other sensors of the same instant explain is nothing unusual there"


class Scorer(Protocol):
    """Anything that scores a run of one site: a detector or a baseline."""

    def score(self, site: str, values: NDArray[np.float64]) -> Scores:
        """Scores of `values`, `float64[N, F]` in sensor units."""

    def training_threshold(self, site: str) -> float:
        """The threshold that training set."""


@dataclass(frozen=True)
class Learned:
    """What came out of the training.

    Attributes:
      scorers: by way of training, by site.
      detector: the federated one, which is exported; None if it was not asked for.
      curves: learning curves of the trained modes; for `local` the mean over sites.
      privacy: what noise promises, by what was shared: `rounds`, `statistics`; empty without noise.
      personal: by site with weights of its own, or its group's, whose they are.
      network: weights of the federated network, None without one; `own_networks` those of the sites in `personal`.
      remarks: site and remark of those that took no part in what the federated detector is made from, or less than they would have, or are followed early.
    """

    scorers: Mapping[str, Mapping[str, Scorer]]
    detector: Detector | None
    curves: Curves
    privacy: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    personal: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[tuple[str, str], ...] = ()
    network: Sequence[NDArray[np.float32]] | None = None
    own_networks: Mapping[str, Sequence[NDArray[np.float32]]] = field(default_factory=dict)


def architecture(config: Config) -> ArchitectureSpec:
    """The configured network."""
    model = config.model
    if model.architecture == "tcn":
        return from_name("tcn", channels=model.channels, dilations=tuple(model.dilations))
    return from_name("autoencoder", widths=tuple(model.hidden))


def learn(
    config: Config, dataset: Dataset, rows: TrainingRows, modes: Iterable[str], *, workdir: Path, watch: Watch
) -> Learned:
    """Train and calibrate every way that is asked for.

    Args:
      config: model, training and detector settings.
      dataset: the shards, per site.
      rows: by site, the raw training runs that calibration looks at; never leaves its site's entry.
      modes: of `pipeline.artefacts.MODES`.
      workdir: where checkpoints lie, so that a killed training resumes.
      watch: is told about every round.

    Raises:
      ConfigError: more groups of sites are wanted than there are sites, or too few sites for a robust aggregation.
      TrainingFailed: no site is left to train with.
      NotEnoughData: too few rows to calibrate.
    """
    from pipeline.federation.rules import fewest_sites

    wanted = set(modes)
    sites = sorted(dataset.shards)
    training = _Training(config, dataset, rows, workdir)
    scorers: dict[str, dict[str, Scorer]] = {}
    curves: dict[str, Curve] = {}
    detector = None
    privacy: dict[str, Mapping[str, Any]] = {}
    personal: dict[str, str] = {}
    remarks: list[tuple[str, str]] = []
    network, own = None, OwnModels()
    if FEDERATED in wanted:
        if config.training.clusters > len(sites):
            raise ConfigError(
                f"training.clusters = {config.training.clusters}: expected 1 to {len(sites)}, the number of sites that can train"
            )
        with watch.step("federated training") as step:
            statistics = training.fleet_statistics(sites)
            result = training.run(FEDERATED, sites, step)
            if result is not None:
                network, own = result.weights, training.own_models(result)
            components = training.component_statistics(sites)
            detector = training.detector(
                result,
                sites,
                None if statistics is None else statistics.prior,
                None if components is None else components.prior,
                own_weights=own.weights,
            )
        personal.update(own.whose)
        remarks += [(site, _SMALL_GROUP) for site in own.in_small_groups]
        remarks += [(site, _EARLY) for site in sorted(training.early)]
        remarks += [(site, _SWITCHING) for site in detector.switching]
        for of, what in ((result, "federated rounds"), (statistics, "shared sum of statistics")):
            if of is not None:
                remarks += [(site, f"left out of the {what}: {why}") for site, why in of.excluded.items()]
        if result is not None:
            remarks += result.shortened.items()
            if len(result.sites) < fewest_sites(training.settings()):
                remarks += [(site, _TOO_FEW_LEFT) for site in result.sites]
        for shared, budget in (
            ("rounds", result and result.privacy),
            ("statistics", statistics and statistics.budget),
        ):
            if budget:
                privacy[shared] = asdict(budget)
        if privacy and len(sites) > 1:
            remarks += [(site, what) for what in _without_noise(config, privacy) for site in sites]
        scorers[FEDERATED] = dict.fromkeys(sites, detector)
        _note_curve(curves, FEDERATED, [result])
    if LOCAL in wanted:
        with watch.step("each site alone") as step:
            scorers[LOCAL] = {}
            alone: list[TrainingResult | None] = []
            for number, site in enumerate(sites):
                result = training.run(LOCAL, [site], step, done=number, of=len(sites))
                scorers[LOCAL][site] = training.detector(result, [site], alone=True)
                alone.append(result)
        _note_curve(curves, LOCAL, alone)
    if CENTRALISED in wanted:
        with watch.step("pooled, to compare") as step:
            result = training.run(CENTRALISED, sites, step)
            scorers[CENTRALISED] = dict.fromkeys(sites, training.detector(result, sites))
        _note_curve(curves, CENTRALISED, [result])
    names = [name for name in BASELINES if name in wanted]
    if names:
        with watch.step("baselines") as step:
            scorers.update(fit_baselines(config, dataset, rows, names, step))
    return Learned(scorers, detector, Curves(curves), privacy, personal, tuple(remarks), network, own.weights)


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


def fit_baselines(
    config: Config, dataset: Dataset, rows: TrainingRows, names: Iterable[str], step: Step | None = None
) -> dict[str, dict[str, Scorer]]:
    """The simple methods, each site for itself, with the detector's own smoothing, calibration and threshold rule."""
    found: dict[str, dict[str, Scorer]] = {}
    jobs = [(name, site) for name in names for site in sorted(dataset.shards)]
    for done, (name, site) in enumerate(jobs, 1):
        found.setdefault(name, {})[site] = fit_baseline(
            name,
            dataset.sensors,
            dataset.step_ns / 1e9,
            config.model.steps,
            {site: SensorScaling.from_dict(dataset.own_scaling[site])},
            {site: rows[site]},
            calibration(config),
        )
        if step is not None:
            step.update(done, len(jobs), f"{name} {site}")
    return found


def calibration(config: Config) -> DetectorOptions:
    """The configured sources and way from residuals to alarms."""
    asked = config.detector
    return DetectorOptions(
        sources=tuple(asked.sources),
        rule=asked.threshold,
        false_alarm_rate=asked.false_alarm_rate,
        alarms_per_week=asked.alarms_per_week,
        hold_off_seconds=config.scoring.hold_off,
        threshold_follows=asked.threshold_follows,
        average_seconds=None if asked.averages is None else tuple(asked.averages),
        follow_from_seconds=asked.follow_from,
    )


@dataclass(frozen=True)
class OwnModels:
    """Weights of sites that do not use the common ones, and whose they are, in words; sites whose group was too small to have some."""

    weights: Mapping[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    whose: Mapping[str, str] = field(default_factory=dict)
    in_small_groups: Sequence[str] = ()


@dataclass(frozen=True)
class _Training:
    """What every way of training shares."""

    config: Config
    dataset: Dataset
    rows: TrainingRows
    workdir: Path

    def fleet_statistics(self, sites: list[str]) -> FleetStatistics | None:
        """One federated sum of what the linear sources are fitted from; None if no source or no second site needs it."""
        asked = self.config.detector.sources
        if len(sites) < 2 or not {"ridge", "stiff_ridge"} & set(asked):
            return None
        from pipeline.federation.privacy import StatisticsNoise
        from pipeline.federation.statistics import Design, federated_statistics

        training, design, noise = self.config.training, Design(len(self.dataset.sensors)), None
        if training.statistics_noise is not None:
            noise = StatisticsNoise(training.statistics_noise, training.delta, training.statistics_unit)
            # A typical row has mean square 1 in every column.
            longest = training.statistics_norm or 1.5 * design.width**0.5
            design = replace(design, largest_norm=longest)
        return federated_statistics(
            {site: self.dataset.shards[site] for site in sites},
            design,
            workdir=self.workdir / "statistics",
            noise=noise,
        )

    def component_statistics(self, sites: list[str]) -> FleetStatistics | None:
        """The federated sum of what the components are fitted from; None where a part of the other sum, which noise protects, has to do."""
        wanted = {"pca"} <= set(
            self.config.detector.sources
        ) and self.config.training.statistics_noise is None
        if len(sites) < 2 or not wanted:
            return None
        from pipeline.federation.statistics import Design, federated_statistics

        design = Design(len(self.dataset.sensors), lags=0, clip=COMPONENT_CLIP)
        return federated_statistics({site: self.dataset.shards[site] for site in sites}, design)

    def own_models(self, common: TrainingResult) -> OwnModels:
        """What sites or groups of sites make of the common network, as configured."""
        asked = self.config.training
        if asked.personalise == "none" and asked.clusters == 1:
            return OwnModels()
        from pipeline.federation.clusters import train_clusters
        from pipeline.federation.personal import Personal, personalise

        shards = {site: self.dataset.shards[site] for site in common.sites}
        spec, settings = architecture(self.config), self.settings()
        steps, sensors = self.config.model.steps, len(self.dataset.sensors)
        if asked.personalise != "none":
            how = Personal(asked.personalise, asked.personal_epochs, asked.personal_strength)
            found = personalise(shards, common.weights, spec, settings, how, steps=steps, sensors=sensors)
            kept = {site: each.weights for site, each in found.items() if each.improved}
            return OwnModels(kept, dict.fromkeys(kept, "its own"))
        groups = train_clusters(
            shards,
            common,
            spec,
            settings,
            asked.clusters,
            steps=steps,
            sensors=sensors,
            workdir=self.workdir / "clusters",
        )
        return OwnModels(
            {site: result.weights for group, result in groups.items() for site in group},
            {site: f"that of {', '.join(group)}" for group in groups for site in group},
            sorted(set(shards) - {site for group in groups for site in group}),
        )

    def run(
        self, mode: str, sites: list[str], step: Step, *, done: int = 0, of: int = 1
    ) -> TrainingResult | None:
        """Train the network; None if the detector has none."""
        if "network" not in self.config.detector.sources:
            step.update(done + 1, of)
            return None
        from pipeline.federation.training import train

        rounds = self.config.training.rounds

        def on_round(result: RoundResult) -> None:
            validation = "" if result.validation is None else f" validation {result.validation:.4f}"
            note = f"{sites[0]} " if mode == LOCAL else ""
            step.update(
                done + result.round / rounds,
                of,
                f"{note}round {result.round}/{rounds} loss {result.loss:.4f}{validation}",
            )

        folder = self.workdir / (mode if mode != LOCAL else f"{mode}-{sites[0]}")
        shards = {site: self.dataset.shards[site] for site in sites}
        if mode == LOCAL:
            shards = {site: alone_shards(self.dataset, site, folder / "shards") for site in sites}
        result = train(
            shards,
            architecture(self.config),
            self.settings(),
            steps=self.config.model.steps,
            sensors=len(self.dataset.sensors),
            workdir=folder,
            mode=mode,
            on_round=on_round,
        )
        step.update(done + 1, of)
        return result

    def settings(self) -> TrainingSettings:
        return self.config.training.settings(self.config.model.steps)

    def detector(
        self,
        result: TrainingResult | None,
        sites: list[str],
        prior: Prior | None = None,
        component_prior: Prior | None = None,
        *,
        alone: bool = False,
        own_weights: Mapping[str, list[NDArray[np.float32]]] | None = None,
    ) -> Detector:
        scaling = self.dataset.own_scaling if alone else self.dataset.scaling
        return fit_detector(
            architecture(self.config),
            None if result is None else result.weights,
            self.dataset.sensors,
            self.dataset.step_ns / 1e9,
            self.config.model.steps,
            {site: SensorScaling.from_dict(scaling[site]) for site in sites},
            {site: self.rows[site] for site in sites},
            calibration(self.config),
            prior,
            own_weights,
            component_prior,
            {site: self.rows.assets[site] for site in sites},
            None if alone else self.young,
            early=() if alone else self.early,
        )

    @cached_property
    def young(self) -> Young | None:
        """How sites with a history are scaled when they play young, where sites learn from each other."""
        return young_scaling(
            self.config, self.dataset, {site: self.rows[site] for site in self.dataset.shards}
        )

    @cached_property
    def early(self) -> frozenset[str]:
        """Sites whose slow changes are followed although their training is short, where sites learn from each other."""
        runs = {site: self.rows[site] for site in self.dataset.shards}
        options = calibration(self.config)
        return early_sites(self.config, self.dataset, runs, self.rows.assets, options, self.young)


def _note_curve(curves: dict[str, Curve], mode: str, results: list[TrainingResult | None]) -> None:
    """Keep the learning curve of a mode that trained a network; the mean of several."""
    found = [_curve(result) for result in results if result is not None]
    if found:
        curves[mode] = found[0] if len(found) == 1 and mode != LOCAL else _mean_curve(found)


def _curve(result: TrainingResult) -> Curve:
    rounds = tuple(RoundRecord(r.round, r.loss, r.validation, r.seconds, dict(r.sites)) for r in result.curve)
    privacy = None if result.privacy is None else asdict(result.privacy)
    return Curve(rounds, result.best_round, result.stopped, privacy, dict(result.excluded))


def _mean_curve(curves: list[Curve]) -> Curve:
    """Round by round the mean over the curves that got that far."""
    rounds = []
    for number in range(max(len(curve.rounds) for curve in curves)):
        at = [curve.rounds[number] for curve in curves if number < len(curve.rounds)]
        sites = {site: value for record in at for site, value in record.sites.items()}
        rounds.append(
            RoundRecord(
                number + 1,
                _mean([record.loss for record in at]),
                _mean([record.validation for record in at]),
                sum(record.seconds for record in at),
                sites,
            )
        )
    return Curve(tuple(rounds), None, "each site stops by itself")


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None
