"""Metrics of one scored run against labels, and what can be said without labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_QUANTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True)
class Metrics:
    """Figures of one run; None where a figure has no meaning (no label, one class only). Delays in seconds, None if missed."""

    auc_pr: float | None
    auc_roc: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    false_alarms_per_day: float | None
    detection_delay: tuple[float | None, ...]
    event_recall: float | None
    flagged_share: float | None
    alarms_per_day: float | None
    anomaly_share: float | None
    score_quantiles: dict[str, float]
    events: int
    rows: int
    threshold: float

    def to_json(self) -> dict[str, Any]:
        """JSON-safe form."""
        return {**asdict(self), "detection_delay": list(self.detection_delay)}


def stretches(flags: ArrayLike) -> list[tuple[int, int]]:
    """Contiguous true stretches of bool[N] as `[start, end)`."""
    padded = np.r_[False, np.asarray(flags, bool), False].astype(np.int8)
    edges = np.flatnonzero(np.diff(padded))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def evaluate(score: ArrayLike, label: ArrayLike | None, threshold: float, step_seconds: float) -> Metrics:
    """Metrics of scores float[N] (NaN: not scored, left out) against labels 0/1[N] or None, steps evenly spaced.

    A false alarm is a flagged stretch that touches no incident; days are those of normal scored time. An incident none
    of whose steps was scored is not counted.

    Raises:
      ValueError: scores and labels differ in length.
    """
    values = np.asarray(score, np.float64)
    scored = ~np.isnan(values)
    flagged = scored & (values > threshold)
    rows = int(scored.sum())
    days = rows * step_seconds / 86400.0
    kept = values[scored]
    # No step can be interpolated towards an infinite score.
    quantiles = {str(q): float(np.quantile(kept, q, method="lower")) for q in _QUANTILES} if rows else {}
    empty: dict[str, Any] = {
        "flagged_share": float(flagged.sum() / rows) if rows else None,
        "alarms_per_day": len(stretches(flagged)) / days if rows else None,
        "score_quantiles": {q: v for q, v in quantiles.items() if np.isfinite(v)},
        "rows": rows,
        "threshold": float(threshold),
    }
    if label is None:
        return Metrics(None, None, None, None, None, None, (), None, anomaly_share=None, events=0, **empty)
    truth = np.asarray(label).astype(bool)
    if truth.shape != values.shape:
        raise ValueError(f"{values.shape} scores but {truth.shape} labels; they must be of equal length")
    incidents = [(a, b) for a, b in stretches(truth) if scored[a:b].any()]
    delays = tuple(
        float(np.argmax(flagged[a:b]) * step_seconds) if flagged[a:b].any() else None for a, b in incidents
    )
    hits = int((flagged & truth).sum())
    alarms, positives = int(flagged.sum()), int((scored & truth).sum())
    normal_days = (rows - positives) * step_seconds / 86400.0
    false = sum(not truth[a:b].any() for a, b in stretches(flagged))
    precision = hits / alarms if alarms else None
    recall = hits / positives if positives else None
    return Metrics(
        auc_pr=average_precision(kept, truth[scored]),
        auc_roc=roc_area(kept, truth[scored]),
        precision=precision,
        recall=recall,
        f1=2 * hits / (alarms + positives) if positives else None,
        false_alarms_per_day=false / normal_days if normal_days > 0 else None,
        detection_delay=delays,
        event_recall=sum(d is not None for d in delays) / len(delays) if delays else None,
        anomaly_share=positives / rows if rows else None,
        events=len(incidents),
        **empty,
    )


def average_precision(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """Area under the precision-recall curve as a step sum; None without an anomaly. Ties count as one."""
    positives = int(truth.sum())
    if positives == 0:
        return None
    hits, taken = _cumulative(score, truth)
    gained = np.diff(np.r_[0, hits])
    return float((gained * hits / taken).sum() / positives)


def roc_area(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve; None unless both classes are there."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return None
    hits, taken = _cumulative(score, truth)
    return float(np.trapz(np.r_[0, hits] / positives, np.r_[0, taken - hits] / negatives))


def _cumulative(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """True positives and flagged points at each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ends = np.r_[np.flatnonzero(score[order][:-1] != score[order][1:]), len(score) - 1]
    return np.cumsum(truth[order])[ends], ends + 1
