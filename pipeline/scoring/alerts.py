"""When a score above the threshold becomes an alert, and what the alert message says. Pure: no Kafka, no TensorFlow.

An alert is an *event*, not a sample: it opens at the first step above the threshold and ends at the last one, once the
score has stayed normal for longer than the hold-off. Two messages are sent for it, `open` and `closed`; a day above the
threshold is two messages and not 1,440. The format is described in docs/alerts.md.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

SCHEMA = "fedplant.alert/1"
OPEN, CLOSED = "open", "closed"


@dataclass(frozen=True)
class Contribution:
    """One sensor's part in a score; `contribution` in units of the score, `value` in the sensor's own unit or None."""

    sensor: str
    contribution: float
    value: float | None = None


@dataclass(frozen=True)
class AlertEvent:
    """What is known of one alert so far. Times are event time, ns since 1970 UTC.

    Attributes:
        start_ns: first step above the threshold.
        last_ns: latest step above the threshold.
        peak_ns: step with the highest score.
        first_score: score at `start_ns`.
        peak_score: score at `peak_ns`.
        last_score: score at `last_ns`.
        steps: steps above the threshold.
        sensors: largest contributions at `peak_ns`, largest first.
        threshold: what `first_score` was above.
        suspects: sensors that could not be relied on at `peak_ns`, and why.
        raised_by: detector and version that opened it, if that was not the one that goes on.
    """

    start_ns: int
    last_ns: int
    peak_ns: int
    first_score: float
    peak_score: float
    last_score: float
    steps: int
    sensors: tuple[Contribution, ...] = ()
    threshold: float = float("nan")
    suspects: tuple[tuple[str, str], ...] = ()
    raised_by: tuple[str, int] | None = None


@dataclass(frozen=True)
class Change:
    """An alert that opened or closed; `event` is its state at that moment."""

    state: str
    event: AlertEvent


def flagged_runs(
    time_ns: NDArray[np.int64], flagged: NDArray[np.bool_], hold_off_ns: int
) -> list[NDArray[np.int64]]:
    """Indices of the flagged steps, one array per alert: a silence longer than `hold_off_ns` separates two alerts.

    `time_ns` int64[N] is increasing, one asset's; `flagged` bool[N].
    """
    index = np.flatnonzero(flagged)
    if index.size == 0:
        return []
    cuts = np.flatnonzero(np.diff(time_ns[index]) > hold_off_ns) + 1
    return np.split(index, cuts)


class AlertTracker:
    """The alert state of one asset. Feeding steps one by one or in any batches gives the same changes.

    `describe(i)` gives the contributions at step `i` of the batch and `suspects(i)` the sensors not to rely on; they are called only
    where an alert opens or peaks.
    """

    def __init__(self, hold_off_ns: int, current: AlertEvent | None = None) -> None:
        """`current` resumes an alert that was open when the process ended."""
        self.hold_off_ns = hold_off_ns
        self.current = current

    def advance(
        self,
        time_ns: NDArray[np.int64],
        score: NDArray[np.float64],
        threshold: NDArray[np.float64],
        describe: Callable[[int], Sequence[Contribution]],
        suspects: Callable[[int], Sequence[tuple[str, str]]] = lambda _: (),
    ) -> list[Change]:
        """Changes caused by the next steps (arrays of one length N, times increasing), in order of time; a NaN score never alarms."""
        changes: list[Change] = []
        with np.errstate(invalid="ignore"):
            flagged = score > threshold
        if len(time_ns) == 0:
            return changes
        for run in flagged_runs(time_ns, flagged, self.hold_off_ns):
            current = self.current
            if current is not None and int(time_ns[run[0]]) - current.last_ns > self.hold_off_ns:
                changes.append(Change(CLOSED, current))
                current = None
            if current is None:
                first = int(run[0])
                at, value = int(time_ns[first]), float(score[first])
                current = AlertEvent(
                    at,
                    at,
                    at,
                    value,
                    value,
                    value,
                    0,
                    tuple(describe(first)),
                    float(threshold[first]),
                    tuple(suspects(first)),
                )
                changes.append(Change(OPEN, replace(current, steps=1)))
            self.current = _extended(current, time_ns, score, run, describe, suspects)
        current = self.current
        if current is not None and int(time_ns[-1]) - current.last_ns > self.hold_off_ns:
            changes.append(Change(CLOSED, current))
            self.current = None
        return changes


def _extended(
    event: AlertEvent,
    time_ns: NDArray[np.int64],
    score: NDArray[np.float64],
    run: NDArray[np.int64],
    describe: Callable[[int], Sequence[Contribution]],
    suspects: Callable[[int], Sequence[tuple[str, str]]],
) -> AlertEvent:
    top, last = int(run[np.argmax(score[run])]), int(run[-1])
    event = replace(
        event, last_ns=int(time_ns[last]), last_score=float(score[last]), steps=event.steps + len(run)
    )
    if score[top] > event.peak_score:
        event = replace(
            event,
            peak_ns=int(time_ns[top]),
            peak_score=float(score[top]),
            sensors=tuple(describe(top)),
            suspects=tuple(suspects(top)),
        )
    return event


def top_contributions(
    contribution: NDArray[Any], values: NDArray[Any], sensors: Sequence[str], count: int
) -> tuple[Contribution, ...]:
    """The `count` largest positive contributions of one step, largest first.

    `contribution` float[F] and `values` float[F] are in the order of `sensors`; non-finite contributions count as 0.
    """
    weight = np.nan_to_num(np.asarray(contribution, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    order = np.argsort(-weight, kind="stable")[:count]
    return tuple(
        Contribution(sensors[i], float(weight[i]), float(values[i]) if np.isfinite(values[i]) else None)
        for i in order
        if weight[i] > 0
    )


def iso_utc(time_ns: int) -> str:
    """`2026-03-01T10:00:00.250Z`: UTC with milliseconds (rounded down)."""
    whole, millis = divmod(time_ns // 1_000_000, 1000)
    return datetime.fromtimestamp(whole, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + f".{millis:03d}Z"


def parse_iso_utc(text: str) -> int:
    """Inverse of `iso_utc`, in ns since 1970 UTC (exact to the millisecond)."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + moment.microsecond * 1000


