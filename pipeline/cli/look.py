"""Commands that look without touching: `inspect` at an unknown topic, `status` at what ingestion has done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import print_json, say, show
from pipeline.cli.options import AsJson, Bootstrap, ConfigPath, zone

_WATCH_SECONDS = 2.0


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(inspect)
    app.command()(status)


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
        time_zone=None if time_zone is None else zone(time_zone, "--time-zone"),
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


def status(
    config: ConfigPath,
    bootstrap: Bootstrap = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Where ingestion is: position, lag and newest window of every partition, from broker and files alone."""
    import time

    from ingestion.status import status as look_at
    from pipeline.cli.tables import status_table
    from pipeline.config import load_config
    from pipeline.streams.cluster import connect
    from pipeline.streams.intake import assure_reading, ingest_settings

    settings = load_config(config)
    with connect(settings, bootstrap, say) as cluster:
        told = ingest_settings(settings, cluster)
        assure_reading(told)
        if not watch:
            found = look_at(told)
            print_json(found.to_dict()) if as_json else show(status_table(found))
            return
        if as_json:
            while True:
                print_json(look_at(told).to_dict())
                time.sleep(_WATCH_SECONDS)
        from rich.live import Live

        from pipeline.cli.console import console

        with Live(console=console(stderr=False), auto_refresh=False) as screen:
            while True:
                screen.update(status_table(look_at(told)), refresh=True)
                time.sleep(_WATCH_SECONDS)
