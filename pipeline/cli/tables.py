"""Results as tables and short texts for a terminal; the same values that `--json` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from rich.table import Table

from pipeline.artefacts import CENTRALISED, FEDERATED, LOCAL, Evaluation, IngestionCounts, RunSummary
from pipeline.evaluation.metrics import Metrics
from pipeline.remarks import listed, together

_MANY_WINDOWS, _FEW_READINGS = 1000, 5

if TYPE_CHECKING:
    from ingestion.audit import AuditReport
    from ingestion.compaction import CompactionReport
    from ingestion.status import Status
    from pipeline.doctor.machine import Finding
    from pipeline.jobs.backtest import Backtest
    from pipeline.jobs.preview import Preview
    from pipeline.scoring.settings import ScoreReport

_SENSORS = 40
"""Sensors that the preview names; `--json` has all."""
_MARK = {"ok": "✓", "warn": "!", "fail": "✗"}


def number(value: float | None, digits: int = 3) -> str:
    """A figure for people; `-` where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def plain_table(first: str, columns: Iterable[str], title: str | None = None, remark: str = "") -> Table:
    """An empty table in the common style: names on the left, figures, and at the end a column of text if it is named.

    Figures are never cut: on a narrow screen names and text fold.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold", vertical="bottom")
    for column in columns:
        table.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True, vertical="bottom")
    if remark:
        table.add_column(remark, overflow="fold", min_width=12)
    return table


def counts_table(counts: Mapping[str, IngestionCounts]) -> Any:
    """Where every message of every site went, what was left out inside those that were kept, and which values the sensor mapping dropped."""
    table = plain_table(
        "site",
        ("messages", "kept", "still open", "late", "duplicate", "dead letters", "windows"),
        remark="why dead",
    )
    for site, count in counts.items():
        why = ", ".join(f"{reason} {n:,}" for reason, n in sorted(count.reasons.items())) or "-"
        figures = (count.read, count.kept, count.left_open, count.late, count.duplicate, count.dead_lettered)
        table.add_row(site, *(f"{figure:,}" for figure in (*figures, count.windows)), why)
    dropped = [
        f"{site}: {sensor}: {', '.join(f'{reason} {n:,}' for reason, n in sorted(why.items()))}"
        for site, count in counts.items()
        for sensor, why in sorted(count.sensors.items())
    ]
    inside = [
        f"{site}: {', '.join(f'{what} {n:,}' for what, n in sorted(count.repaired.items()))}"
        for site, count in counts.items()
        if count.repaired
    ]
    again = [f"{site}: {count.already_handled:,}" for site, count in counts.items() if count.already_handled]
    small = together(_small_windows(counts))
    if not dropped and not inside and not again and not small:
        return table
    from rich.console import Group

    lines = [
        line
        for title, found in (
            ("read again, on disk before:", again),
            ("inside kept messages:", inside),
            ("values dropped by the sensor mapping:", dropped),
        )
        if found
        for line in (title, *(f"  {each}" for each in found))
    ]
    return Group(table, *lines, *small)


def _small_windows(counts: Mapping[str, IngestionCounts]) -> Iterator[tuple[str, str]]:
    """Sites of so many windows with so few readings that opening their files is what a training waits for."""
    for site, count in counts.items():
        if count.windows >= _MANY_WINDOWS and count.kept < _FEW_READINGS * count.windows:
            yield (
                site,
                f"a window holds {count.kept / count.windows:.1f} readings, and every training opens a file for each: unite old ones with "
                "`fedplant compact`; for a new data folder set a longer ingestion.window (`fedplant inspect` names one)",
            )


def audit_table(report: AuditReport) -> Any:
    """Where every offset went, and the first that break the promise."""
    from rich.console import Group

    columns = ("kept", "duplicate", "late topic", "dead", "no record", "waiting", "missing", "doubled")
    table = plain_table("partition", columns)
    remarks = []
    for part in report.partitions:
        name = f"{part.topic}[{part.partition}]"
        figures = (part.kept, part.duplicate, part.late_topic, part.dead, part.no_record, part.waiting)
        table.add_row(name, *(f"{figure:,}" for figure in (*figures, part.missing, part.doubled)))
        for what, first in (("missing", part.first_missing), ("doubled", part.first_doubled)):
            if first:
                remarks.append(f"{name}: first {what} offsets {', '.join(map(str, first))}")
    remarks += [f"no topic for site {site} yet" for site in report.missing_topics]
    remarks += [f"window file cannot be read as it should: {path}" for path in report.bad_files]
    kept = "Every offset has exactly one place." if report.partitions else "There was no offset to look for."
    remarks.append(kept if report.clean else "The promise is broken.")
    return Group(table, *remarks)


def compaction_table(report: CompactionReport) -> Any:
    """What was united, by partition."""
    from rich.console import Group

    total = report.to_dict()
    if not total["periods"] and not total["left"]:
        files = total["files_before"]
        return (
            f"nothing to unite in {files:,} files: no old period has so many"
            if files
            else "no window files yet"
        )
    table = plain_table("partition", ("files before", "after", "periods", "windows", "rows", "left alone"))
    for part in report.folders:
        figures = (part.files_before, part.files_after, part.periods, part.windows, part.rows, part.left)
        table.add_row(part.folder, *(f"{figure:,}" for figure in figures))
    would = "would be" if report.dry_run else "are"
    line = f"{total['files_before']:,} files {would} {total['files_after']:,} now"
    if not report.dry_run:
        line += f", {total['bytes_before'] / 1e6:,.1f} MB are {total['bytes_after'] / 1e6:,.1f} MB"
    damaged = (
        f"{total['left']} periods hold a damaged file; `fedplant ingest` rebuilds it" if total["left"] else ""
    )
    return Group(table, line, *([damaged] if damaged else []))


def status_table(status: Status) -> Any:
    """Where every partition is; `--json` has more."""
    from rich.console import Group

    columns = ("position", "lag", "newest reading UTC", "newest window ends", "windows", "files")
    table = plain_table("site", columns)
    for part in status.partitions:
        table.add_row(
            f"{part.site}[{part.partition}]",
            "-" if part.position is None else f"{part.position:,}",
            f"{part.lag:,}",
            *(_moment(ns) for ns in (part.newest_event, part.last_window_end)),
            *(f"{figure:,}" for figure in (part.windows, part.files)),
        )
    return Group(table, *(f"no topic {name} yet" for name in status.missing_topics))


def _moment(ns: int | None) -> str:
    if ns is None:
        return "-"
    return datetime.fromtimestamp(ns // 1_000_000_000, timezone.utc).strftime("%Y-%m-%d %H:%M")


def score_table(report: ScoreReport) -> Table:
    """What live scoring did, per site."""
    table = plain_table(
        "site",
        ("messages", "scored steps", "above threshold", "alerts", "rejected", "late"),
        f"detector {report.detector} version {report.version}",
        "note",
    )
    for name, site in sorted(report.sites.items()):
        figures = (
            site.messages,
            site.scored,
            site.flagged,
            site.opened,
            sum(site.rejected.values()),
            site.late,
        )
        table.add_row(name, *(f"{figure:,}" for figure in figures), site.note or "")
    return table


def findings_table(findings: Iterable[Finding]) -> Table:
    """What `doctor` found, and what to do about it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "check", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(_MARK[finding.status], finding.name, finding.detail, finding.advice or "")
    return table


