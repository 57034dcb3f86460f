"""Instants as people write them: `2026-03-01T06:00:00Z`, or without an offset in a zone that is told beside it."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timezone
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, TypeAdapter

_BEGINS_WITH_A_DATE = re.compile(r"\d{4}-\d\d-\d\d(?!\d)", re.ASCII)
_SPELLINGS = TypeAdapter(datetime)


def parse_moment(value: Any) -> datetime:
    """What a text in ISO 8601, or a date or time of TOML, says; without an offset where none is written, and a date is its first instant.

    A number is refused, in quotes too: it could be seconds or milliseconds since 1970, and who writes 20260301 means neither.

    >>> parse_moment("2026-03-01T06:00Z").isoformat()
    '2026-03-01T06:00:00+00:00'

    Raises:
      ValueError: the value is no time.
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    text = value.strip() if isinstance(value, str) else ""
    if _BEGINS_WITH_A_DATE.match(text):
        try:
            return _spelled(text)
        except ValueError:
            pass
    raise ValueError("not a time; write it as 2026-03-01T06:00:00Z")


def _spelled(text: str) -> datetime:
    # Each of the two knows spellings that the other does not, the first one more of them from Python 3.11 on.
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return _SPELLINGS.validate_python(text)


def as_utc(moment: datetime, zone: str = "UTC") -> datetime:
    """The instant in UTC; a moment without an offset is what a clock in the IANA `zone` shows.

    >>> as_utc(datetime(2026, 3, 1), "Europe/Berlin").isoformat()
    '2026-02-28T23:00:00+00:00'

    Raises:
      ValueError: a clock in the zone shows it twice or never, or it lies outside of the calendar.
    """
    try:
        return _as_utc(moment, zone)
    except OverflowError:
        raise ValueError("outside of the calendar") from None


def _as_utc(moment: datetime, zone: str) -> datetime:
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


Instant = Annotated[datetime, BeforeValidator(lambda value: as_utc(parse_moment(value)))]
"""A configuration value in UTC. Without an offset it is in UTC; `load_config` adds that of `ingestion.time_zone` before."""
