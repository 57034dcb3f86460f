"""Charts as inline SVG. Colours are CSS classes, so light, dark and print come from the style sheet alone.

The score chart carries its full envelope as data beside a drawn version: the page's script draws it again at any zoom
and width, and without script the drawn version stays.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

from pipeline.artefacts import Curve
from pipeline.report.collect import Alert, AssetView, Incident
from pipeline.report.downsample import Envelope, coarser
from pipeline.report.scale import LevelScale, duration, even_ticks, instant, number, time_ticks
from pipeline.report.signals import Clip

WIDTH, PLOT_LEFT, PLOT_RIGHT = 960, 46, 8
LANE, PLOT_TOP, PLOT_HEIGHT, ALERT_LANE, AXIS = 10, 16, 170, 12, 24
HEIGHT = PLOT_TOP + PLOT_HEIGHT + 6 + ALERT_LANE + AXIS
_MISSING = 65535
_LOOKS = ("alert", "alert false", "alert untold")
"""As in `page.js`."""


def score_chart(view: AssetView, identity: str, title: str) -> str:
    """Level over time with the alert line, true incidents as bands and alerts as bars below; zoomable."""
    scale = LevelScale.covering(view.level.high, view.level.low, view.relative)
    incidents = view.incidents or ()
    payload = {
        "t0": view.level.start_ns / 1e6,
        "t1": view.level.end_ns / 1e6,
        "n": len(view.level.low),
        "q": _packed(view.level, scale),
        "top": scale.top,
        "bottom": scale.bottom,
        "relative": scale.relative,
        "ticks": scale.ticks(),
        "alerts": [[a.start_ns / 1e6, a.end_ns / 1e6, _LOOKS.index(_look(a, view))] for a in view.alerts],
        "incidents": [[i.start_ns / 1e6, i.end_ns / 1e6, int(i.delay_s is not None)] for i in incidents],
    }
    return (
        f'<div class="chart" id="{identity}" data-chart>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{_score_drawing(view, scale, identity)}</svg>"
        f'<script type="application/json">{embed(payload)}</script></div>'
    )


def embed(payload: object) -> str:
    """JSON that may stand inside a script element, whatever text it holds."""
    return json.dumps(payload, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _packed(level: Envelope, scale: LevelScale) -> str:
    """Low and high heights interleaved as little-endian uint16 in base64; 65535 stands for no value."""
    pairs = np.stack([scale.height(level.low), scale.height(level.high)], axis=1)
    whole = np.where(np.isnan(pairs), _MISSING, np.rint(np.nan_to_num(pairs) * 65534))
    return base64.b64encode(whole.astype("<u2").tobytes()).decode("ascii")


def _score_drawing(view: AssetView, scale: LevelScale, identity: str) -> str:
    level = coarser(view.level, WIDTH - PLOT_LEFT - PLOT_RIGHT)
    bottom = PLOT_TOP + PLOT_HEIGHT
    right = WIDTH - PLOT_RIGHT

    def x(time_ns: float) -> float:
        return _x(time_ns, level.start_ns, level.end_ns, PLOT_LEFT, right)

    parts = []
    for incident in view.incidents or ():
        parts.append(_incident_band(incident, x))
    for height, text in scale.ticks():
        y = bottom - height * PLOT_HEIGHT
        parts.append(f'<line class="grid" x1="{PLOT_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{PLOT_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    for moment, text in time_ticks(level.start_ns, level.end_ns, 7):
        parts.append(
            f'<text class="tick" x="{x(moment):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{text}</text>'
        )
    path = _outline(scale.height(level.low), scale.height(level.high), PLOT_LEFT, right, bottom, PLOT_HEIGHT)
    if scale.relative:
        y = bottom - float(scale.height(np.array(1.0))) * PLOT_HEIGHT
        parts.append(
            f'<clipPath id="{identity}-above"><rect x="0" y="0" width="{WIDTH}" height="{y:.1f}"/></clipPath>'
        )
        parts.append(f'<path class="level" d="{path}"/>')
        parts.append(f'<path class="level above" clip-path="url(#{identity}-above)" d="{path}"/>')
        parts.append(f'<line class="threshold" x1="{PLOT_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
    else:
        parts.append(f'<path class="level" d="{path}"/>')
    for alert in view.alerts:
        parts.append(_alert_bar(alert, _look(alert, view), x, bottom + 6))
    return "".join(parts)


def _x(time_ns: float, start_ns: int, end_ns: int, left: float, right: float) -> float:
    return left + (time_ns - start_ns) / max(1, end_ns - start_ns) * (right - left)


def _incident_band(incident: Incident, x: Callable[[float], float]) -> str:
    left, right = x(incident.start_ns), x(incident.end_ns)
    found = "found" if incident.delay_s is not None else "missed"
    width = max(1.5, right - left)
    return (
        f'<rect class="incident" x="{left:.1f}" y="{PLOT_TOP}" width="{width:.1f}" height="{PLOT_HEIGHT}"/>'
        f'<rect class="incident-{found}" x="{left:.1f}" y="2" width="{max(3.0, width):.1f}" height="{LANE}"/>'
    )


def _look(alert: Alert, view: AssetView) -> str:
    """The class of an alert's bar; without any labels all look alike."""
    if alert.true is None and view.incidents is not None:
        return "alert untold"
    return "alert false" if alert.true is False else "alert"