def modes_table(evaluation: Evaluation, title: str) -> Table:
    """Per site and as mean: area under precision-recall of each way of training; without labels, the share flagged."""
    labelled = any(metrics.auc_pr is not None for metrics in evaluation.mean.values())
    figure = "auc_pr" if labelled else "flagged_share"
    modes = list(evaluation.mean)
    table = plain_table("AUC-PR by site" if labelled else "share of steps above threshold", modes, title)
    for site, by_mode in evaluation.sites.items():
        table.add_row(site, *(number(getattr(by_mode.get(mode, Metrics()), figure)) for mode in modes))
    table.add_section()
    table.add_row("mean", *(number(getattr(evaluation.mean[mode], figure)) for mode in modes))
    return table


def metrics_table(evaluation: Evaluation) -> Table:
    """The mean of every figure by way of training."""
    rows: tuple[tuple[str, str, int], ...] = (
        ("AUC-PR", "auc_pr", 3),
        ("AUC-ROC", "auc_roc", 3),
        ("VUS-PR", "vus_pr", 3),
        ("precision at training threshold", "precision", 3),
        ("recall at training threshold", "recall", 3),
        ("F1 at training threshold", "f1", 3),
        ("incidents found", "event_recall", 3),
        ("false alarms per day", "false_alarms_per_day", 2),
        ("false alarms per week", "false_alarms_per_week", 1),
        ("alarms per day", "alarms_per_day", 2),
        ("share of steps flagged", "flagged_share", 4),
        ("share of normal steps flagged", "false_flagged_share", 4),
    )
    table = plain_table("", list(evaluation.mean), "mean over sites")
    for title, name, digits in rows:
        values = [getattr(metrics, name) for metrics in evaluation.mean.values()]
        if any(value is not None for value in values):
            table.add_row(title, *(number(value, digits) for value in values))
    return table


