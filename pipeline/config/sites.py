"""One plant: a `[[sites]]` table."""

from __future__ import annotations

from pydantic import Field, field_validator

from pipeline.config.names import NAME, NAME_RULE, AssetName
from pipeline.config.section import Section
from pipeline.config.sensors import SensorConfig


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