def _alert_bar(alert: Alert, look: str, x: Callable[[float], float], top: float) -> str:
    left, right = x(alert.start_ns), x(alert.end_ns)
    return f'<rect class="{look}" x="{left:.1f}" y="{top}" width="{max(3.0, right - left):.1f}" height="{ALERT_LANE}"/>'


def _outline(
    low: np.ndarray, high: np.ndarray, left: float, right: float, bottom: float, height: float
) -> str:
    """A path through high and low of every span, broken where nothing is known."""
    count = len(low)
    step = (right - left) / max(1, count - 1)
    path, pen = [], False
    for i in range(count):
        if np.isnan(low[i]):
            pen = False
            continue
        x = left + i * step
        top = bottom - high[i] * height
        path.append(f"{'L' if pen else 'M'}{x:.1f} {top:.1f}")
        if not pen or high[i] != low[i]:
            path.append(f"L{x:.1f} {bottom - low[i] * height:.1f}")
        pen = True
    return "".join(path)


def clip_chart(clip: Clip, alert: Alert) -> str:
    """A sensor's values around an alert, the alert shaded."""
    width, height, left, bottom = 320, 96, 4, 76
    values = clip.values
    if clip.extremes is None:
        return '<p class="note">No values of this sensor around the alert.</p>'
    floor, peak = clip.extremes
    span = peak - floor or 1.0
    path = _outline((values.low - floor) / span, (values.high - floor) / span, left, width - 4, bottom, 60)
    a = _x(alert.start_ns, values.start_ns, values.end_ns, left, width - 4)
    b = _x(alert.end_ns, values.start_ns, values.end_ns, left, width - 4)
    title = f"{clip.sensor}: {number(floor)} to {number(peak)}"
    return (
        f'<svg class="clip" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}">'
        f'<rect class="during" x="{a:.1f}" y="8" width="{max(2.0, b - a):.1f}" height="72"/>'
        f'<path class="signal" d="{path}"/>'
        f'<text class="tick" x="4" y="92">{instant(values.start_ns)[5:]}</text>'
        f'<text class="tick" x="{width - 4}" y="92" text-anchor="end">{instant(values.end_ns)[5:]}</text></svg>'
    )


def sparkline(view: AssetView) -> str:
    """The level at a glance, for the fleet table."""
    width, height = 240, 34
    scale = LevelScale.covering(view.level.high, view.level.low, view.relative)
    level = coarser(view.level, width)
    path = _outline(scale.height(level.low), scale.height(level.high), 0, width, height - 2, height - 4)
    line = ""
    if scale.relative:
        y = height - 2 - float(scale.height(np.array(1.0))) * (height - 4)
        line = f'<line class="threshold" x1="0" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'<svg class="spark" viewBox="0 0 {width} {height}" aria-hidden="true"><path class="level" d="{path}"/>{line}</svg>'


