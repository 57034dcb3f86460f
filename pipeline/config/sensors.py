"""How a sensor is read: the `[ingestion.sensors."NAME"]` and `[sites.sensors."NAME"]` tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator, model_validator

from ingestion.errors import InputDataError
from ingestion.mapping import SensorRule
from pipeline.config.section import Section

if TYPE_CHECKING:
    from pipeline.config.schema import Config


class SensorConfig(Section):
    """One sensor, named as it is sent (quote the name if it has dots or spaces). What is sent passes, in this order: states, `min_quality`,
    `scale` and `offset`, `unit` to `to`, `min` and `max`, `name`. A value that does not pass becomes null and is counted for its sensor;
    the rest of its row is kept. `[sites.sensors."NAME"]` below a site says the same for that site alone and replaces the common table."""

    name: str = Field(
        "",
        description="What the sensor is called from here on; two may become one, as when a tag was renamed.",
    )
    unit: str = Field(
        "", description="Unit of `value * scale + offset`, as pint spells it: `degF`, `bar`, `mm/s`."
    )
    to: str = Field("", description="Unit that is kept; must measure the same as `unit`.")
    scale: float = Field(1.0, description="Factor, not zero.")
    offset: float = Field(0.0, description="Added after the factor.")
    min: float | None = Field(None, description="Smallest valid value, in `to`; below it: `out_of_range`.")
    max: float | None = Field(None, description="Largest valid value, in `to`; above it: `out_of_range`.")
    min_quality: int | None = Field(
        None,
        ge=0,
        le=255,
        description="Lowest OPC quality that is kept (192 good, 64 uncertain, below 64 bad); below it: `bad_quality`.",
    )
    states: dict[str, float] = Field(
        default_factory=dict,
        description="Codes of text values, `{ running = 1, stopped = 0 }`; any other value: `unknown_state`.",
    )

    @field_validator("unit", "to")
    @classmethod
    def _unit(cls, value: str) -> str:
        if value:
            from ingestion.units import parse_unit

            _checked(lambda: parse_unit(value))
        return value

    @model_validator(mode="after")
    def _together(self) -> SensorConfig:
        _checked(self.rule)
        return self

    def rule(self) -> SensorRule:
        """The same as ingestion knows it. Raises InputDataError."""
        return SensorRule(
            self.name,
            self.unit,
            self.to,
            self.scale,
            self.offset,
            self.min,
            self.max,
            self.min_quality,
            self.states,
        )


def sensors_of(config: Config, site: str) -> dict[str, SensorConfig]:
    """How a site's sensors are read, by the name as sent: its own tables before the common ones."""
    own = next((each.sensors for each in config.sites if each.name == site), {})
    return {**config.ingestion.sensors, **own}


def _checked(make: object) -> None:
    try:
        make()  # type: ignore[operator]
    except InputDataError as error:
        raise ValueError(str(error)) from None
