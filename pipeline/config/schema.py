"""Every key of the configuration, its meaning, its default and what it may be.

Durations are written with their unit (`'30s'`, `'6h'`) and are seconds here. Unknown keys are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from ingestion.settings import GROUP, GROUP_RULE
from pipeline.config.durations import Seconds
from pipeline.config.instants import Instant
from pipeline.config.kafka import KafkaConfig
from pipeline.config.leaveout import Stretches
from pipeline.config.recipes import RecipeConfig
from pipeline.config.section import Section
from pipeline.config.sensors import SensorConfig
from pipeline.config.training import TrainingConfig
from pipeline.errors import ConfigError


def _usable_recipe(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", value):
        raise ValueError(
            "a recipe's name is letters, digits, '_' and '-', starting with a letter or digit, at most 61 characters"
        )
    return value


RecipeName = Annotated[str, AfterValidator(_usable_recipe)]
AssetName = Annotated[str, Field(min_length=1, max_length=256)]


def _usable_group(value: str) -> str:
    if not GROUP.fullmatch(value):
        raise ValueError(f"a consumer group's name is {GROUP_RULE}")
    return value


GroupName = Annotated[str, AfterValidator(_usable_group)]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\Z")
NAME_RULE = "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 121 characters"


class ProjectConfig(Section):
    """What this federation is called and where its files lie."""

    name: str = Field("fleet", description="Name of the detector; a folder name in `<data_dir>/detectors/`.")
    data_dir: Path = Field(
        Path("fedplant-data"),
        description="Folder for windows, data sets, checkpoints, runs and detectors; relative to this file.",
    )
    keep_work: int = Field(
        3,
        ge=1,
        description="So many of the newest runs keep their data set and checkpoints; of older ones only the results stay.",
    )

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.match(value):
            raise ValueError(f"a name is {NAME_RULE}")
        return value


class SiteConfig(Section):
    """One plant."""

    name: str = Field(description="The site's id, as in its topic and in the detector.")
    topic: str | None = Field(None, description="Its telemetry topic; default `iiot.<name>.telemetry.v1`.")
    sensors: dict[str, SensorConfig] = Field(
        default_factory=dict, description="Sensors that this site sends in its own way; see below."
    )
    assets: dict[str, AssetName] = Field(
        default_factory=dict, description="New names of this site's machines by the names as sent."
    )

    @field_validator("name", "topic")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        if value is not None and not NAME.match(value):
            raise ValueError(f"a site or topic name is {NAME_RULE}")
        return value

    @property
    def telemetry_topic(self) -> str:
        """The topic that carries the site's readings."""
        return self.topic or f"iiot.{self.name}.telemetry.v1"


class IngestionConfig(Section):
    """From messages to closed windows."""

    window: Seconds = Field(60.0, ge=1, le=86400, description="Length of an event-time window.")
    out_of_orderness: Seconds = Field(
        10.0,
        ge=0,
        description="How far readings of one partition may be out of order before they count as late.",
    )
    allowed_lateness: Seconds = Field(
        86400.0,
        ge=0,
        description="Late readings up to this age are still kept, as addenda; older ones go to the late topic.",
    )
    max_future_skew: Seconds = Field(
        300.0, ge=0, description="A reading dated this much ahead of its record's own time is dead-lettered."
    )
    idle_timeout: Seconds = Field(
        60.0, ge=1, description="A partition silent for this long (wall clock) closes its open windows."
    )
    max_message_bytes: int = Field(
        1_048_576, ge=1024, le=100_000_000, description="Larger messages are dead-lettered unread."
    )
    time_zone: str | None = Field(
        None, description="IANA zone of times that carry no offset; without it such times are dead-lettered."
    )
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = Field(
        "auto",
        description="Unit of numeric times; `auto` tells them apart by magnitude, for times from `earliest_year` to 2199.",
    )
    earliest_year: int = Field(
        1990,
        ge=1971,
        le=2100,
        description="Times before this year are no plausible ones: dead letter `bad_timestamp`.",
    )
    format: str = Field(
        "flat",
        pattern=r"^(auto|flat|narrow|csv|sparkplug|opcua|uns|edgex|avro|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
        description="What messages look like: `flat`, `narrow`, `csv`, `sparkplug`, `opcua`, `uns`, `edgex`, `avro`; "
        "`auto` recognises it from the first records; `module:function` names your own decoder.",
    )
    schema_registry: str | None = Field(
        None,
        description="For Avro: a folder with `<id>.avsc` files or the http(s) address of a schema registry.",
    )
    group: GroupName = Field(
        "fedplant-ingest",
        description="Kafka consumer group, in printable ASCII; each data folder needs one of its own.",
    )
    min_quality: int | None = Field(
        None,
        ge=0,
        le=255,
        description="Lowest OPC quality that is kept, for all sensors; default: all are kept.",
    )
    sensors: dict[str, SensorConfig] = Field(
        default_factory=dict, description="How single sensors are read; see below."
    )
    assets: dict[str, AssetName] = Field(
        default_factory=dict,
        description="New names of machines by the names as sent, as when one was renamed.",
    )

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        if value is not None:
            from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError("not an IANA time zone, such as 'Europe/Berlin'") from error
        return value


