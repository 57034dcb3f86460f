"""Reads the score files of a run into what the page draws: per machine an envelope, alerts and known incidents.

One site is read at a time and only the reduced form is kept, so a fleet of long files fits in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.evaluation.truth import UNKNOWN, known_stretches, reach
from pipeline.report.downsample import Envelope, envelope
from pipeline.report.signals import Clip, read_clips
from pipeline.scoring.alerts import Contribution, flagged_runs

CLIPS_PER_SITE = 3
"""For so many of a site's biggest alerts the sensors' own values are shown."""

_NEEDED = ("event_time", "score")


@dataclass(frozen=True)
class Alert:
    """One alert as the page lists it; `ratio` is peak score over threshold.

    `true`: whether it touches a known incident (True) or lies in time known to be normal (False); None where labels do not tell.
    """

    asset: str
    start_ns: int
    end_ns: int
    peak_ns: int
    peak: float
    ratio: float
    steps: int
    sensors: tuple[Contribution, ...]
    true: bool | None
    clips: tuple[Clip, ...] = ()

    @property
    def seconds(self) -> float:
        """From the first to the last step above the threshold."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True)
class Incident:
    """A stretch labelled as a true incident; `delay_s` until the first flagged step, None if it was missed."""

    start_ns: int
    end_ns: int
    delay_s: float | None


@dataclass(frozen=True)
class AssetView:
    """One machine: `level` is score over threshold (1 is the alert line), or the bare score if `relative` is False."""

    asset: str
    level: Envelope
    relative: bool
    rows: int
    scored: int
    flagged: int
    alerts: tuple[Alert, ...]
    incidents: tuple[Incident, ...] | None


@dataclass(frozen=True)
class SiteView:
    """One site: its machines (those with the strongest alerts first) and remarks about what was missing."""

    site: str
    assets: tuple[AssetView, ...]
    notes: tuple[str, ...] = ()

    @property
    def alerts(self) -> list[Alert]:
        """All machines' alerts by time."""
        return sorted((a for view in self.assets for a in view.alerts), key=lambda a: a.start_ns)

    @property
    def incidents(self) -> list[Incident] | None:
        """All machines' incidents, None without labels."""
        known = [view.incidents for view in self.assets if view.incidents is not None]
        return [i for some in known for i in some] if known else None

    @property
    def days(self) -> float:
        """Days of scored data, summed over machines."""
        return sum((v.level.end_ns - v.level.start_ns) / 86_400e9 for v in self.assets if v.scored)


def read_site(path: Path, labels: pd.DataFrame | None, *, hold_off_ns: int, spans: int) -> SiteView:
    """The view of `scores/<site>.parquet`; a file that cannot be read gives a view without machines and a note."""
    site = path.stem
    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        if missing := [name for name in _NEEDED if name not in names]:
            return SiteView(site, (), (f"The score file lacks the column {missing[0]!r}.",))
        wanted = [
            n for n in ("event_time", "asset", "score", "threshold", "is_anomaly", "label") if n in names
        ]
        table = file.read(columns=wanted)
        top = file.read(columns=[n for n in ("top_sensors", "top_contributions") if n in names])
    except (OSError, pa.ArrowException) as error:
        return SiteView(site, (), (f"The score file could not be read ({error}).",))
    if table.num_rows == 0:
        return SiteView(site, (), ("No readings were scored for this site.",))
    columns = _columns(table, site)
    order_of = np.lexsort((columns.time, columns.asset_code))
    views, notes = [], []
    for code, asset in enumerate(columns.assets):
        rows = order_of[columns.asset_code[order_of] == code]
        truth = _truth(labels, asset, columns, rows)
        views.append(_asset_view(asset, columns, rows, top, truth, hold_off_ns, spans))
    views.sort(key=lambda v: -max((a.ratio for a in v.alerts), default=0.0))
    if labels is not None and all(v.incidents is None for v in views):
        notes.append("Labels were given, but none of them falls into the scored time.")
    return SiteView(site, _with_clips(path, views, notes), tuple(notes))


@dataclass(frozen=True)
class _Columns:
    time: NDArray[np.int64]
    asset_code: NDArray[np.int64]
    assets: list[str]
    score: NDArray[np.float64]
    threshold: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    label: NDArray[np.float64] | None


def _columns(table: pa.Table, site: str) -> _Columns:
    count = table.num_rows

    def floats(name: str) -> NDArray[np.float64]:
        if name not in table.column_names:
            return np.full(count, np.nan)
        return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)

    time = table["event_time"].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
    if "asset" in table.column_names:
        coded = table["asset"].cast(pa.string()).combine_chunks()
        coded = (coded if isinstance(coded, pa.Array) else pa.concat_arrays(coded.chunks)).fill_null(site)
        encoded = coded.dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        assets = [str(a) for a in encoded.dictionary.to_pylist()]
    else:
        codes, assets = np.zeros(count, np.int64), [site]
    score, threshold = floats("score"), floats("threshold")
    with np.errstate(invalid="ignore"):
        flagged = score > threshold
    if "is_anomaly" in table.column_names:
        flagged = np.asarray(table["is_anomaly"].fill_null(False).to_numpy(zero_copy_only=False), bool)
    label = floats("label") if "label" in table.column_names else None
    if label is not None:
        # Releases before wrote -1 where a label is not known.
        label = np.where(label >= 0, label, np.nan)
        label = label if np.isfinite(label).any() else None
    return _Columns(time, codes, assets, score, threshold, flagged, label)


