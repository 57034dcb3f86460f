"""Times that people write without an offset."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from pipeline.config.schema import Config


def file_zone(config: Config | None) -> str:
    """The zone of times without an offset in site files: that of messages, UTC if none is configured."""
    return (config.ingestion.time_zone if config is not None else None) or "UTC"


def as_utc(moment: datetime, zone: str) -> datetime:
    """The instant in UTC; a moment without an offset is what a clock in the IANA `zone` shows.

    >>> as_utc(datetime(2026, 3, 1), "Europe/Berlin").isoformat()
    '2026-02-28T23:00:00+00:00'

    Raises:
      ValueError: a clock in the zone shows it twice or never.
    """
    if moment.tzinfo is not None:
        return moment.astimezone(timezone.utc)
    first, second = (
        moment.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(timezone.utc) for fold in (0, 1)
    )
    if first != second:
        shown = first.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == moment
        offset = moment.replace(tzinfo=ZoneInfo(zone)).isoformat()
        raise ValueError(
            f"clocks in {zone} show it {'twice' if shown else 'never'}; add the offset: {offset}"
        )
    return first
