"""Commands that look without touching: `inspect` at an unknown topic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import print_json, say, show
from pipeline.cli.options import AsJson, Bootstrap


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(inspect)


def inspect(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic to look at.")],
    bootstrap: Bootstrap = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Take cluster and security from this configuration.")
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", min=1, max=1_000_000, help="Newest messages to look at.")
    ] = 10_000,
    limit: Annotated[
        float, typer.Option("--seconds", min=1, max=600, help="Longest time to wait for them.")
    ] = 10.0,
    format: Annotated[
        str | None, typer.Option("--format", help="Read messages so, instead of recognising their format.")
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", help="Name of the plant; default: taken from the topic.")
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option("--time-zone", help="IANA zone of times that carry no offset.")
    ] = None,
    schema_registry: Annotated[
        str | None, typer.Option("--schema-registry", help="For Avro: a folder of schemas, or an address.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the configuration here; nothing is overwritten.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at a topic nobody knows yet, and print the configuration that ingests it. Leaves no trace on the cluster."""
    from pipeline.cli.profile_text import profile_text
    from pipeline.config.starter import write_new
    from pipeline.streams.inspecting import inspect_topic

    seen = inspect_topic(
        topic,
        config_path=config,
        bootstrap=bootstrap,
        sample=sample,
        seconds=limit,
        format=format,
        site=site,
        time_zone=time_zone,
        schema_registry=schema_registry,
        say=say,
    )
    if out is not None:
        write_new(out, seen.config)
    if as_json:
        print_json(seen.to_dict())
        return
    show(profile_text(seen.profile))
    for note in seen.notes:
        show(f"note: {note}")
    if out is None:
        show("")
        show(seen.config)
    else:
        say(f"wrote {out}; next: fedplant ingest {out}")
