"""Every figure of one scored stretch: against labels, and what can be said without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.options import HOLD_OFF
from pipeline.evaluation.alarms import Stretch, alarms, stretches
from pipeline.evaluation.ranking import average_precision, roc_area
from pipeline.evaluation.volume import vus_pr

_DAY = 86400.0
_QUANTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True)
class Metrics:
    """How one detector did on one stretch of data; None is "not measurable" (no label, one class only).

    An incident is an unbroken stretch of steps labelled anomalous. An alarm is what an operator is called for: flagged steps of which
    each is at most the hold-off from the next (`pipeline.evaluation.alarms`). A false alarm lies in normal time from end to end; one that
    overlaps no incident but reaches into time of which labels do not tell is neither false nor right. Point by point only steps with a label
    of their own count. Precision, recall and F1 count points at the threshold that training set; alarms, and what is said of incidents, are those of
    live scoring, whose threshold may have risen.

    Attributes:
        auc_pr: area under precision-recall, point-wise (average precision); chance is `anomaly_share`.
        auc_roc: area under the ROC curve, point-wise; chance is 0.5.
        vus_pr: volume under the precision-recall surface (`pipeline.evaluation.volume`).
        precision: share of the steps above the training threshold that were truly anomalous.
        recall: share of anomalous steps above the training threshold.
        f1: harmonic mean of precision and recall, at the training threshold; never point-adjusted.
        event_recall: share of incidents with at least one flagged step.
        detection_delay: for each incident, seconds from its start to its first flagged step; None if it was missed.
        false_alarms_per_day: false alarms per day of normal data.
        false_alarms_per_week: the same per week.
        alarms_per_day: alarms, true or false, per day of scored data.
        alarms: how many alarms.
        false_alarms: how many of them were false.
        flagged_share: share of all scored steps above the threshold.
        false_flagged_share: share of the steps labelled normal above the threshold, to hold against the promised false-alarm rate.
        anomaly_share: share of the labelled steps that are anomalous.
        events: incidents of which a step was scored.
        rows: scored steps.
        threshold: the threshold that training set.
        threshold_rise: by what factor it stood higher at most while scoring, 1 if it never rose.
        score_quantiles: quantiles of the scores, by share.
    """

    auc_pr: float | None = None
    auc_roc: float | None = None
    vus_pr: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    event_recall: float | None = None
    detection_delay: tuple[float | None, ...] = ()
    false_alarms_per_day: float | None = None
    false_alarms_per_week: float | None = None
    alarms_per_day: float | None = None
    alarms: int | None = None
    false_alarms: int | None = None
    flagged_share: float | None = None
    false_flagged_share: float | None = None
    anomaly_share: float | None = None
    events: int | None = None
    rows: int | None = None
    threshold: float | None = None
    threshold_rise: float | None = None
    score_quantiles: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Metrics:
        """Inverse of `dataclasses.asdict`; keys of later versions are passed over."""
        names = {f.name for f in fields(cls)}
        known = {key: value for key, value in raw.items() if key in names}
        known["detection_delay"] = tuple(known.get("detection_delay") or ())
        known["score_quantiles"] = dict(known.get("score_quantiles") or {})
        return cls(**known)


def evaluate(
    score: ArrayLike,
    label: ArrayLike | None,
    threshold: ArrayLike,
    step_seconds: float,
    *,
    labelled: ArrayLike | None = None,
    training_threshold: float | None = None,
    hold_off: float = HOLD_OFF,
) -> Metrics:
    """Metrics of scores against labels, steps evenly spaced.

    Args:
      score: float[N]; NaN was not scored and is left out of every figure.
      label: 1 in an incident, 0 normal, negative where nobody can tell, [N]; or None if nothing is known. An incident none of whose steps
        was scored is not counted.
      threshold: a step is flagged when its score is above it; a number, or float[N] where it moves while scoring.
      labelled: which steps carry a label themselves, bool[N], while those of others follow from their neighbours; None: all.
      training_threshold: where it began; None: its lowest.
      step_seconds: time from one step to the next.
      hold_off: seconds of silence that end an alarm.

    Raises:
      ValueError: scores and labels differ in length.
    """
    values = np.asarray(score, np.float64)
    scored = ~np.isnan(values)
    limit = np.broadcast_to(np.asarray(threshold, np.float64), values.shape)
    first = training_threshold
    if first is None:
        first = float(limit.min()) if limit.size else float("nan")
    flagged = scored & (values > limit)
    called = alarms(flagged, scored, hold_off / step_seconds)
    rows = int(scored.sum())
    known: dict[str, Any] = {
        "flagged_share": _ratio(int(flagged.sum()), rows),
        "alarms_per_day": _ratio(len(called), rows * step_seconds / _DAY),
        "alarms": len(called),
        "events": 0,
        "rows": rows,
        "threshold": first,
        "threshold_rise": max(1.0, float(limit[scored].max()) / first) if rows and first > 0 else 1.0,
        "score_quantiles": _quantiles(values[scored]),
    }
    if label is None:
        return Metrics(**known)
    told = np.asarray(label)
    own = np.ones(told.shape, bool) if labelled is None else np.asarray(labelled, bool)
    if not told.shape == own.shape == values.shape:
        raise ValueError(f"{values.shape} scores but {told.shape} labels; they must be of equal length")
    # What was not scored keeps apart what lies on either side of it.
    kept = own | ~scored
    return Metrics(
        **known
        | _by_step(values[kept], limit[kept], told[kept] > 0, first)
        | _by_event(scored, flagged, told > 0, told == 0, called, step_seconds)
    )


def _by_step(
    values: NDArray[np.float64], limit: NDArray[np.float64], truth: NDArray[np.bool_], first: float
) -> dict[str, Any]:
    """Figures of the labelled steps, NaN between those that are no neighbours: how they are ranked, and at the training threshold `first`."""
    scored = ~np.isnan(values)
    score, positive = values[scored], truth[scored]
    above = score > first
    hits, taken, positives = int((above & positive).sum()), int(above.sum()), int(positive.sum())
    normal = len(score) - positives
    # Where every step is of an incident any score is perfect, and would raise a fleet's mean.
    return {
        "auc_pr": average_precision(score, positive) if normal else None,
        "auc_roc": roc_area(score, positive),
        "vus_pr": vus_pr(values, truth) if normal else None,
        "precision": _ratio(hits, taken),
        "recall": _ratio(hits, positives),
        "f1": 2 * hits / (taken + positives) if positives else None,
        "false_flagged_share": _ratio(int((~positive & (score > limit[scored])).sum()), normal),
        "anomaly_share": _ratio(positives, len(score)),
    }


def _by_event(
    scored: NDArray[np.bool_],
    flagged: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    normal: NDArray[np.bool_],
    called: list[Stretch],
    step_seconds: float,
) -> dict[str, Any]:
    """Figures of incidents and alarms, at the threshold of live scoring."""
    incidents = [(a, b) for a, b in stretches(truth) if scored[a:b].any()]
    delays = tuple(
        float(np.argmax(flagged[a:b]) * step_seconds) if flagged[a:b].any() else None for a, b in incidents
    )
    false = sum(bool(normal[a:b].all()) for a, b in called)
    per_day = _ratio(false, int((scored & normal).sum()) * step_seconds / _DAY)
    return {
        "event_recall": _ratio(sum(delay is not None for delay in delays), len(delays)),
        "detection_delay": delays,
        "false_alarms_per_day": per_day,
        "false_alarms_per_week": None if per_day is None else 7 * per_day,
        "false_alarms": false,
        "events": len(incidents),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _quantiles(kept: NDArray[np.float64]) -> dict[str, float]:
    """Finite quantiles; no step is interpolated towards an infinite score."""
    if len(kept) == 0:
        return {}
    found = {str(q): float(np.quantile(kept, q, method="lower")) for q in _QUANTILES}
    return {q: value for q, value in found.items() if np.isfinite(value)}
