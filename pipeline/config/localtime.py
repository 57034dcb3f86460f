"""Times that people write without an offset."""

from __future__ import annotations

from datetime import datetime, timezone
from zoneinfo import ZoneInfo


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
