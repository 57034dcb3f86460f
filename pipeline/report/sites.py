"""The page's parts about single sites: the fleet table, and per site the score chart, sensors and alert list."""

from collections.abc import Sequence
from html import escape

from pipeline.report.charts import alert_words, clip_chart, contribution_bars, score_chart, sparkline
from pipeline.report.collect import Alert, AssetView, SiteView
from pipeline.report.scale import duration, instant, number, percent
from pipeline.report.sections import note
from pipeline.report.signals import Clip
from pipeline.report.words import plural

CHARTS_PER_SITE = 6
OPEN_SITES = 4
_LISTED, _MORE = 10, 190


def fleet_table(views: Sequence[SiteView]) -> str:
    """One row a site, the busiest machine's score as a small picture."""
    if not views:
        return note(
            "No scores were found in this run (scores/<site>.parquet), so there is nothing to show per site."
        )
    with_labels = any(view.incidents is not None for view in views)
    head = '<th>Site</th><th>Score</th><th class="n">Alerts</th><th class="n">a day</th><th class="n">Time in alert</th><th class="n">Strongest</th>'
    head += (
        '<th class="n">Incidents noticed</th><th class="n">Alerts without incident</th>'
        if with_labels
        else ""
    )
    in_part = any(view.incidents is not None and _not_labelled(view.alerts) for view in views)
    head += '<th class="n">Alerts not labelled</th>' if in_part else ""
    rows = []
    for index, view in enumerate(views):
        picture = sparkline(view.assets[0]) if view.assets else "–"
        strongest = max((a.ratio for a in view.alerts), default=None)
        row = (
            f'<td class="name"><a href="#s{index}">{escape(view.site)}</a></td><td>{picture}</td>'
            f'<td class="n">{len(view.alerts)}</td><td class="n">{_rate(view)}</td>'
            f'<td class="n">{_share(view)}</td>'
            f'<td class="n">{"–" if strongest is None else number(strongest, 2) + " ×"}</td>'
        )
        if with_labels:
            incidents = view.incidents
            if incidents is None:
                row += '<td class="n">no labels</td><td class="n">–</td>'
            else:
                found = sum(i.delay_s is not None for i in incidents)
                false = sum(a.true is False for a in view.alerts)
                row += f'<td class="n">{found} of {len(incidents)}</td><td class="n">{false}</td>'
        if in_part:
            row += f'<td class="n">{_not_labelled(view.alerts)}</td>'
        rows.append(f"<tr>{row}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        '<p class="note">“Strongest” is the highest score as a multiple of the alert line (dashed in the pictures).</p>'
    )


def _not_labelled(alerts: Sequence[Alert]) -> int:
    return sum(alert.true is None for alert in alerts)


def _rate(view: SiteView) -> str:
    return number(len(view.alerts) / view.days, 2) if view.days > 0 else "–"


def _share(view: SiteView) -> str:
    scored = sum(asset.scored for asset in view.assets)
    return percent(sum(asset.flagged for asset in view.assets) / scored) if scored else "–"


def site_section(view: SiteView, index: int, opened: bool) -> str:
    """A collapsible section: charts, biggest alerts with their sensors, list of alerts."""
    alerts = view.alerts
    small = plural(len(alerts), "alert")
    if view.incidents is not None:
        found = sum(i.delay_s is not None for i in view.incidents)
        small += f", {found} of {plural(len(view.incidents), 'incident')} noticed"
    body = "".join(f'<p class="note warn">{escape(text)}</p>' for text in view.notes)
    for number_, asset in enumerate(view.assets[:CHARTS_PER_SITE]):
        body += _asset_chart(view, asset, f"c{index}-{number_}")
    if len(view.assets) > CHARTS_PER_SITE:
        rest = view.assets[CHARTS_PER_SITE:]
        body += note(
            f"{plural(len(rest), 'further machine')} of this site, with weaker alerts or none, "
            f"{'is' if len(rest) == 1 else 'are'} not drawn; {plural(sum(len(a.alerts) for a in rest), 'alert')} in all."
        )
    chart_of = {a.asset: f"c{index}-{n}" for n, a in enumerate(view.assets[:CHARTS_PER_SITE])}
    if alerts:
        body += _biggest(view, chart_of) + _alert_list(view, chart_of)
    elif view.assets:
        body += note("No alert: the score stayed below the alert line all the time.")
    return (
        f'<details class="card site" id="s{index}"{" open" if opened else ""}><summary>{escape(view.site)}'
        f" <small>{small}</small></summary>{body}</details>"
    )


