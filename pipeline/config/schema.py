"""The whole configuration, and which of its tables can go together. Every table is in the module of its name.

Durations are written with their unit (`'30s'`, `'6h'`) and are seconds here. Unknown keys are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, model_validator

from pipeline.config.dataset import DatasetConfig
from pipeline.config.detector import DetectorConfig
from pipeline.config.ingestion import IngestionConfig
from pipeline.config.kafka import KafkaConfig
from pipeline.config.model import ModelConfig
from pipeline.config.monitoring import MonitoringConfig
from pipeline.config.names import RecipeName
from pipeline.config.project import ProjectConfig
from pipeline.config.recipes import RecipeConfig
from pipeline.config.scoring import ScoringConfig
from pipeline.config.section import Section
from pipeline.config.sites import SiteConfig
from pipeline.config.training import TrainingConfig
from pipeline.errors import ConfigError


def refusals(
    dataset: DatasetConfig, model: ModelConfig, training: TrainingConfig, detector: DetectorConfig
) -> Iterator[str]:
    """Why sections that are right by themselves cannot go together."""
    if training.statistics_noise is not None and dataset.share_scale:
        yield (
            "training.statistics_noise with dataset.share_scale: the sums of scales are shared without noise, so the budget would be "
            "untrue; set dataset.share_scale = false"
        )
    if training.statistics_noise is not None and not {"ridge", "stiff_ridge"} & set(detector.sources):
        yield "training.statistics_noise without a ridge in detector.sources: no statistics are shared; leave it out"
    if "network" not in detector.sources and (training.personalise != "none" or training.clusters > 1):
        what = "personalise" if training.personalise != "none" else "clusters"
        yield f"training.{what} without network in detector.sources: there is no network to make one's own; leave it out"
    if "network" in detector.sources and (why := model.too_short()) is not None:
        yield f"{why}; without network in detector.sources any length will do"


class Config(Section):
    """The whole file."""

    project: ProjectConfig = Field(default_factory=ProjectConfig)
    kafka: KafkaConfig = Field(default_factory=KafkaConfig)
    sites: list[SiteConfig] = Field(min_length=1, description="The plants, one `[[sites]]` each.")
    ingestion: IngestionConfig = Field(default_factory=IngestionConfig)
    dataset: DatasetConfig = Field(default_factory=DatasetConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    detector: DetectorConfig = Field(default_factory=DetectorConfig)
    scoring: ScoringConfig = Field(default_factory=ScoringConfig)
    monitoring: MonitoringConfig = Field(default_factory=MonitoringConfig)
    recipes: dict[RecipeName, RecipeConfig] = Field(
        default_factory=dict, description="Settings to compare under a name."
    )

    @model_validator(mode="after")
    def _distinct_sites(self) -> Config:
        for what, values in (
            ("name", [site.name for site in self.sites]),
            ("topic", [site.telemetry_topic for site in self.sites]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"two sites have the same {what} {twice[0]!r}")
        return self

    @model_validator(mode="after")
    def _distinct_groups(self) -> Config:
        if self.ingestion.group == self.scoring.group:
            raise ValueError(
                f"ingestion.group and scoring.group are both {self.ingestion.group!r}: what one has read says nothing of the other; "
                "rename one"
            )
        return self

    @model_validator(mode="after")
    def _sections_fit(self) -> Config:
        for reason in refusals(self.dataset, self.model, self.training, self.detector):
            raise ValueError(reason)
        return self

    @model_validator(mode="after")
    def _recipes_make_sense(self) -> Config:
        from pipeline.config.change import changed

        for name, recipe in self.recipes.items():
            try:
                changed(self, recipe.changes)
            except ConfigError as error:
                raise ValueError(f"recipes.{name}: {error}") from None
        return self

    def fingerprint_fields(self) -> dict[str, Any]:
        """What decides the trained detector, JSON-safe; two equal values on equal data give an equal detector."""
        found = self.model_dump(mode="json", include={"dataset", "model", "training", "detector"})
        for stretch in found["dataset"]["leave_out"]:
            del stretch["note"]
        # It says what is told of a training, not what is learned.
        del found["dataset"]["looked_at"]
        # At their defaults as of releases that had no such key: their results are still those of these settings.
        for section, key in (("detector", "logarithms"), ("dataset", "leave_out"), ("dataset", "counters")):
            of = getattr(self, section)
            if getattr(of, key) == type(of).model_fields[key].get_default(call_default_factory=True):
                del found[section][key]
        # Alarms a week are counted by it; other thresholds know nothing of it, and releases before counted by the default.
        hold_off = self.scoring.hold_off
        counted = self.detector.threshold == "alarms_per_week"
        if counted and hold_off != type(self.scoring).model_fields["hold_off"].default:
            found["scoring"] = {"hold_off": hold_off}
        return found
