"""What a configuration says of site files, which are read as messages are."""

from __future__ import annotations

from ingestion.layout import Layout
from pipeline.config.schema import Config


def file_layout(config: Config | None) -> Layout:
    """The usual layout, with the zone of times without an offset and the lowest quality that hold for messages, if any are configured."""
    rules = None if config is None else config.ingestion
    zone = None if rules is None else rules.time_zone
    lowest = None if rules is None else rules.min_quality
    return Layout(time_zone=zone or "UTC", min_quality=Layout.min_quality if lowest is None else lowest)
