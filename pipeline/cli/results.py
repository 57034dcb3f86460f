"""Commands that judge: `score` live, `report` for people, `backtest` straight from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import bar, print_json, say, show
from pipeline.cli.layouts import AS_USUAL, LayoutOptions, refuse_without_files, takes_layout
from pipeline.cli.monitor import LogJson, MetricsPort, monitor
from pipeline.cli.options import AsJson, Bootstrap, ConfigPath, instant


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(score)
    app.command()(report)
    app.command()(backtest)


def score(
    config: ConfigPath,
    bootstrap: Bootstrap = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep scoring until stopped, with the newest detector.")
    ] = False,
    version: Annotated[
        int | None,
        typer.Option("--version", help="Version of the detector; default: the newest, also later ones."),
    ] = None,
    metrics_port: MetricsPort = None,
    log_json: LogJson = False,
    as_json: AsJson = False,
) -> None:
    """Score the sites' live readings with the exported detector and send alerts to their alert topics."""
    from pipeline.cli.tables import score_table
    from pipeline.config import load_config
    from pipeline.streams.cluster import connect
    from pipeline.streams.live import score_sites

    settings = load_config(config)
    monitor(settings, metrics_port, log_json)
    with connect(settings, bootstrap, say) as cluster, bar("scoring") as progress:
        outcome = score_sites(
            settings, cluster, version=version, follow=follow, progress=progress.update, say=say
        )
    print_json(outcome.to_dict()) if as_json else show(score_table(outcome))


@takes_layout
def report(
    config: ConfigPath,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Site files with a `label` column: show and count true incidents."),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Run to report on; default: the newest.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; default: report.html in the run folder.")
    ] = None,
    laid_out: LayoutOptions = AS_USUAL,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page: what was learned, what it found, and whether federation helped."""
    from pipeline.config import load_config
    from pipeline.jobs.reporting import make_report

    settings = load_config(config)
    layout = laid_out.layout(settings)
    if labels is None:
        refuse_without_files(layout, settings, "--labels")
    page = make_report(settings, labels=labels, layout=layout, run_id=run, out=out, say=say)
    print_json({"report": str(page)}) if as_json else show(f"The report is {page}")


@takes_layout
def backtest(
    data: Annotated[Path, typer.Option("--data", help="Folder with one Parquet or CSV file per site.")],
    train_until: Annotated[
        str,
        typer.Option(
            "--train-until",
            metavar="TIMESTAMP",
            help="Learn before this time, judge from it on; without an offset it is in --time-zone.",
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Take model, training and detector settings from this file."),
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            "--mode", help="Only this mode (federated, local, centralised, zscore, pca); may be repeated."
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            metavar="NAME[,NAME...]",
            help="Compare settings by name, one table for all: `default`, `linear` (no network), `ridges`, one source "
            "(`ridge`, `pca`, ..), `tcn`, `autoencoder`, `local`, `centralised`, `baseline_zscore`, `baseline_pca`, or those "
            "of `[recipes.NAME]`.",
        ),
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option("--work-dir", help="Keep data sets, checkpoints and the run here; default: discarded."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--report", help="Also write the HTML report here.")] = None,
    laid_out: LayoutOptions = AS_USUAL,
    leave_out_labelled: Annotated[
        bool,
        typer.Option(
            "--leave-out-labelled",
            help="Do not learn from incidents that are labelled before --train-until; no later label is used.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what the files hold and what would be learned; train nothing."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train and judge straight from historian exports, without Kafka: what would FedPlant have found?"""
    from zoneinfo import ZoneInfo

    from pipeline.cli.tables import backtest_table, preview_table
    from pipeline.cli.watch import JobWatch
    from pipeline.config import file_config
    from pipeline.jobs.exports import read_exports

    if recipe is not None and (mode or out):
        name = "--mode" if mode else "--report"
        raise typer.BadParameter(f"not together with {name}, which is of one recipe", param_hint="--recipe")
    base = file_config(config)
    layout = laid_out.layout(base)
    local = layout.time_zone
    until = instant(train_until, "--train-until", local)
    assert until is not None
    if local != "UTC":
        say(
            f"learning ends before {until:%Y-%m-%d %H:%M:%S} UTC, which is {until.astimezone(ZoneInfo(local)):%Y-%m-%d %H:%M:%S} in {local}"
        )
    watch = JobWatch()
    recipes = None
    if recipe is not None:
        from pipeline.config.chosen import recipe_configs
        from pipeline.config.recipes import chosen_recipes

        recipes = chosen_recipes(base.recipes, recipe)
        recipe_configs(base, recipes)
    exports = read_exports(data, until, layout, base, mode, watch, leave_out_labelled=leave_out_labelled)
    if dry_run:
        from pipeline.jobs.preview import preview

        found = preview(exports, recipes)
        print_json(found.to_dict()) if as_json else show(preview_table(found))
        return

    if recipes is not None:
        from pipeline.cli.recipes_table import comparison_table
        from pipeline.jobs.comparison import compare_recipes

        compared = compare_recipes(exports, recipes, work_dir=work_dir, watch=watch)
        print_json(compared.to_dict()) if as_json else show(comparison_table(compared))
        return

    from pipeline.jobs.backtest import run_backtest

    outcome = run_backtest(exports, work_dir=work_dir, report=out, watch=watch)
    print_json(outcome.to_dict()) if as_json else show(backtest_table(outcome))