class DatasetConfig(Section):
    """From windows to frames."""

    step: Seconds | Literal["auto"] = Field(
        "auto",
        description="Grid that readings are brought to; `auto` takes the median spacing of the readings of a sensor.",
    )
    max_gap: Seconds | Literal["auto"] = Field(
        "auto",
        description="When a machine says nothing for longer, its run ends. `auto` is 5 steps.",
    )
    hold: Seconds | Literal["auto"] = Field(
        "auto",
        description="The last value of a sensor counts this long, at least `max_gap`, while others of its machine report. `auto`: "
        "each sensor's is five times the spacing that is usual for it, so that slow sensors and those that report changes only are known.",
    )
    train_until: Instant | None = Field(
        None,
        description="Only readings before this instant are learned from (without an offset it is in `ingestion.time_zone`, else UTC); default: all.",
    )
    validation: float = Field(
        0.2, gt=0, le=0.5, description="Last share of each site's time kept for validation."
    )
    sensors: list[str] | None = Field(None, description="Sensors to use; default: all that any site sends.")
    exclude: list[str] = Field(default_factory=list, description="Sensors to leave out.")
    counters: Literal["leave_out", "keep"] = Field(
        "leave_out",
        description="Sensors that only rise or only fall in the training (pieces, operating hours, energy) at more than half of the sites "
        "at which they move. `leave_out`: as if `exclude` named them, unless `sensors` does; `keep`: learned from like any other, though "
        "what they show later was never learned.",
    )
    leave_out: Stretches = Field(
        default_factory=list,
        description="Stretches of time that are not learned from, one `[[dataset.leave_out]]` each; see below.",
    )
    share_scale: bool = Field(
        True,
        description="Sites with little history are scaled with help of what the same sensors are like at the others, from one "
        "sum over the sites; sensors in other units or ranges take nothing over. `false`: scales stay with their site.",
    )


class ModelConfig(Section):
    """What is learned."""

    architecture: Literal["tcn", "autoencoder"] = Field(
        "tcn",
        description="`tcn`: causal convolutional forecaster; `autoencoder`: dense autoencoder of whole frames.",
    )
    steps: int = Field(64, ge=4, le=4096, description="Length of a frame, in steps of the grid.")
    channels: int = Field(64, ge=2, le=1024, description="Width of the TCN.")
    dilations: list[int] = Field([1, 2, 4, 8], description="Dilations of the TCN's layers.", min_length=1)
    hidden: list[int] = Field(
        [128, 32], description="Widths of the autoencoder's encoder; the decoder mirrors it."
    )

    @model_validator(mode="after")
    def _receptive_field(self) -> ModelConfig:
        if self.architecture == "tcn":
            context = 1 + 2 * sum(self.dilations)
            if context >= self.steps:
                raise ValueError(
                    f"steps {self.steps} must exceed the TCN's receptive field {context} (1 + 2 x sum of dilations)"
                )
        return self


