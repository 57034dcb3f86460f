"""What `fedplant inspect` saw, for a terminal."""

from __future__ import annotations

from typing import Any

from ingestion.profile import Profile, SensorProfile
from pipeline.cli.tables import plain_table
from pipeline.remarks import printable
from pipeline.report.words import plural

_SHOWN = 40


def profile_text(found: Profile) -> Any:
    """A few lines about the topic and a table of its sensors."""
    from rich.console import Group

    lines = [
        f"topic        {found.topic}: {plural(found.partitions, 'partition')}, {found.held:,} messages in the log, {found.messages:,} looked at",
        f"format       {found.format}"
        + (f", told by {found.recognised:,} messages" if found.recognised else ""),
        f"messages     {found.median_bytes:,} bytes (median), {found.largest_bytes:,} at most",
        f"assets       {len(found.assets):,}: {_some(list(found.assets))}",
        f"readings     {found.rows:,} over {_time(found.span)} of event time, {found.duplicates:,} repeated",
        f"clock        {_skew(found)}",
        f"order        99.9 % at most {_time(found.disorder_most)} out of order, worst {_time(found.disorder)}",
    ]
    if found.sites:
        lines.insert(2, f"plants       {_some(list(found.sites))}")
    columns = ("values", "assets", "per second", "lowest", "highest", "missing")
    table = plain_table("sensor", columns, remark="texts")
    for sensor in found.sensors[:_SHOWN]:
        table.add_row(*(printable(cell) for cell in (sensor.name[:60], *_cells(sensor))))
    more = len(found.sensors) - _SHOWN
    return Group(*lines, "", table, *([f"and {more:,} more sensors (--json lists all)"] if more > 0 else []))


def _cells(sensor: SensorProfile) -> tuple[str, ...]:
    def figure(value: float | None) -> str:
        return "-" if value is None else f"{value:.4g}"

    missing = "-" if sensor.missing is None else f"{sensor.missing:.1%}"
    figures = (figure(sensor.rate), figure(sensor.low), figure(sensor.high), missing)
    return (f"{sensor.values:,}", f"{sensor.assets:,}", *figures, _some([text[:20] for text in sensor.texts]))


def _some(names: list[str], shown: int = 5) -> str:
    text = ", ".join(name[:60] for name in names[:shown])
    return text + (", ..." if len(names) > shown else "") or "-"


def _skew(found: Profile) -> str:
    if found.skew_median is None:
        return "no reading has a time beside its record's"
    parts = (found.skew_median, found.skew_lowest or 0.0, found.skew_highest or 0.0)
    median, low, high = (f"{_time(abs(part))} {'ahead of' if part > 0 else 'behind'}" for part in parts)
    return f"event times are {median} their records (median; from {low} to {high})"


def _time(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s"