@dataclass(frozen=True)
class _Stretch:
    """Time of one label, ns: from its first row to its last; what the label says holds to before `until_ns`, where the next row is."""

    start_ns: int
    end_ns: int
    until_ns: int
    incident: bool


def _truth(
    labels: pd.DataFrame | None, asset: str, columns: _Columns, rows: NDArray[np.int64]
) -> list[_Stretch] | None:
    """What is known of one machine's time, from the labels given or else from the score file; None if nothing is."""
    scored = columns.time[rows]
    if labels is not None and len(labels):
        frame = labels
        if "asset" in frame.columns and (frame["asset"] == asset).any():
            frame = frame[frame["asset"] == asset]
        name = next((n for n in ("event_time", "timestamp") if n in frame.columns), None)
        moments = pd.DatetimeIndex(frame[name] if name else frame.index)
        moments = moments.tz_localize("UTC") if moments.tz is None else moments.tz_convert("UTC")
        time = moments.as_unit("ns").asi8
        value = frame["label"].to_numpy(np.float64, na_value=np.nan)
        order = np.argsort(time, kind="stable")
        inside = order[(time[order] >= scored[0]) & (time[order] <= scored[-1])]
        time, value = time[inside], value[inside]
    elif columns.label is not None:
        time, value = scored, columns.label[rows]
    else:
        return None
    label = np.where(np.isnan(value), UNKNOWN, value > 0).astype(np.int8)
    last = int(time[-1]) + int(np.median(np.diff(scored))) if len(time) and len(scored) > 1 else 0
    next_ns = np.r_[time[1:], max(last, int(time[-1]) + 1)] if len(time) else time
    found = [
        _Stretch(int(time[begin]), int(time[end - 1]), int(next_ns[end - 1]), incident == 1)
        for begin, end, incident in known_stretches(time, label, reach([time[label != UNKNOWN]]))
    ]
    return found or None


def _asset_view(
    asset: str,
    columns: _Columns,
    rows: NDArray[np.int64],
    top: pa.Table,
    truth: Sequence[_Stretch] | None,
    hold_off_ns: int,
    spans: int,
) -> AssetView:
    time, score, flagged = columns.time[rows], columns.score[rows], columns.flagged[rows]
    threshold = columns.threshold[rows]
    relative = bool(np.isfinite(threshold).any() and np.nanmin(threshold) > 0)
    level = score / threshold if relative else score
    alerts = []
    for run in flagged_runs(time, flagged, hold_off_ns):
        peak = int(run[np.nanargmax(score[run])]) if np.isfinite(score[run]).any() else int(run[0])
        start, end = int(time[run[0]]), int(time[run[-1]])
        alerts.append(
            Alert(
                asset=asset,
                start_ns=start,
                end_ns=end,
                peak_ns=int(time[peak]),
                peak=float(score[peak]),
                ratio=float(level[peak]),
                steps=len(run),
                sensors=_sensors(top, int(rows[peak])),
                true=_right(start, end, truth or ()),
            )
        )
    hits = time[flagged]
    incidents = None if truth is None else tuple(_incident(each, hits) for each in truth if each.incident)
    return AssetView(
        asset,
        envelope(time, level, spans),
        relative,
        len(rows),
        int(np.isfinite(score).sum()),
        int(flagged.sum()),
        tuple(alerts),
        incidents,
    )


def _right(start: int, end: int, truth: Sequence[_Stretch]) -> bool | None:
    """Whether an alert from `start` to `end`, ns, touches an incident; None if it does not and it is not in normal time from end to end."""
    if any(each.incident and each.start_ns <= end and start < each.until_ns for each in truth):
        return True
    normal = any(each.start_ns <= start and end < each.until_ns for each in truth if not each.incident)
    return False if normal else None


def _incident(of: _Stretch, hits: NDArray[np.int64]) -> Incident:
    first = int(np.searchsorted(hits, of.start_ns))
    found = first < len(hits) and hits[first] < of.until_ns
    return Incident(of.start_ns, of.end_ns, (int(hits[first]) - of.start_ns) / 1e9 if found else None)


def _sensors(top: pa.Table, row: int) -> tuple[Contribution, ...]:
    names = top["top_sensors"][row].as_py() if "top_sensors" in top.column_names else None
    parts = top["top_contributions"][row].as_py() if "top_contributions" in top.column_names else None
    if not names:
        return ()
    weights: Sequence[Any] = parts if parts and len(parts) == len(names) else [float("nan")] * len(names)
    return tuple(
        Contribution(str(n), float(w if w is not None else "nan"))
        for n, w in zip(names, weights, strict=True)
    )


def _with_clips(path: Path, views: list[AssetView], notes: list[str]) -> tuple[AssetView, ...]:
    """The same views, the biggest alerts with the sensors' own values around them if the run kept those."""
    biggest = sorted((a for v in views for a in v.alerts), key=lambda a: -a.ratio)[:CLIPS_PER_SITE]
    signals = path.parent.parent / "signals" / path.name
    if not biggest:
        return tuple(views)
    if not signals.exists():
        notes.append("The run kept no sensor values around alerts, so only the sensors' names are shown.")
        return tuple(views)
    requests = [(a.asset, a.start_ns, a.end_ns, tuple(c.sensor for c in a.sensors[:3])) for a in biggest]
    try:
        clips = dict(zip(map(id, biggest), read_clips(signals, requests), strict=True))
    except (OSError, pa.ArrowException) as error:
        notes.append(f"The sensor values around alerts could not be read ({error}).")
        return tuple(views)
    return tuple(
        replace(v, alerts=tuple(replace(a, clips=clips.get(id(a), ())) for a in v.alerts)) for v in views
    )
