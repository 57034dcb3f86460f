"""Commands that train: `run` for a scheduler, `demo` for a newcomer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import print_json, show
from pipeline.cli.layouts import AS_USUAL, LayoutOptions, refuse_without_files, takes_layout
from pipeline.cli.monitor import LogJson, MetricsPort, monitor
from pipeline.cli.options import AcceptGap, AsJson, Bootstrap, ConfigPath, NewTopic, seconds


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(demo)
    app.command()(run)
    app.command()(tune)


def run(
    config: ConfigPath,
    bootstrap: Bootstrap = None,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="DURATION", help="Repeat, for example every `6h`, until stopped."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Train again even if there are no new readings.")
    ] = False,
    accept_gap: AcceptGap = False,
    new_topic: NewTopic = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read and trained; change nothing.")
    ] = False,
    metrics_port: MetricsPort = None,
    log_json: LogJson = False,
    as_json: AsJson = False,
) -> int:
    """Ingest what is there, train over all sites, evaluate, and export the detector."""
    from pipeline.cli.watch import JobWatch
    from pipeline.config import load_config

    period = seconds(every, "--every")
    if period is not None and period < 1:
        raise typer.BadParameter(f"{every!r}: at least a second", param_hint="--every")
    settings = load_config(config)
    monitor(settings, metrics_port, log_json)
    if dry_run:
        from pipeline.jobs.plan import plan

        planned = plan(settings, bootstrap)
        print_json(planned.to_dict()) if as_json else show(planned.text())
        return 0

    from pipeline.cli.tables import summary_text
    from pipeline.jobs.schedule import Job, run_periodically
    from pipeline.streams.intake import Consent

    def present(summary) -> None:  # type: ignore[no-untyped-def]
        print_json(summary.to_json()) if as_json else show(summary_text(summary))

    job = Job(settings, JobWatch(), bootstrap, Consent(accept_gap, new_topic), force)
    if period is None:
        present(job.run())
        return 0
    return run_periodically(job, period, on_summary=present)


def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Where everything the demo makes is kept.")] = Path(
        "fedplant-demo"
    ),
    data: Annotated[
        Path | None, typer.Option("--data", help="Site files to replay; default: examples/machines.")
    ] = None,
    keep_broker: Annotated[
        bool, typer.Option("--keep-broker", help="Leave the broker running to look around; Ctrl-C ends it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Everything once, on this machine: a real Kafka, four plants, federated training, live scoring, a report."""
    from pipeline.cli.watch import JobWatch
    from pipeline.jobs.demo import run_demo

    outcome = run_demo(folder, data, watch=JobWatch(), keep_broker=keep_broker)
    if as_json:
        print_json(outcome.to_dict())
    else:
        show(outcome.screen())
    if keep_broker:
        outcome.wait()


@takes_layout
def tune(
    config: ConfigPath,
    budget: Annotated[
        str, typer.Option("--budget", metavar="DURATION", help="Time for the search, for example `30min`.")
    ] = "30min",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Site files to learn from, as for `backtest`; default: the windows on disk."
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="What decides: `validation`, the network's federated loss, or `injected`, what the whole detector finds of "
            "faults injected into rows held back.",
        ),
    ] = "validation",
    laid_out: LayoutOptions = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Search settings without labels and write the best as TOML; killed, it goes on."""
    from pipeline.cli.watch import JobWatch
    from pipeline.config import load_config
    from pipeline.jobs.tune import run_tuning

    if by not in ("validation", "injected"):
        raise typer.BadParameter(f"{by!r} is not `validation` or `injected`", param_hint="--by")
    allowed = seconds(budget, "--budget")
    assert allowed is not None
    if allowed < 1:
        raise typer.BadParameter(f"{budget!r}: at least a second", param_hint="--budget")
    settings = load_config(config, sites_from_files=data is not None)
    layout = laid_out.layout(settings)
    if data is None:
        refuse_without_files(layout, settings, "--data")
    found = run_tuning(settings, data, layout, allowed, JobWatch(), by)
    print_json(found.to_dict()) if as_json else show(found.text())