def _asset_chart(view: SiteView, asset: AssetView, identity: str) -> str:
    name = asset.asset if asset.asset != view.site or len(view.assets) > 1 else ""
    heading = f"<h3>{escape(name)}</h3>" if name else ""
    if asset.scored == 0:
        return heading + note(
            "Too little data for a score: the detector needs a full window before the first one."
        )
    warm_up = asset.rows - asset.scored
    words = (
        f"{number(asset.scored)} points, {instant(asset.level.start_ns)} to {instant(asset.level.end_ns)} UTC"
    )
    if warm_up:
        words += f"; {number(warm_up)} without a score (the first full window of each stretch)"
    legend = ['<span><i class="k-level"></i>score</span>']
    if asset.relative:
        legend.append('<span><i class="k-threshold"></i>alert line (= 1)</span>')
    legend.append('<span><i class="k-alert"></i>alert</span>')
    if asset.incidents is not None:
        legend += [
            '<span><i class="k-false"></i>alert without known incident</span>',
            *(
                ['<span><i class="k-untold"></i>alert in time that is not labelled</span>']
                if _not_labelled(asset.alerts)
                else []
            ),
            '<span><i class="k-incident"></i>true incident</span>',
            '<span><i class="k-found"></i>noticed</span>',
            '<span><i class="k-missed"></i>missed</span>',
        ]
    return (
        f'{heading}<p class="legend">{"".join(legend)}</p>'
        f"{score_chart(asset, identity, f'Score over time of {asset.asset}')}"
        f'<p class="note">{words}.</p>'
    )


def _biggest(view: SiteView, chart_of: dict[str, str]) -> str:
    top = sorted(view.alerts, key=lambda a: -a.ratio)[:3]
    parts = []
    for alert in top:
        machine = f"{escape(alert.asset)}, " if len(view.assets) > 1 else ""
        clips = "".join(
            f'<p class="clipname">{escape(c.sensor)} <span>{_values(c)}</span></p>{clip_chart(c, alert)}'
            for c in alert.clips
        )
        parts.append(
            f"<div><h4>{machine}{_go(alert, chart_of, alert_words(alert))}, {number(alert.ratio, 2)} × alert line</h4>"
            f"{contribution_bars(alert)}{clips}</div>"
        )
    title = "The strongest alert" if len(top) == 1 else f"The {len(top)} strongest alerts"
    return (
        f"<h3>{title}: which sensors stood out</h3>"
        '<p class="note">Bars share out the score at the peak among the sensors named. A sensor stands out because it behaves'
        " differently from what the others and its own recent past suggest; that is a place to look, not a proven cause.</p>"
        f'<div class="alerts3">{"".join(parts)}</div>'
    )


def _values(clip: Clip) -> str:
    """The caption of a sensor's small chart, which has no axis: the ends of what it shows."""
    if clip.extremes is None:
        return "own values"
    low, high = clip.extremes
    shown = f"{number(low)} to {number(high)}" if high > low else f"always {number(low)}"
    return f"own values, {shown}"


def _go(alert: Alert, chart_of: dict[str, str], words: str) -> str:
    target = chart_of.get(alert.asset)
    if target is None:
        return escape(words)
    return (
        f'<button type="button" class="go" title="Show in the chart" data-in="{target}"'
        f' data-from="{alert.start_ns / 1e6:.0f}" data-to="{alert.end_ns / 1e6:.0f}">{escape(words)}</button>'
    )


def _alert_list(view: SiteView, chart_of: dict[str, str]) -> str:
    alerts = view.alerts
    labelled = any(a.true is not None for a in alerts)
    machines = len(view.assets) > 1
    head = "<th>Start (UTC)</th>" + ("<th>Machine</th>" if machines else "")
    head += '<th class="n">Lasted</th><th class="n">Peak</th><th>Sensors that stood out</th>'
    head += "<th>Known incident</th>" if labelled else ""
    ranked = sorted(alerts, key=lambda a: -a.ratio)
    first = {id(a) for a in ranked[:_LISTED]}
    second = {id(a) for a in ranked[_LISTED : _LISTED + _MORE]}

    def table(rows: Sequence[Alert]) -> str:
        body = "".join(f"<tr>{_alert_row(a, machines, labelled, chart_of)}</tr>" for a in rows)
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'

    title = (
        "All alerts"
        if len(alerts) <= _LISTED
        else f"The {_LISTED} strongest of {number(len(alerts))} alerts, by time"
    )
    html = f"<h3>{title}</h3>" + table([a for a in alerts if id(a) in first])
    if second:
        html += f'<details class="more"><summary>{plural(len(second), "further alert")}</summary>'
        html += table([a for a in alerts if id(a) in second]) + "</details>"
    if len(alerts) > _LISTED + _MORE:
        html += note(
            f"{plural(len(alerts) - _LISTED - _MORE, 'weaker alert')} not listed; the score file holds them."
        )
    return html


def _alert_row(alert: Alert, machines: bool, labelled: bool, chart_of: dict[str, str]) -> str:
    sensors = ", ".join(escape(c.sensor) for c in alert.sensors[:4]) or "–"
    lasted = duration(alert.seconds) if alert.seconds else "one step"
    row = f'<td class="t">{_go(alert, chart_of, instant(alert.start_ns))}</td>'
    row += f'<td class="name">{escape(alert.asset)}</td>' if machines else ""
    row += f'<td class="n">{lasted}</td><td class="n">{number(alert.ratio, 2)} ×</td><td class="wide">{sensors}</td>'
    return row + (
        f"<td>{ {None: 'not labelled', True: 'yes', False: 'no'}[alert.true] }</td>" if labelled else ""
    )
