"""The page's sections about the run as a whole: comparison, learning, messages, privacy, provenance."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from pipeline.artefacts import CENTRALISED, FEDERATED, MODES, Curves, Evaluation, RunSummary
from pipeline.evaluation.metrics import Metrics
from pipeline.report.charts import learning_curve
from pipeline.report.scale import duration, number, percent
from pipeline.report.words import METRIC_WORDS, MODE_NAMES, plural, privacy_words

_ENDED = {
    "rounds": "training ended after all rounds that it may take (training.rounds)",
    "converged": "training ended because the error no longer fell",
}
_LOWER_IS_BETTER = {"false_alarms_per_day", "detection_delay"}


def card(identity: str, title: str, body: str) -> str:
    """A section with a heading."""
    return f'<section class="card" id="{identity}"><h2>{title}</h2>{body}</section>'


def note(text: str) -> str:
    """A remark, plain text."""
    return f'<p class="note">{escape(text)}</p>'


def comparison(evaluation: Evaluation | None, summary: RunSummary | None = None) -> str:
    """Ways of training side by side, with each figure explained in words."""
    if evaluation is None or not evaluation.mean:
        return note("Nothing was compared in this run: there is no evaluation.json, or no site had labels.")
    modes = _ordered(evaluation.mean)
    shown = [m for m in METRIC_WORDS if any(_figure(evaluation.mean[k], m[0]) is not None for k in modes)]
    if not shown:
        return note("The sites had no labels in the evaluated time, so no figure could be computed.")
    head = "".join(f'<th class="n">{escape(title)}</th>' for _, title, _ in shown)
    rows = []
    for mode in modes:
        cells = "".join(_cell(evaluation.mean, modes, mode, name) for name, _, _ in shown)
        rows.append(f'<tr><td class="wide">{escape(MODE_NAMES.get(mode, mode))}</td>{cells}</tr>')
    use = "labels were used for nothing but this table"
    if summary is not None and summary.labels_in_learning:
        use = "labels were used for this table, and earlier ones to leave incidents out of learning"
    # All ways are judged on the same steps.
    steps = sum(max((of.rows or 0 for of in site.values()), default=0) for site in evaluation.sites.values())
    on = (
        f", judged on {plural(steps, 'step')} that were not learned from, whether scored live or not"
        if steps
        else ""
    )
    body = (
        f"<p>Mean over all sites{on}. The best figure of each column is bold. Every threshold comes from training data"
        f" and, where it follows the machine, from earlier scores; {use}.</p>"
        f'<div class="scroll"><table><thead><tr><th>Detector</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
    body += _per_site(evaluation, modes)
    words = "".join(f"<dt>{escape(title)}</dt><dd>{escape(text)}</dd>" for _, title, text in shown)
    body += f'<h3>What the figures mean</h3><dl class="words">{words}</dl>'
    if CENTRALISED in modes:
        body += note(
            "“All data in one place” is what could be reached if every plant gave its data away. It is here for comparison only."
        )
    return body + "".join(note(text) for text in evaluation.notes)


def _ordered(mean: Mapping[str, Metrics]) -> list[str]:
    return [m for m in MODES if m in mean] + sorted(m for m in mean if m not in MODES)


def _figure(metrics: Metrics, name: str) -> float | None:
    if name == "detection_delay":
        found = [delay for delay in metrics.detection_delay if delay is not None]
        return float(np.median(found)) if found else None
    value = getattr(metrics, name)
    return None if value is None else float(value)


def _written(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name == "detection_delay":
        return duration(value)
    if name in ("precision", "recall", "event_recall"):
        return percent(value)
    return number(value, 2) if name == "false_alarms_per_day" else f"{value:.3f}"


def _cell(mean: Mapping[str, Metrics], modes: Sequence[str], mode: str, name: str) -> str:
    value = _figure(mean[mode], name)
    others = [v for v in (_figure(mean[m], name) for m in modes) if v is not None]
    best = min(others, default=None) if name in _LOWER_IS_BETTER else max(others, default=None)
    kind = "n best" if value is not None and len(set(others)) > 1 and value == best else "n"
    return f'<td class="{kind}">{escape(_written(name, value))}</td>'


def _per_site(evaluation: Evaluation, modes: Sequence[str]) -> str:
    if len(evaluation.sites) < 2:
        return ""
    head = "".join(f'<th class="n">{escape(MODE_NAMES.get(m, m))}</th>' for m in modes)
    rows = []
    for site, by_mode in evaluation.sites.items():
        known = {m: by_mode[m] for m in modes if m in by_mode}
        cells = "".join(
            _cell(known, list(known), m, "auc_pr") if m in known else '<td class="n">–</td>' for m in modes
        )
        rows.append(f'<tr><td class="name">{escape(site)}</td>{cells}</tr>')
    table = (
        f'<div class="scroll"><table><thead><tr><th>Ranking quality by site</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    if len(evaluation.sites) <= 8:
        return table
    return f'<details class="more"><summary>Ranking quality of each of the {len(evaluation.sites)} sites</summary>{table}</details>'


def learning(curves: Curves | None) -> str:
    """How the error fell round by round."""
    if curves is None:
        return note("The run recorded no learning curve (curves.json is missing or damaged).")
    if not curves.modes:
        return note(
            "There were no rounds: no network was learned, and the other sources need one sum over the sites."
        )
    main_mode = FEDERATED if FEDERATED in curves.modes else next(iter(curves.modes))
    main = curves.modes[main_mode]
    others = {m: c for m, c in curves.modes.items() if m != main_mode and c.rounds}
    words = []
    if main.rounds:
        seconds = [r.seconds for r in main.rounds if r.seconds]
        words.append(f"{len(main.rounds)} rounds")
        if seconds:
            words.append(f"{float(np.median(seconds)):.2g} s each (median)")
        if main.chosen_round is not None:
            words.append(f"the model after round {main.chosen_round} was kept")
        if main.privacy is not None:
            words.append(privacy_words(main.privacy))
        words += [f"{site} was left out on the way: {why}" for site, why in main.excluded.items()]
        if main.stopped:
            words.append(_ENDED.get(main.stopped, f"training ended: {main.stopped}"))
    body = (
        "<p>In each round every site improves the shared model on its own data and only the change of the model is"
        " averaged. The lines show the error on data that was held back from learning; lower is better, and a flat"
        " line means there is nothing more to learn.</p>"
    )
    if words:
        body += f"<p>{escape('; '.join(words))}.</p>"
    return body + learning_curve(main, others, MODE_NAMES)


def messages(summary: RunSummary | None) -> str:
    """What was read from each topic and where it went."""
    left_out = "" if summary is None else _left_out(summary)
    if summary is None or not summary.ingestion:
        return (
            note("This run read no topic, or kept no account of it (files were given directly).") + left_out
        )
    rows = []
    for site, counts in summary.ingestion.items():
        reasons = ", ".join(
            f"{name}: {number(n)}" for name, n in sorted(counts.reasons.items(), key=lambda r: -r[1])
        )
        rows.append(
            f'<tr><td class="name">{escape(site)}</td>'
            + "".join(
                f'<td class="n">{number(n)}</td>'
                for n in (
                    counts.read,
                    counts.kept,
                    counts.left_open,
                    counts.late,
                    counts.duplicate,
                    counts.dead_lettered,
                )
            )
            + f'<td class="wide">{escape(reasons) or "–"}</td>{_on_disk(summary, site)}</tr>'
        )
    head = "".join(
        f'<th class="n">{h}</th>'
        for h in ("Messages read", "Readings kept", "Still open", "Late", "Duplicate", "Unusable")
    )
    all_of_it = '<th class="n">On disk in all</th>' if summary.on_disk else ""
    return (
        "<p>Of what this run took off the topics itself; a <code>fedplant ingest</code> before it told its own figures, and"
        " <code>fedplant audit</code> accounts for all messages of the topics.</p>"
        f'<div class="scroll"><table><thead><tr><th>Site</th>{head}<th>Why unusable</th>{all_of_it}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        '<dl class="words"><dt>Kept</dt><dd>Stored in window files and usable for learning; one message may carry several readings.</dd>'
        "<dt>Still open</dt><dd>Of a time window that had not ended; the next run reads them again.</dd>"
        "<dt>Late</dt><dd>Came after their time window had been closed; kept beside it, or in the site’s late topic when far too late.</dd>"
        "<dt>Duplicate</dt><dd>The same machine, time and sequence number had been read before; counted once.</dd>"
        "<dt>Unusable</dt><dd>Could not be understood; the original bytes and the reason are in the site’s dead-letter topic. Nothing is dropped silently.</dd>"
        + (
            "<dt>On disk in all</dt><dd>Readings in the window files that this run is made from, whichever ingestion wrote them.</dd></dl>"
            if summary.on_disk
            else "</dl>"
        )
    ) + left_out


def _on_disk(summary: RunSummary, site: str) -> str:
    """The cell with the readings that the run is made from; runs of releases before do not know it."""
    return f'<td class="n">{number(summary.on_disk.get(site, 0))}</td>' if summary.on_disk else ""


def _left_out(summary: RunSummary) -> str:
    """What was read but not learned from, because it was told so."""
    if not summary.left_out:
        return ""
    told = ", ".join(f"{site} {number(count)}" for site, count in summary.left_out.items())
    return note(f"Readings that learning did not see, because settings or labels leave them out: {told}.")


def privacy(summary: RunSummary | None, curves: Curves | None) -> str:
    """What left the sites in this version, and what did not: of a run that read topics, or of one that was given files."""
    files = summary is not None and not summary.ingestion
    changes = (
        ""
        if curves is not None and not curves.modes
        else "Changes of model weights, one set a round, averaged over sites; "
    )
    sums = "sums over each site’s readings that say how sensors go together, how far they move and how little a short history tells of it"
    rows = (
        (
            "Sensor readings",
            "Were read from files on this machine. Nothing was sent anywhere."
            if files
            else "Went from each site’s Kafka topic to the host that ran this training, into a separate folder per site. No other site and no other host received them.",
        ),
        (
            "What sites exchange in learning",
            f"{changes}{sums if changes else sums.capitalize()}; the number of training examples; error figures. No readings.",
        ),
        (
            "Scaling and calibration",
            "Each site’s usual values, spread and threshold come from its own data; where it has little, also from those sums and the other sites’ thresholds. They are stored in the exported detector, so whoever receives the detector can see them.",
        ),
        (
            "Alerts",
            "None were sent. Live scoring sends them to the site’s own alert topic, with the names and values of the sensors that stood out."
            if files
            else "Go to the site’s own alert topic, with the names and values of the sensors that stood out.",
        ),
        (
            "This page",
            "Holds scores, sensor names and short excerpts of sensor values around alerts. It loads nothing and sends nothing; share it as you would share those values.",
        ),
    )
    body = "".join(f"<tr><td><b>{a}</b></td><td>{b}</td></tr>" for a, b in rows)
    read = "file" if files else "topic"
    return (
        f"<p>This version trains in one place (the hub): it reads every site’s {read} and keeps the sites apart.</p>"
        f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'
    )


def provenance(summary: RunSummary | None, manifest: Mapping[str, Any] | None) -> str:
    """Everything needed to repeat the run."""
    facts: list[tuple[str, str]] = []
    if summary is not None:
        facts += [
            ("run", summary.run_id),
            ("command", summary.command or ""),
            ("started", summary.started or ""),
            ("finished", summary.finished or ""),
            ("data snapshot", summary.snapshot or ""),
            ("detector", f"{summary.detector or ''} version {summary.version}" if summary.version else ""),
            ("SavedModel", summary.model_path or ""),
        ]
        facts += [(f"time for {k}", duration(v)) for k, v in summary.seconds.items()]
    body = ""
    if facts:
        rows = "".join(
            f"<tr><td>{escape(k)}</td><td class='wide'>{escape(str(v))}</td></tr>" for k, v in facts if v
        )
        body += f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'
    if manifest is None:
        return body + note(
            "The run folder holds no manifest.json, so versions, seeds and settings are not known."
        )
    flat = "".join(
        f"<tr><td>{escape(k)}</td><td class='wide'>{escape(v)}</td></tr>" for k, v in _flat(manifest)
    )
    return body + (
        '<details class="more"><summary>Versions, seeds, settings and machine</summary>'
        f'<div class="scroll"><table><tbody>{flat}</tbody></table></div></details>'
    )


def _flat(value: Mapping[str, Any], prefix: str = "", most: int = 600) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping):
            rows += _flat(inner, f"{name}.", most - len(rows))
        else:
            text = str(inner)
            rows.append((name, text if len(text) <= 400 else text[:400] + " …"))
        if len(rows) >= most:
            return [*rows[:most], ("…", "more in manifest.json")]
    return rows
