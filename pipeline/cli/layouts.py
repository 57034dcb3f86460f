"""Options that say how site files are laid out, the same for every command that reads them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import time_form, zone

if TYPE_CHECKING:
    from ingestion.layout import Layout
    from pipeline.config import Config


@dataclass(frozen=True)
class LayoutOptions:
    """What the command line says of how site files are laid out, one option a field."""

    time: Annotated[
        str, typer.Option("--time", metavar="COLUMN", help="In site files the column that holds the time.")
    ] = "timestamp"
    asset: Annotated[
        str, typer.Option("--asset", metavar="COLUMN", help="The column that names the machine, if any.")
    ] = "asset"
    label: Annotated[
        str,
        typer.Option("--label", metavar="COLUMN", help="The column of 0 and 1 that marks incidents, if any."),
    ] = "label"
    sensor: Annotated[
        str | None,
        typer.Option(
            "--sensor",
            metavar="COLUMN",
            help="In exports of one row per reading: the column that names the sensor.",
        ),
    ] = None
    value: Annotated[
        str | None, typer.Option("--value", metavar="COLUMN", help="The column of its value; with --sensor.")
    ] = None
    quality: Annotated[
        str | None,
        typer.Option(
            "--quality",
            metavar="COLUMN",
            help="The column of a row's quality (OPC number, OPC UA status, or Good, Uncertain, Bad): values of bad rows count as "
            "missing. Lowest number kept: `ingestion.min_quality` of the configuration, else 64.",
        ),
    ] = None
    time_format: Annotated[
        str | None,
        typer.Option(
            "--time-format",
            metavar="FORMAT",
            help="How times are written if not in ISO 8601: '%d/%m/%Y %H:%M'.",
        ),
    ] = None
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone",
            metavar="ZONE",
            help="Zone of times without an offset: Europe/Berlin; default: `ingestion.time_zone` of the configuration, else UTC.",
        ),
    ] = None

    def layout(self, config: Config | None) -> Layout:
        """What the options say, with what the configuration says of zone and quality.

        Raises:
          typer.BadParameter: a format or zone is none, or half of a pair is missing.
        """
        from pipeline.config.files import file_layout

        if (self.sensor is None) != (self.value is None):
            raise typer.BadParameter(
                "only together: the sensor's column and its value's", param_hint="--sensor, --value"
            )
        found = replace(
            file_layout(config),
            timestamp=self.time,
            asset=self.asset,
            label=self.label,
            sensor=self.sensor,
            value=self.value,
            quality=self.quality,
            time_format=time_form(self.time_format, "--time-format"),
        )
        if self.time_zone is None:
            return found
        return replace(found, time_zone=zone(self.time_zone, "--time-zone"))


AS_USUAL = LayoutOptions()


def takes_layout(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with one option for each field of `LayoutOptions` in place of its parameter `laid_out`."""
    own = inspect.signature(command, eval_str=True).parameters
    options = inspect.signature(LayoutOptions, eval_str=True).parameters
    shown = [each for name in own for each in (options.values() if name == "laid_out" else [own[name]])]

    @functools.wraps(command)
    def asked(**given: Any) -> Any:
        laid_out = LayoutOptions(**{name: given.pop(name) for name in options})
        return command(**given, laid_out=laid_out)

    # Typer makes its options of what the signature says.
    asked.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return asked


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
