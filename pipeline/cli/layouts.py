"""Options that say how site files are laid out, the same for every command that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import time_form, zone

if TYPE_CHECKING:
    from ingestion.layout import Layout
    from pipeline.config import Config

TimeColumn = Annotated[
    str, typer.Option("--time", metavar="COLUMN", help="In site files the column that holds the time.")
]
AssetColumn = Annotated[
    str, typer.Option("--asset", metavar="COLUMN", help="The column that names the machine, if any.")
]
LabelColumn = Annotated[
    str,
    typer.Option("--label", metavar="COLUMN", help="The column of 0 and 1 that marks incidents, if any."),
]
SensorColumn = Annotated[
    str | None,
    typer.Option(
        "--sensor",
        metavar="COLUMN",
        help="In exports of one row per reading: the column that names the sensor.",
    ),
]
ValueColumn = Annotated[
    str | None, typer.Option("--value", metavar="COLUMN", help="The column of its value; with --sensor.")
]
QualityColumn = Annotated[
    str | None,
    typer.Option(
        "--quality",
        metavar="COLUMN",
        help="The column of a row's quality (OPC number, OPC UA status, or Good, Uncertain, Bad): values of bad rows count as "
        "missing. Lowest number kept: `ingestion.min_quality` of the configuration, else 64.",
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        "--time-format",
        metavar="FORMAT",
        help="How times are written if not in ISO 8601: '%d/%m/%Y %H:%M'.",
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--time-zone",
        metavar="ZONE",
        help="Zone of times without an offset: Europe/Berlin; default: `ingestion.time_zone` of the configuration, else UTC.",
    ),
]


def layout_of(
    config: Config | None,
    time: str,
    asset: str,
    label: str,
    sensor: str | None,
    value: str | None,
    quality: str | None,
    time_format: str | None,
    time_zone: str | None,
) -> Layout:
    """What the options say, with what the configuration says of zone and quality.

    Raises:
      typer.BadParameter: a format or zone is none, or half of a pair is missing.
    """
    from dataclasses import replace

    from pipeline.config.files import file_layout

    if (sensor is None) != (value is None):
        raise typer.BadParameter(
            "only together: the sensor's column and its value's", param_hint="--sensor, --value"
        )
    found = replace(
        file_layout(config),
        timestamp=time,
        asset=asset,
        label=label,
        sensor=sensor,
        value=value,
        quality=quality,
        time_format=time_form(time_format, "--time-format"),
    )
    return found if time_zone is None else replace(found, time_zone=zone(time_zone, "--time-zone"))


def refuse_without_files(layout: Layout, config: Config, option: str) -> None:
    """A layout was given, and no files that it could be of.

    Raises:
      typer.BadParameter: so it is.
    """
    from pipeline.config.files import file_layout

    if layout != file_layout(config):
        raise typer.BadParameter(
            f"say how site files are laid out, which {option} names", param_hint="--time, --asset, .."
        )