class DetectorConfig(Section):
    """What the detector looks at, and how residuals become alarms."""

    sources: list[Literal["ridge", "stiff_ridge", "pca", "excursion", "network"]] = Field(
        ["ridge", "stiff_ridge", "pca", "excursion", "network"],
        min_length=1,
        description="Residual sources. `ridge`: each sensor from all others and all pasts, `stiff_ridge` the same with a stronger "
        "penalty; `pca`: what the strongest components leave over; `excursion`: values beyond those of training; `network`: the "
        "federated network of `[model]`. Without `network` there are no training rounds: one federated sum is the training.",
    )
    logarithms: list[str] = Field(
        default_factory=list,
        description="Sensors whose natural logarithm is looked at instead of the reading, as patterns (`vibration_*`; `*`, `?`, `[ab]`; "
        "capitals matter): for what varies by factors, such as vibration velocity and particle counts. Readings that are not positive "
        "count as the smallest positive one that the site learned from. A pattern that matches no sensor is refused.",
    )
    threshold: Literal["quantile", "tail", "alarms_per_week"] = Field(
        "quantile",
        description="`quantile` of the training scores, `tail`: peaks over threshold, or wanted `alarms_per_week`.",
    )
    false_alarm_rate: float = Field(
        0.005, gt=0, lt=0.5, description="Share of normal steps that may score above the threshold."
    )
    alarms_per_week: float = Field(
        1.0,
        gt=0,
        lt=10_000,
        description="Alarms that a normal week may bring, for `threshold = 'alarms_per_week'`.",
    )
    threshold_follows: bool = Field(
        True,
        description="While scoring, the threshold follows what the score usually is, up to twice what training set and down to "
        "four fifths of it: fewer false alarms on a machine that changes, some faults of many days noticed later. `false`: it stays.",
    )
    averages: list[Seconds] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="Durations over which the score is averaged, each more than 0, in steps of the sampling period (the nearest, at "
        "least one); default: 3, 10 and 30 steps, whatever the period.",
    )
    follow_from: Seconds | None = Field(
        None,
        gt=0,
        description="Length of training from which slow changes are followed; gains and the threshold look back four times as long at "
        "least. Default: 1,000 steps. Younger sites are followed too where sites with a history advise it.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> DetectorConfig:
        if self.averages is not None and min(self.averages) <= 0:
            raise ValueError("averages hold 0; give durations such as '10min'")
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("sources name one twice")
        if len(set(self.logarithms)) != len(self.logarithms) or not all(p.strip() for p in self.logarithms):
            raise ValueError("logarithms hold a pattern twice or an empty one")
        return self


class ScoringConfig(Section):
    """Live scoring and alerts."""

    group: GroupName = Field(
        "fedplant-score",
        description="Kafka consumer group, in printable ASCII and another than ingestion's.",
    )
    hold_off: Seconds = Field(
        600.0, ge=0, description="An alert ends after the score stayed normal for this long."
    )
    top_sensors: int = Field(5, ge=1, le=100, description="How many contributing sensors an alert names.")


class MonitoringConfig(Section):
    """What long-running commands show to the outside (docs/reference/metrics.md)."""

    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port for Prometheus metrics; 0 takes any free one; default: none served.",
    )
    metrics_address: str = Field("127.0.0.1", description="Address they are served on; `0.0.0.0` for all.")
    log_json: bool = Field(
        False, description="JSON lines instead of text and progress bars on standard error."
    )


def refusals(dataset: DatasetConfig, training: TrainingConfig, detector: DetectorConfig) -> Iterator[str]:
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
        for reason in refusals(self.dataset, self.training, self.detector):
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
        # At their defaults as of releases that had no such key: their results are still those of these settings.
        for section, key in (("detector", "logarithms"), ("dataset", "leave_out"), ("dataset", "counters")):
            of = getattr(self, section)
            if getattr(of, key) == type(of).model_fields[key].get_default(call_default_factory=True):
                del found[section][key]
        return found