def learning_curve(curve: Curve, others: Mapping[str, Curve], names: Mapping[str, str]) -> str:
    """Validation error over rounds: federated thick, each site thin, other ways of training dashed."""
    width, height, left, right, top, bottom = 640, 280, 52, 12, 14, 238
    lines: list[tuple[str, str, list[tuple[int, float]]]] = []
    sites = sorted({site for record in curve.rounds for site in record.sites})
    for site in sites:
        lines.append(("curve site", site, _points([(r.round, r.sites.get(site)) for r in curve.rounds])))
    for index, (mode, other) in enumerate(others.items()):
        points = _points([(r.round, r.validation) for r in other.rounds])
        lines.append((f"curve other{index % 3}", names.get(mode, mode), points))
    lines.append(("curve loss", "training error", _points([(r.round, r.loss) for r in curve.rounds])))
    main = _points([(r.round, r.validation) for r in curve.rounds])
    lines.append(("curve main", "federated, mean of all sites", main))
    values = [v for _, _, points in lines for _, v in points]
    if not values:
        return '<p class="note">The run recorded no errors per round.</p>'
    most_rounds = max(n for _, _, points in lines for n, _ in points)
    least_round = min(n for _, _, points in lines for n, _ in points)
    low, high = min(values), max(values)
    margin = (high - low or abs(high) or 1.0) * 0.06
    low, high = max(0.0, low - margin) if low >= 0 else low - margin, high + margin

    def x(n: float) -> float:
        return left + (n - least_round) / max(1, most_rounds - least_round) * (width - left - right)

    def y(v: float) -> float:
        return bottom - (v - low) / (high - low) * (bottom - top)

    parts = []
    for v in even_ticks(low, high, 5):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{number(float(v))}</text>'
        )
    for n in (int(v) for v in even_ticks(least_round, most_rounds, 8) if v == int(v)):
        parts.append(f'<text class="tick" x="{x(n):.1f}" y="{bottom + 18}" text-anchor="middle">{n}</text>')
    parts.append(
        f'<text class="tick" x="{(left + width) / 2}" y="{height - 4}" text-anchor="middle">round</text>'
    )
    chosen = curve.chosen_round
    if chosen is not None and least_round <= chosen <= most_rounds:
        parts.append(
            f'<line class="chosen" x1="{x(chosen):.1f}" x2="{x(chosen):.1f}" y1="{top}" y2="{bottom}"/>'
        )
        anchor = "end" if x(chosen) > width * 0.7 else "start"
        shift = -5 if anchor == "end" else 5
        parts.append(
            f'<text class="tick" x="{x(chosen) + shift:.1f}" y="{top + 10}" text-anchor="{anchor}">kept: round {chosen}</text>'
        )
    for kind, name, points in lines:
        if len(points) == 1:
            n, v = points[0]
            parts.append(
                f'<circle class="{kind} dot" cx="{x(n):.1f}" cy="{y(v):.1f}" r="3"><title>{escape(name)}</title></circle>'
            )
        elif points:
            d = "".join(f"{'M' if i == 0 else 'L'}{x(n):.1f} {y(v):.1f}" for i, (n, v) in enumerate(points))
            parts.append(f'<path class="{kind}" d="{d}"><title>{escape(name)}</title></path>')
    legend = [("main", "federated, mean of all sites"), ("loss", "federated, training error")]
    if sites:
        legend.append(("site", "federated, each site"))
    legend += [(f"other{i % 3}", names.get(mode, mode)) for i, mode in enumerate(others)]
    keys = "".join(f'<span><i class="key {kind}"></i>{escape(name)}</span>' for kind, name in legend)
    return (
        f'<svg class="learning" viewBox="0 0 {width} {height}" role="img" aria-label="Error per round">{"".join(parts)}</svg>'
        f'<p class="legend">{keys}</p>'
    )


def _points(pairs: Sequence[tuple[int, float | None]]) -> list[tuple[int, float]]:
    return [(n, float(v)) for n, v in pairs if v is not None and np.isfinite(v)]


def contribution_bars(alert: Alert) -> str:
    """Share of each named sensor in the alert's peak, as bars with text."""
    weights = [c.contribution for c in alert.sensors]
    total = sum(w for w in weights if np.isfinite(w))
    if not weights:
        return '<p class="note">The run did not keep which sensors contributed.</p>'
    if not total > 0:
        names = ", ".join(escape(c.sensor) for c in alert.sensors)
        return f'<p class="note">Contributing most, without sizes: {names}.</p>'
    rows = []
    for part in alert.sensors:
        share = part.contribution / total if np.isfinite(part.contribution) else 0.0
        rows.append(
            f'<div class="bar"><span class="name">{escape(part.sensor)}</span><span class="track"><i style="width:{100 * share:.1f}%"></i></span>'
            f'<span class="value">{100 * share:.0f} %</span></div>'
        )
    return "".join(rows)


def alert_words(alert: Alert) -> str:
    """`2026-03-01 10:00, 20 min, peak 4.2 x`, for headings."""
    lasted = duration(alert.seconds) if alert.seconds > 0 else "one step"
    return f"{instant(alert.start_ns)} UTC, {lasted}"