def backtest_table(outcome: Backtest) -> Any:
    """The whole result of a backtest."""
    from rich.console import Group

    parts: list[Any] = [modes_table(outcome.evaluation, "Backtest"), "", metrics_table(outcome.evaluation)]
    parts += expectation_lines(outcome.evaluation)
    parts += [f"note: {note}" for note in outcome.evaluation.notes]
    return Group(*parts)


def expectation_lines(evaluation: Evaluation) -> list[str]:
    """What was promised of alarms, what was to be expected by the training alone, and what came; nothing where nobody looked ahead."""
    expected = evaluation.expected
    if expected is None:
        return []
    ahead, came = expected.figure(expected.mean), evaluation.mean.get(FEDERATED)
    line = f"{expected.unit}: {expected.promise:g} promised, {number(ahead, 4)} expected by looking ahead within the training"
    if came is not None:
        every = "" if came.auc_pr is not None else " (no labels: incidents and all)"
        line += f", {number(expected.figure(came), 4)} after it{every}"
    return [line]


def preview_table(found: Preview) -> Any:
    """What a backtest would work on, site by site."""
    from rich.console import Group

    table = plain_table("site", ("rows", "from", "to", "learned", "held", "judged", "incidents"))
    remarks: list[tuple[str, str]] = []
    days = {moment[:10] for of in found.sites.values() for moment in (of.first, of.last) if moment}
    shown = slice(11, 19) if len(days) == 1 else slice(0, 10)
    for site, of in found.sites.items():
        figures = (of.train_steps, of.validation_steps, of.judged_rows)
        table.add_row(
            site,
            f"{of.rows:,}",
            *(moment[shown] if moment else "-" for moment in (of.first, of.last)),
            *(f"{figure:,}" for figure in figures),
            "no labels" if of.incidents is None else f"{of.incidents:,}",
        )
        told = {
            "takes no part": of.excluded,
            "machines": f"{of.assets}" if of.assets > 1 else None,
            "labelled incidents that learning takes for ordinary": of.learned_incidents
            and f"{of.learned_incidents:,}",
            "labelled incidents left out of learning, in which labels thus have a say": of.left_out_incidents
            and f"{of.left_out_incidents:,}",
            "never changes while learning": listed(of.constant),
            "does not have": listed(of.silent),
            "moves too little beside its size, counts as constant": listed(of.faint),
            "values out of all proportion, left out of the scale": listed(
                name for name in of.implausible if name not in {code.sensor for code in of.codes}
            ),
        }
        remarks += [(site, f"{what}: {which}") for what, which in told.items() if which]
    able = sum(of.excluded is None for of in found.sites.values())
    what = f"recipes {', '.join(found.recipes)}" if found.recipes else ", ".join(found.modes)
    return Group(
        table,
        *together(remarks),
        *found.remarks,
        f"{len(found.sensors)} sensors every {found.step_seconds:g} s: {listed(found.sensors, _SENSORS)}",
        f"would learn from {able} of {len(found.sites)} site{'s' * (len(found.sites) > 1)} before {found.train_until}: "
        f"{what}, at most {found.rounds} rounds each",
    )


def verdict(evaluation: Evaluation) -> str:
    """One plain sentence: what federation bought, from the mean area under precision-recall."""
    federated, local = evaluation.mean.get(FEDERATED), evaluation.mean.get(LOCAL)
    if federated is None or federated.auc_pr is None:
        return "Without labels nobody can say how many of the flagged steps were real incidents."
    text = f"The federated detector reaches AUC-PR {federated.auc_pr:.3f}"
    if local is not None and local.auc_pr is not None:
        text += f", each site alone {local.auc_pr:.3f}"
    central = evaluation.mean.get(CENTRALISED)
    if central is not None and central.auc_pr is not None:
        text += f", pooling the raw data (which no plant may do) {central.auc_pr:.3f}"
    return text + "."


def summary_text(summary: RunSummary) -> Any:
    """The last words of `fedplant run`."""
    from rich.console import Group

    lines = []
    if summary.status == "nothing_new":
        lines.append(f"Nothing new since run {summary.run_id}; the detector stays version {summary.version}.")
    else:
        lines.append(f"Run {summary.run_id}: detector {summary.detector} version {summary.version}")
        rounds = ", ".join(f"{mode} {count}" for mode, count in summary.rounds.items())
        lines.append(f"  sites      {', '.join(summary.sites)}")
        lines += [f"  left out   {site}: {why}" for site, why in summary.skipped_sites.items()]
        lines.append(f"  rounds     {rounds or 'none: no network is trained'}")
    lines.append(f"  SavedModel {summary.model_path}")
    lines.append(f"  run folder {summary.run_path}")
    lines += [f"  note       {warning}" for warning in summary.warnings]
    return Group(*lines, "", counts_table(summary.ingestion)) if summary.ingestion else Group(*lines)
