"""Training a network, summing statistics and fitting detectors, of all sites or of one, with the same model, steps and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from models.fitting import Prior, fit_detector
from models.scaling import SensorScaling
from models.sharing import Young
from models.sources.pca import CLIP as COMPONENT_CLIP
from pipeline.artefacts import LOCAL
from pipeline.config.schema import Config
from pipeline.datasets.prepared import TrainingRows
from pipeline.datasets.shards import Dataset, alone_shards
from pipeline.learning.configured import architecture, calibration
from pipeline.learning.sharing import early_sites, young_scaling
from pipeline.watch import Step

if TYPE_CHECKING:
    from pipeline.federation.settings import RoundResult, TrainingResult, TrainingSettings
    from pipeline.federation.statistics import FleetStatistics


@dataclass(frozen=True)
class OwnModels:
    """Weights of sites that do not use the common ones, and whose they are, in words; sites whose group was too small to have some."""

    weights: Mapping[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    whose: Mapping[str, str] = field(default_factory=dict)
    in_small_groups: Sequence[str] = ()


@dataclass(frozen=True)
class Trainer:
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

    def network(
        self, mode: str, sites: list[str], step: Step, *, done: int = 0, of: int = 1
    ) -> TrainingResult | None:
        """Train the network of `mode` on these sites, number `done` of `of` trainings; None if the detector has none."""
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
        """What the configuration asks of a training."""
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
        """Fit and calibrate on these sites' rows, with the network that `result` is; `alone`: a site in its own scale, which nobody tells anything."""
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