def alert_id(site: str, asset: str, start_ns: int, detector: str, version: int) -> str:
    """Name of an alert: the same machine, start and detector always give the same 32 hex digits."""
    parts = orjson.dumps([site, asset, start_ns, detector, version])
    return hashlib.sha256(parts).hexdigest()[:32]


@dataclass(frozen=True)
class AlertSource:
    """What every alert message of one asset has in common."""

    site: str
    asset: str
    detector: str
    version: int
    known_site: bool


def message(change: Change, source: AlertSource) -> bytes:
    """The JSON value of the Kafka record for `change` (keys as in docs/alerts.md)."""
    event = change.event
    detector, version = event.raised_by or (source.detector, source.version)
    closed = change.state == CLOSED
    at = event.last_ns if closed else event.start_ns
    return orjson.dumps(
        {
            "schema": SCHEMA,
            "alert_id": alert_id(source.site, source.asset, event.start_ns, detector, version),
            "state": change.state,
            "event_time": iso_utc(at),
            "site": source.site,
            "asset": source.asset,
            "score": event.last_score if closed else event.first_score,
            "threshold": event.threshold,
            "top_sensors": [
                {"sensor": c.sensor, "contribution": c.contribution, "value": c.value} for c in event.sensors
            ],
            "sensors_suspect": [{"sensor": sensor, "state": state} for sensor, state in event.suspects],
            "started": iso_utc(event.start_ns),
            "ended": iso_utc(event.last_ns) if closed else None,
            "duration_s": (event.last_ns - event.start_ns) / 1e9 if closed else None,
            "peak_time": iso_utc(event.peak_ns),
            "peak_score": event.peak_score,
            "steps_above": event.steps,
            "detector": detector,
            "model_version": version,
            "known_site": source.known_site,
        }
    )


def event_of_message(value: bytes) -> tuple[str, str, AlertEvent]:
    """`(asset, state, event)` of an alert record, as far as the message tells.

    Raises:
        ValueError: not a message of this format.
    """
    try:
        raw = orjson.loads(value)
        if raw["schema"] != SCHEMA:
            raise ValueError(f"schema {raw['schema']!r}, expected {SCHEMA!r}")
        sensors = tuple(Contribution(**sensor) for sensor in raw["top_sensors"])
        start, at = parse_iso_utc(raw["started"]), parse_iso_utc(raw["event_time"])
        score = float(raw["score"])
        event = AlertEvent(
            start,
            at,
            parse_iso_utc(raw["peak_time"]),
            score,
            float(raw["peak_score"]),
            score,
            int(raw["steps_above"]),
            sensors,
            threshold=float(raw["threshold"]),
            suspects=tuple((str(s["sensor"]), str(s["state"])) for s in raw.get("sensors_suspect", ())),
            raised_by=(str(raw["detector"]), int(raw["model_version"])),
        )
        return str(raw["asset"]), str(raw["state"]), event
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"not an alert message ({error})") from error
