"""The plain-language parts: what was learned, how it did, what to do next, and what each figure means.

Every sentence is derived from the run's own figures; without labels nothing is claimed about right or wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from pipeline.artefacts import FEDERATED, LOCAL, Evaluation, RunSummary
from pipeline.evaluation.metrics import Metrics
from pipeline.report.collect import SiteView
from pipeline.report.scale import duration, number, percent

MODE_NAMES: Mapping[str, str] = {
    "federated": "Together (federated)",
    "local": "Each site alone (local-only)",
    "centralised": "All data in one place (centralised)",
    "zscore": "Simple rule: far from usual value (z-score)",
    "pca": "Classic method: PCA",
}


def privacy_words(budget: Mapping[str, Any]) -> str:
    """What the noise of a training promises, from `pipeline.federation.privacy.Budget` as stored."""
    epsilon = budget.get("epsilon")
    size = "no bound" if epsilon is None else f"epsilon {epsilon:.3g} at delta {budget['delta']:.1g}"
    return f"noise hides any one {budget['unit']}: {size} ({budget['mechanism']})"


METRIC_WORDS: Sequence[tuple[str, str, str]] = (
    (
        "auc_pr",
        "Ranking quality (AUC-PR)",
        "If points are sorted by score, how much of the top of the list is truly anomalous. 1 is perfect; guessing gives the share of anomalous points in the data. The fairest single figure here.",
    ),
    (
        "auc_roc",
        "Separation (AUC-ROC)",
        "How often a random anomalous point scores above a random normal one. 1 is perfect, 0.5 is guessing.",
    ),
    (
        "vus_pr",
        "Quality with slack (VUS-PR)",
        "As the first figure, but answering a few steps before or after a labelled incident still counts in part.",
    ),
    (
        "precision",
        "Precision",
        "Of the points above the threshold that training set, the share that was truly anomalous.",
    ),
    ("recall", "Recall", "Of the truly anomalous points, the share above that threshold."),
    (
        "f1",
        "F1",
        "One figure for precision and recall at the threshold that training set, counted point by point.",
    ),
    (
        "event_recall",
        "Incidents noticed",
        "Share of incidents during which the score was above the alert line at least once.",
    ),
    (
        "false_alarms_per_day",
        "False alarms a day",
        "Alerts in time labelled normal from end to end, per day of such time and site.",
    ),
    (
        "detection_delay",
        "Delay",
        "Time from the beginning of a noticed incident to the first point above the alert line (median).",
    ),
)


@dataclass(frozen=True)
class Totals:
    """Figures over all sites; `found`, `false_alerts` and `not_labelled`, alerts of which labels do not tell, are None without labels."""

    sites: int
    machines: int
    alerts: int
    days: float
    incidents: int | None
    found: int | None
    false_alerts: int | None
    not_labelled: int | None
    delay_s: float | None

    @classmethod
    def of(cls, views: Sequence[SiteView]) -> "Totals":
        """Sums over the sites' views."""
        alerts = [a for view in views for a in view.alerts]
        known = [view.incidents for view in views if view.incidents is not None]
        incidents = [i for some in known for i in some] if known else None
        delays = [i.delay_s for i in incidents or () if i.delay_s is not None]
        return cls(
            len(views),
            sum(len(view.assets) for view in views),
            len(alerts),
            sum(view.days for view in views),
            None if incidents is None else len(incidents),
            None if incidents is None else len(delays),
            None if incidents is None else sum(a.true is False for a in alerts),
            None if incidents is None else sum(a.true is None for a in alerts),
            float(np.median(delays)) if delays else None,
        )


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 site`, `2 sites`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def headline(summary: RunSummary | None, totals: Totals, trained: bool) -> str:
    """One sentence about what happened."""
    sites = len(summary.sites) if summary and summary.sites else totals.sites
    sensors = f" from {plural(summary.sensors, 'sensor')}" if summary and summary.sensors else ""
    if sites == 0:
        return "This run holds no site's data."
    if not trained:
        return f"{plural(sites, 'site')} scored by an existing anomaly detector."
    if sites == 1:
        return f"One site learned an anomaly detector{sensors}."
    return f"{plural(sites, 'site')} learned one anomaly detector together{sensors}."


def verdict(totals: Totals, evaluation: Evaluation | None) -> list[str]:
    """How it did, in two or three sentences."""
    lines = []
    if totals.days > 0:
        rate = totals.alerts / totals.days
        lines.append(
            f"Over {duration(totals.days * 86_400)} of machine time it raised {plural(totals.alerts, 'alert')}"
            f" ({number(rate, 2)} per machine and day)."
        )
    if totals.incidents is not None and totals.found is not None:
        if totals.incidents == 0:
            every = "every alert" if not totals.not_labelled else "every alert in labelled time"
            false = f", so {every} is a false one" if totals.alerts else ""
            lines.append(f"The labels hold no incident in this time{false}.")
        else:
            typical = (
                ""
                if totals.delay_s is None
                else ", typically from their first reading on"
                if totals.delay_s == 0
                else f", typically {duration(totals.delay_s)} after they began"
            )
            lines.append(
                f"Of {plural(totals.incidents, 'known incident')} it noticed {number(totals.found)}"
                f" ({percent(totals.found / totals.incidents)}){typical}."
                f" {plural(totals.false_alerts or 0, 'alert')} had no known incident behind"
                f" {'it' if totals.false_alerts == 1 else 'them'}."
            )
        if totals.not_labelled:
            lie, count = ("lies", "counts") if totals.not_labelled == 1 else ("lie", "count")
            lines.append(
                f"{plural(totals.not_labelled, 'alert')} {lie} in time that is not labelled, or only in part,"
                f" and {count} neither as right nor as false."
            )
    elif totals.alerts or totals.days:
        lines.append("No labels were given, so this page cannot say which alerts were right.")
    if expectation := _expectation(evaluation):
        lines.append(expectation)
    if comparison := _comparison(evaluation):
        lines.append(comparison)
    return lines


def _expectation(evaluation: Evaluation | None) -> str | None:
    """What was promised of false alarms and what the training alone says of it."""
    expected = None if evaluation is None else evaluation.expected
    ahead = None if expected is None else expected.figure(expected.mean)
    if expected is None or ahead is None:
        return None
    if expected.promised_per_week is not None:
        promised, found = f"{expected.promise:g} false alarms a week", number(ahead, 1)
    else:
        promised, found = (
            f"{100 * expected.promise:g} % of normal time above the alert line",
            f"{100 * ahead:.2g} %",
        )
    return f"The setting promises {promised}; detectors of the first three fifths of the training had {found} in the rest of it."


def _comparison(evaluation: Evaluation | None) -> str | None:
    if evaluation is None or len(evaluation.sites) < 2:
        return None
    together, alone = evaluation.mean.get(FEDERATED), evaluation.mean.get(LOCAL)
    if together is None or alone is None or together.auc_pr is None or alone.auc_pr is None:
        return None
    gain = together.auc_pr - alone.auc_pr
    figures = (
        f"(ranking quality {together.auc_pr:.2f} against {alone.auc_pr:.2f}; 1 is perfect{_chance(together)})"
    )
    if abs(gain) < 0.01:
        return f"Learning together did as well as each site learning alone {figures}."
    better = "better" if gain > 0 else "worse"
    return f"Learning together did {better} than each site learning alone {figures}."


def _chance(metrics: Metrics) -> str:
    return "" if metrics.anomaly_share is None else f", guessing gives {metrics.anomaly_share:.2f}"


def next_steps(
    summary: RunSummary | None, views: Sequence[SiteView], totals: Totals, evaluation: Evaluation | None
) -> list[str]:
    """What to do now, most useful first; HTML, with every name escaped."""
    steps = []
    ranked = sorted(
        ((a.ratio, view.site, a) for view in views for a in view.alerts), key=lambda item: -item[0]
    )
    if ranked:
        _, site, alert = ranked[0]
        sensors = ", ".join(escape(c.sensor) for c in alert.sensors[:3])
        because = f", where {sensors} stood out" if sensors else ""
        steps.append(
            f"Look at the strongest alert first: <b>{escape(site)}</b>"
            f"{'' if alert.asset == site else ', machine <b>' + escape(alert.asset) + '</b>'}{because}."
        )
    noisy = [v for v in views if len(v.alerts) > 5 * max(1.0, v.days)]
    if noisy:
        names = _names([v.site for v in noisy])
        steps.append(
            f"{names}: more than five alerts a day. If they are not worth your time, lower"
            " <code>detector.false_alarm_rate</code>, or check whether the machine changed since training and train again."
        )
    stuck = [v for v in views for a in v.assets if a.scored and a.flagged / a.scored > 0.2]
    if stuck:
        names = _names(list(dict.fromkeys(v.site for v in stuck)))
        steps.append(
            f"{names}: above the alert line for more than a fifth of the time. Usually the machine now runs differently"
            " from the time it was learned from. If the new way of running is right, train again with recent data."
        )
    if evaluation is not None:
        behind = [s for s, modes in evaluation.sites.items() if _loses(modes)]
        if behind:
            steps.append(
                f"{_names(behind)}: a detector trained on its own data alone ranked better here."
                " Compare the table below before relying on the shared one at this site."
            )
    if summary and summary.skipped_sites:
        for site, reason in summary.skipped_sites.items():
            steps.append(f"<b>{escape(site)}</b> took no part: {escape(reason)}")
    if summary:
        lost = [s for s, c in summary.ingestion.items() if c.read and c.dead_lettered / c.read > 0.01]
        if lost:
            steps.append(
                f"{_names(lost)}: more than 1 % of the messages could not be used."
                " The dead-letter topic holds them with the reason; see “What was read”."
            )
    if totals.incidents is None and totals.alerts:
        steps.append(
            "Mark a few alerts as right or wrong and give the labels to the next report: then it can say how good the detector is."
        )
    if summary and summary.model_path:
        steps.append(f"The detector is ready to serve: <code>{escape(summary.model_path)}</code>")
    return steps or ["Nothing needs attention."]


def _loses(modes: Mapping[str, Metrics]) -> bool:
    together, alone = modes.get(FEDERATED), modes.get(LOCAL)
    if together is None or alone is None or together.auc_pr is None or alone.auc_pr is None:
        return False
    return alone.auc_pr - together.auc_pr > 0.03


def _names(sites: Sequence[str]) -> str:
    shown = ", ".join(f"<b>{escape(s)}</b>" for s in sites[:5])
    return shown if len(sites) <= 5 else f"{shown} and {len(sites) - 5} more"
