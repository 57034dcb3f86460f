"""Puts the page together from a run folder and writes it atomically as one file that needs nothing else."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from models.options import HOLD_OFF
from pipeline.artefacts import (
    ArtefactError,
    Evaluation,
    RunSummary,
    read_curves,
    read_evaluation,
    read_json,
    read_summary,
)
from pipeline.errors import PipelineError
from pipeline.report import sections
from pipeline.report.candidates import candidates
from pipeline.report.collect import SiteView, read_site
from pipeline.report.scale import number, percent
from pipeline.report.sites import CHARTS_PER_SITE, OPEN_SITES, fleet_table, site_section
from pipeline.report.words import Totals, headline, next_steps, verdict

_CHART_BYTES = 3_500_000
_MOST_SPANS = 40_000

Part = TypeVar("Part")


def write_report(run_dir: Path, out: Path, *, labels: Mapping[str, pd.DataFrame] | None = None) -> Path:
    """Write the report of the run folder `run_dir` to the file `out` and return `out`.

    `labels` gives true incidents by site: columns `event_time` or `timestamp` (UTC), `label` 0/1, optional `asset`;
    without them the score files' own `label` column is used if it is filled. Parts that are missing or damaged are
    named on the page instead of failing it.

    Raises:
        PipelineError: `run_dir` is not a folder.
        ArtefactError: `out` cannot be written.
    """
    if not run_dir.is_dir():
        raise PipelineError(f"{run_dir}: no such run folder; `fedplant run` makes one under <data>/runs")
    remarks: list[str] = []
    summary = _tolerant(read_summary, run_dir, remarks)
    curves = _tolerant(read_curves, run_dir, remarks)
    evaluation = _tolerant(read_evaluation, run_dir, remarks)
    manifest = _tolerant(lambda folder: read_json(folder / "manifest.json"), run_dir, remarks)
    views = _views(run_dir, summary, labels or {}, _hold_off(manifest))
    totals = Totals.of(views)
    trained = curves is not None or evaluation is not None
    looked_at = _to_look_at(evaluation)
    parts = [
        _header(summary, headline(summary, totals, trained), verdict(totals, evaluation), bool(looked_at)),
        "<main>",
        _tiles(totals, views),
        *(f'<p class="note warn">{escape(text)}</p>' for text in _remarks(remarks, summary)),
        sections.card("next", "What to do next", _steps(next_steps(summary, views, totals, evaluation))),
        sections.card("fleet", "All sites at a glance", fleet_table(views)),
        *(site_section(view, i, i < OPEN_SITES) for i, view in enumerate(views)),
        sections.card("compare", "Was learning together worth it?", sections.comparison(evaluation, summary)),
        sections.card("learning", "How the learning went", sections.learning(curves)),
        *looked_at,
        sections.card("messages", "What was read", sections.messages(summary)),
        sections.card("privacy", "What left a site, and what did not", sections.privacy(summary, curves)),
        sections.card("origin", "Where this comes from", sections.provenance(summary, manifest)),
        "</main>",
        "<footer><p>All times are UTC. This page is one file, loads nothing from elsewhere and sends nothing.</p></footer>",
    ]
    title = f"FedPlant report {summary.run_id if summary else run_dir.name}"
    return _publish(_document(title, "".join(parts)), out)


def _tolerant(read: Callable[[Path], Part | None], run_dir: Path, remarks: list[str]) -> Part | None:
    try:
        return read(run_dir)
    except ArtefactError as error:
        remarks.append(f"A part of the run could not be read and is left out: {error}")
        return None


def _hold_off(manifest: Mapping[str, Any] | None) -> int:
    """The configured hold-off in ns, at least a step; alerts on the page are then the same events as those sent."""
    try:
        seconds = float((manifest or {})["configuration"]["scoring"]["hold_off"])
    except (KeyError, TypeError, ValueError):
        seconds = HOLD_OFF
    with suppress(KeyError, TypeError, ValueError):
        seconds = max(seconds, float((manifest or {})["step_seconds"]))
    return int(seconds * 1e9)


def _views(
    run_dir: Path, summary: RunSummary | None, labels: Mapping[str, pd.DataFrame], hold_off_ns: int
) -> list[SiteView]:
    paths = {p.stem: p for p in sorted((run_dir / "scores").glob("[!.]*.parquet"))}
    charts = max(1, len(paths)) * min(CHARTS_PER_SITE, 2)
    spans = int(min(_MOST_SPANS, max(1_000, _CHART_BYTES / 5.34 / charts)))
    known = list(summary.sites) if summary else []
    views = []
    for site in [*(s for s in known if s in paths), *(s for s in paths if s not in known)]:
        views.append(read_site(paths[site], labels.get(site), hold_off_ns=hold_off_ns, spans=spans))
    for site in known:
        if site not in paths:
            views.append(SiteView(site, (), ("This run holds no scores of the site.",)))
    return views


def _header(summary: RunSummary | None, title: str, lines: list[str], looked_at: bool) -> str:
    about = [t for t in (summary.run_id, summary.finished) if t] if summary else []
    links = "".join(
        f'<a href="#{anchor}">{text}</a>'
        for anchor, text in (
            ("next", "What to do next"),
            ("fleet", "Sites"),
            ("compare", "Comparison"),
            ("learning", "Learning"),
            *([("lookback", "What stands out")] if looked_at else []),
            ("messages", "What was read"),
            ("privacy", "Privacy"),
            ("origin", "Origin"),
        )
    )
    lead = "".join(f'<p class="lead">{escape(line)}</p>' for line in lines)
    return (
        f'<header><p class="eyebrow">{escape(" · ".join(["FedPlant report", *about]))}</p>'
        f"<h1>{escape(title)}</h1>{lead}<nav>{links}</nav></header>"
    )


def _tiles(totals: Totals, views: list[SiteView]) -> str:
    tiles = [(number(totals.sites), "site" if totals.sites == 1 else "sites")]
    if totals.machines > totals.sites:
        tiles.append((number(totals.machines), "machines"))
    tiles.append((number(totals.alerts), "alerts"))
    if totals.incidents:
        tiles.append((percent((totals.found or 0) / totals.incidents), "of known incidents noticed"))
    if totals.days > 0:
        tiles.append((number(totals.alerts / totals.days, 2), "alerts a machine and day"))
    quiet = sum(not view.alerts and bool(view.assets) for view in views)
    if quiet:
        tiles.append((number(quiet), "sites without any alert" if quiet > 1 else "site without any alert"))
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{b}</b><span>{t}</span></div>' for b, t in tiles)
        + "</div>"
    )


def _remarks(remarks: list[str], summary: RunSummary | None) -> list[str]:
    absent = (
        []
        if summary is not None
        else ["The run folder holds no summary.json; what was read and where the detector is are not known."]
    )
    return [*remarks, *(absent if not remarks else []), *(summary.warnings if summary else ())]


def _to_look_at(evaluation: Evaluation | None) -> list[str]:
    """A section if there is anything in it."""
    if evaluation is None or not (evaluation.candidates or evaluation.looked_at_before):
        return []
    told = candidates(evaluation.candidates, evaluation.looked_at_before)
    return [sections.card("lookback", "What stands out of the training", told)]


def _steps(steps: list[str]) -> str:
    return '<ol class="steps">' + "".join(f"<li>{step}</li>" for step in steps) + "</ol>"


def _document(title: str, body: str) -> str:
    static = resources.files("pipeline.report") / "static"
    css = (static / "page.css").read_text(encoding="utf-8")
    js = (static / "page.js").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{css}</style></head><body>{body}<script>{js}</script></body></html>\n"
    )


def can_be_written(out: Path) -> None:
    """Say before hours of work what would otherwise be said after them.

    Raises:
      ArtefactError: a page cannot be written there.
    """
    with _hidden(out) as hidden:
        hidden.write_text("", encoding="utf-8")


def _publish(html: str, out: Path) -> Path:
    with _hidden(out) as hidden:
        hidden.write_text(html, encoding="utf-8", errors="replace")
        hidden.replace(out)
    return out


@contextmanager
def _hidden(out: Path) -> Iterator[Path]:
    """A file beside `out` that is gone afterwards."""
    hidden = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        yield hidden
    except OSError as error:
        raise ArtefactError(
            f"{out}: the report cannot be written ({error.strerror}); choose another file"
        ) from error
    finally:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
