"""Commands that move readings: `replay` sends them as plants would, `ingest` turns them into windows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import bar, print_json, say, show
from pipeline.cli.layouts import AS_USUAL, LayoutOptions, takes_layout
from pipeline.cli.monitor import LogJson, MetricsPort, monitor
from pipeline.cli.options import AcceptGap, AsJson, Bootstrap, ConfigPath, NewTopic, instant, seconds


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(replay)
    app.command()(ingest)
    app.command()(audit)
    app.command()(compact)


@takes_layout
def replay(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with one Parquet or CSV file per site.")
    ],
    bootstrap: Bootstrap = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Take cluster, security, topics and the zone of times without an offset from this configuration.",
        ),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            "--speed", help="`max`, or a factor of real time: 1 is real time, 60 a minute per second."
        ),
    ] = "max",
    start: Annotated[
        str | None,
        typer.Option("--from", help="Send readings from this time on; without an offset in the files' zone."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--until", help="Send readings before this time; without an offset in the files' zone."),
    ] = None,
    site: Annotated[list[str] | None, typer.Option("--site", help="Only this site; may be repeated.")] = None,
    laid_out: LayoutOptions = AS_USUAL,
    processes: Annotated[
        str,
        typer.Option("--processes", help="`one` for all sites, or `per-site`: one producer process each."),
    ] = "one",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send recorded sensor data to each site's topic, as the plants' gateways would. Labels are never sent."""
    from pipeline.config import load_config
    from pipeline.streams.plants import replay_folder, speed_factor

    settings = None if config is None else load_config(config)
    layout = laid_out.layout(settings)
    factor = speed_factor(speed)
    if processes not in ("one", "per-site"):
        raise typer.BadParameter(f"{processes!r} is not `one` or `per-site`", param_hint="--processes")
    with bar("sending readings") as progress:
        report = replay_folder(
            folder,
            config=settings,
            layout=layout,
            bootstrap=bootstrap,
            speed=factor,
            start=instant(start, "--from", layout.time_zone),
            end=instant(end, "--until", layout.time_zone),
            sites=site,
            processes=processes,
            dry_run=dry_run,
            say=say,
            progress=progress.update,
        )
    if as_json:
        print_json(report.to_dict())
        return
    verb = "would be sent" if dry_run else "sent"
    for name, sent in sorted(report.sites.items()):
        show(f"{name}: {sent.messages:,} messages {verb} to {sent.topic}")


def ingest(
    config: ConfigPath,
    bootstrap: Bootstrap = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep reading until stopped, instead of what is there now.")
    ] = False,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="Processes that share the partitions.")
    ] = 1,
    accept_gap: AcceptGap = False,
    new_topic: NewTopic = False,
    metrics_port: MetricsPort = None,
    log_json: LogJson = False,
    as_json: AsJson = False,
) -> None:
    """Read the sites' topics into closed windows on disk, each reading exactly once."""
    from pipeline.cli.tables import counts_table
    from pipeline.config import load_config
    from pipeline.streams.cluster import connect
    from pipeline.streams.intake import Consent, counts_by_site, ingest_sites

    settings = load_config(config)
    monitor(settings, metrics_port, log_json)
    with connect(settings, bootstrap, say) as cluster, bar("ingesting") as progress:
        report = ingest_sites(
            settings,
            cluster,
            follow=follow,
            consent=Consent(accept_gap, new_topic),
            workers=workers,
            progress=progress.update,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        show(counts_table(counts_by_site(report)))
        for topic in report.missing_topics:
            show(f"no topic {topic} yet")


def compact(
    config: ConfigPath,
    period: Annotated[
        str, typer.Option("--period", metavar="DURATION", help="Span of event time that becomes one file.")
    ] = "1d",
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="DURATION",
            help="Leave alone what is younger than this, counted from a partition's newest window; default: the allowed lateness.",
        ),
    ] = None,
    min_files: Annotated[
        int, typer.Option("--min-files", min=2, help="Fewer files are left as they are.")
    ] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be united; change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Unite the small window files of old periods; readings, their order and what `audit` proves stay as they are."""
    from ingestion.compaction import compact as compact_files
    from pipeline.cli.tables import compaction_table
    from pipeline.config import load_config

    settings = load_config(config)
    span, age = seconds(period, "--period"), seconds(older_than, "--older-than")
    assert span is not None
    if span < settings.ingestion.window:
        raise typer.BadParameter(f"{period}: shorter than a window", param_hint="--period")
    with bar("uniting window files") as progress:
        report = compact_files(
            settings.project.data_dir,
            [site.name for site in settings.sites],
            period=span,
            older_than=settings.ingestion.allowed_lateness if age is None else age,
            min_files=min_files,
            dry_run=dry_run,
            progress=progress.update,
        )
    print_json(report.to_dict()) if as_json else show(compaction_table(report))


def audit(config: ConfigPath, bootstrap: Bootstrap = None, as_json: AsJson = False) -> int:
    """Prove that every offset went to exactly one place. Ends with 7 if one is missing or doubled."""
    from ingestion.audit import audit as audit_topics
    from pipeline.cli.tables import audit_table
    from pipeline.config import load_config
    from pipeline.streams.cluster import connect
    from pipeline.streams.intake import assure_ingestion, ingest_settings

    settings = load_config(config)
    with connect(settings, bootstrap, say) as cluster:
        told = ingest_settings(settings, cluster)
        assure_ingestion(told, writes=False)
        report = audit_topics(told)
    print_json(report.to_dict()) if as_json else show(audit_table(report))
    return 0 if report.clean else 7
