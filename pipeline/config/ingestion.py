"""From messages to closed windows: the `[ingestion]` table."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.durations import Seconds
from pipeline.config.names import AssetName, GroupName
from pipeline.config.section import Section
from pipeline.config.sensors import SensorConfig


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
