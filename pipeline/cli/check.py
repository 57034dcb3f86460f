"""Commands that look before anyone leaps: `init`, `doctor`, `config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import print_json, say, show
from pipeline.cli.options import AsJson, Bootstrap, ConfigPath

config_app = typer.Typer(
    help="The configuration: its reference, and what a file resolves to.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(doctor)
    app.command()(init)
    app.command()(version)


def doctor(config: ConfigPath, bootstrap: Bootstrap = None, as_json: AsJson = False) -> int:
    """Check configuration, broker, topics, rights, disk and versions; each finding says what to do."""
    from pipeline.cli.tables import findings_table
    from pipeline.doctor.checkup import check_up
    from pipeline.jobs.idle import idle_stretches

    findings = check_up(config, bootstrap, idle_stretches)
    failed = any(finding.status == "fail" for finding in findings)
    if as_json:
        fields = ("name", "status", "detail", "advice")
        print_json(
            {"ok": not failed, "findings": [{key: getattr(f, key) for key in fields} for f in findings]}
        )
    else:
        show(findings_table(findings))
    return 12 if failed else 0


def init(
    path: Annotated[Path, typer.Argument(metavar="CONFIG", help="File to write.")] = Path("fedplant.toml"),
    site: Annotated[list[str] | None, typer.Option("--site", help="A site's name; may be repeated.")] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Write a configuration to start from; an existing file is never overwritten."""
    from pipeline.config.starter import write_starter

    write_starter(path, site or ["plant-a", "plant-b"], bootstrap or "localhost:9092")
    say(f"wrote {path}; next: fedplant doctor {path}")


def version(as_json: AsJson = False) -> None:
    """Versions of FedPlant and of what it stands on."""
    from pipeline.manifest import versions

    found = versions()
    if as_json:
        print_json(found)
        return
    for name, number in found.items():
        show(f"{name} {number}")


@config_app.command("reference")
def reference() -> None:
    """Print the reference of every key, as Markdown."""
    from pipeline.config.reference import render

    typer.echo(render(), nl=False)


@config_app.command("show")
def show_config(config: ConfigPath) -> None:
    """Print what a configuration resolves to, defaults and environment included, as JSON; secrets never."""
    from pipeline.config import load_config

    print_json(load_config(config).model_dump(mode="json"))
