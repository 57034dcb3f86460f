"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer


def address(text: str | None) -> str | None:
    """A comma-separated list of `host:port`.

    Raises:
      typer.BadParameter: one of them is not of that form.
    """
    from pipeline.config.address import wrong_address

    wrong = None if text is None else wrong_address(text)
    if wrong:
        raise typer.BadParameter(wrong)
    return text


ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="The TOML configuration file.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on standard output.")
]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap",
        metavar="HOST:PORT",
        help="Use this Kafka cluster instead of the configured one.",
        callback=address,
    ),
]
AcceptGap = Annotated[
    bool,
    typer.Option(
        "--accept-gap",
        help="Go on although the broker has removed or replaced readings that were not read yet.",
    ),
]
NewTopic = Annotated[
    bool,
    typer.Option(
        "--new-topic", help="Go on although a topic was deleted and made anew; old windows are kept."
    ),
]


def instant(text: str | None, option: str, zone: str = "UTC") -> datetime | None:
    """An ISO-8601 instant in UTC; without an offset it is what a clock in the IANA `zone` shows.

    Raises:
      typer.BadParameter: the text is not ISO-8601 (a number is not), or such a clock shows it twice or never.
    """
    from pipeline.config.instants import as_utc, parse_moment

    if text is None:
        return None
    try:
        return as_utc(parse_moment(text), zone)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint=option) from None


def seconds(text: str | None, option: str) -> float | None:
    """A duration with its unit, such as `6h`, in seconds.

    Raises:
      typer.BadParameter: the text is not a duration.
    """
    if text is None:
        return None
    from pipeline.config.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint=option) from None


def zone(text: str, option: str) -> str:
    """An IANA time zone such as `Europe/Berlin`.

    Raises:
      typer.BadParameter: there is no such zone.
    """
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise typer.BadParameter(
            f"{text!r} is no time zone; write it as Europe/Berlin", param_hint=option
        ) from None
    return text


def time_form(text: str | None, option: str) -> str | None:
    """How times are written, in the letters of `strptime`.

    Raises:
      typer.BadParameter: a letter is unknown.
    """
    if text is None:
        return None
    sample = datetime(2026, 3, 1, tzinfo=timezone.utc)
    try:
        datetime.strptime(sample.strftime(text), text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r}: {error}; write it as '%d/%m/%Y %H:%M'", param_hint=option
        ) from None
    return text
