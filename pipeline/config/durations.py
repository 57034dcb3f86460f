"""Durations as plants write them: `500ms`, `30s`, `5min`, `6h`, `7d`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

UNITS_IN_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*\Z")
_LONGEST_DAYS = 36_500
_ALLOWED = "a number with one of the units ms, s, min, h, d, such as '30s' or '6h'"


def parse_duration(value: Any) -> float:
    """Seconds of a duration written with its unit.

    >>> parse_duration("1.5min")
    90.0

    Raises:
      ValueError: the value has no unit, an unknown unit, is not a number, or is longer than a hundred years.
    """
    if not isinstance(value, str):
        raise ValueError(f"there is no unit; write {_ALLOWED}")
    match = _FORM.match(value)
    if match is None:
        raise ValueError(f"not a duration; write {_ALLOWED}")
    number, unit = match.groups()
    if unit not in UNITS_IN_SECONDS:
        said = f"unit {unit!r} is not known" if unit else "there is no unit"
        raise ValueError(f"{said}; write {_ALLOWED}")
    found = float(number) * UNITS_IN_SECONDS[unit]
    if found > _LONGEST_DAYS * UNITS_IN_SECONDS["d"]:
        raise ValueError(f"longer than {_LONGEST_DAYS}d")
    return found


def format_duration(seconds: float) -> str:
    """The shortest exact form of a duration in seconds.

    >>> format_duration(21600.0)
    '6h'
    """
    for unit in ("d", "h", "min", "s"):
        count = seconds / UNITS_IN_SECONDS[unit]
        if count >= 1 and abs(count - round(count)) < 1e-9:
            return f"{round(count)}{unit}"
    return f"{seconds * 1000:g}ms"


Seconds = Annotated[float, BeforeValidator(parse_duration)]
"""A configuration value in seconds, written with its unit in TOML."""
