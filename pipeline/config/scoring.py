"""Live scoring and alerts: the `[scoring]` table."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.durations import Seconds
from pipeline.config.names import GroupName
from pipeline.config.section import Section


class ScoringConfig(Section):
    """Live scoring and alerts."""

    group: GroupName = Field(
        "fedplant-score",
        description="Kafka consumer group, in printable ASCII and another than ingestion's.",
    )
    hold_off: Seconds = Field(
        600.0,
        ge=0,
        description="An alert ends after the score stayed normal for this long; `detector.alarms_per_week` counts by it.",
    )
    top_sensors: int = Field(5, ge=1, le=100, description="How many contributing sensors an alert names.")
