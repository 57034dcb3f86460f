"""Metrics of this process, served for Prometheus. `docs/reference/metrics.md` is made from `METRICS` here.

There is one set of metrics a process. Ingestions that follow each other (`run --every`) add up: counters never begin anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ingestion.observation import BOUNDS, PublishTimes, View, added
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PLACE = ("site", "topic", "partition")


@dataclass(frozen=True)
class Description:
    """One metric: its kind in Prometheus' words, labels and meaning."""

    kind: str
    labels: tuple[str, ...]
    help: str


METRICS: Mapping[str, Description] = {
    "fedplant_info": Description("gauge", ("version",), "1; the version that runs."),
    "fedplant_ingest_messages_total": Description("counter", ("site",), "Messages taken off the topic."),
    "fedplant_ingest_rows_in_total": Description(
        "counter", ("site",), "Readings in them; a dead letter counts as one."
    ),
    "fedplant_ingest_rows_total": Description(
        "counter",
        ("site", "outcome"),
        "What became of readings: `kept`, `late` (addenda and late topic), `late_topic`, `duplicate`, `already_handled`, `left_open`.",
    ),
    "fedplant_ingest_dead_letters_total": Description(
        "counter", ("site", "reason"), "Messages sent to the dead-letter topic."
    ),
    "fedplant_ingest_repaired_total": Description(
        "counter", ("site", "what"), "Repairs and drops inside kept messages."
    ),
    "fedplant_ingest_dropped_values_total": Description(
        "counter", ("site", "sensor", "reason"), "Values dropped by the sensor mapping."
    ),
    "fedplant_ingest_windows_total": Description(
        "counter", ("site", "kind"), "Files published: `window` or `addendum`."
    ),
    "fedplant_ingest_publish_seconds": Description(
        "histogram", (), "Time to write, sync and link windows that closed together."
    ),
    "fedplant_ingest_position": Description("gauge", PLACE, "Offset that is read next."),
    "fedplant_ingest_lag_messages": Description(
        "gauge", PLACE, "Messages in the log that were not read yet."
    ),
    "fedplant_ingest_lag_seconds": Description(
        "gauge", PLACE, "How far the watermark is behind this machine's clock."
    ),
    "fedplant_ingest_watermark_timestamp_seconds": Description(
        "gauge", PLACE, "The watermark, in seconds since 1970 UTC."
    ),
    "fedplant_ingest_open_windows": Description("gauge", PLACE, "Windows that still gather readings."),
    "fedplant_ingest_open_rows": Description("gauge", PLACE, "Readings in them."),
    "fedplant_ingest_seen_timestamp_seconds": Description(
        "gauge", (), "When ingestion last said where it is; it does so once a second."
    ),
    "fedplant_score_messages_total": Description("counter", ("site",), "Messages read by the scorer."),
    "fedplant_score_steps_total": Description(
        "counter", ("site", "outcome"), "Grid steps: `scored`, `flagged` (above the threshold)."
    ),
    "fedplant_score_alerts_total": Description("counter", ("site", "what"), "Alerts `opened` and `closed`."),
    "fedplant_score_rejected_total": Description(
        "counter", ("site", "reason"), "Messages that the scorer could not use."
    ),
    "fedplant_score_late_total": Description(
        "counter", ("site",), "Readings for a step that was final already."
    ),
    "fedplant_score_machines": Description("gauge", ("site",), "Machines seen."),
}


class Board:
    """The values shown now; written by whoever works, read by whoever scrapes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._view, self._before = View(), View()
        self._seen = 0.0
        self._scores: dict[str, dict[str, Any]] = {}

    def ingesting(self, view: View | None) -> None:
        """Show where an ingestion is."""
        if view is not None:
            with self._lock:
                self._view, self._seen = view, time.time()

    def ingested(self, counts: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """An ingestion ended with these counts; what the next one counts comes on top."""
        with self._lock:
            last, before = self._view, self._before
            times = PublishTimes(
                [a + b for a, b in zip(before.publishing.buckets, last.publishing.buckets, strict=True)],
                before.publishing.total + last.publishing.total,
            )
            self._before = View((), added(before.counts, counts or last.counts), times)
            self._view = View()

    def scoring(self, site: str, score: Any) -> None:
        """Show a site's counts (`pipeline.scoring.SiteScore`) of the scorer that runs."""
        with self._lock:
            self._scores[site] = {**vars(score), "rejected": dict(score.rejected)}

    def collect(self) -> Iterator[Metric]:
        """Everything, in Prometheus' form."""
        with self._lock:
            view, before, seen, scores = self._view, self._before, self._seen, dict(self._scores)
        yield _family("fedplant_info", [((_version(),), 1)])
        yield from _counters(added(before.counts, view.counts))
        yield _histogram(before.publishing, view.publishing)
        yield from _partitions(view)
        yield _family("fedplant_ingest_seen_timestamp_seconds", [((), seen)] if seen else [])
        yield from _scorer(scores)

    def describe(self) -> list[Metric]:
        """Names without values, so that registering does not collect."""
        return [_family(name, []) for name, what in METRICS.items() if what.kind != "histogram"]


BOARD = Board()


def _family(name: str, samples: Sequence[tuple[tuple[str, ...], float]]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    what = METRICS[name]
    kind = CounterMetricFamily if what.kind == "counter" else GaugeMetricFamily
    family = kind(name, what.help, labels=what.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _counters(counts: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    def nested(key: str) -> list[tuple[tuple[str, ...], float]]:
        return [((site, name), n) for site, found in counts.items() for name, n in found.get(key, {}).items()]

    def plain(pairs: Mapping[str, str]) -> list[tuple[tuple[str, ...], float]]:
        return [((site, label), found[key]) for site, found in counts.items() for key, label in pairs.items()]

    yield _family("fedplant_ingest_messages_total", [((s,), c["messages"]) for s, c in counts.items()])
    yield _family("fedplant_ingest_rows_in_total", [((s,), c["read"]) for s, c in counts.items()])
    outcomes = ("kept", "late", "late_topic", "duplicate", "already_handled", "left_open")
    yield _family("fedplant_ingest_rows_total", plain({name: name for name in outcomes}))
    yield _family("fedplant_ingest_dead_letters_total", nested("dead_lettered_by_reason"))
    yield _family("fedplant_ingest_repaired_total", nested("repaired"))
    dropped = [
        ((site, sensor, reason), number)
        for site, found in counts.items()
        for sensor, reasons in found.get("sensors", {}).items()
        for reason, number in reasons.items()
    ]
    yield _family("fedplant_ingest_dropped_values_total", dropped)
    yield _family("fedplant_ingest_windows_total", plain({"windows": "window", "addenda": "addendum"}))


def _histogram(before: PublishTimes, now: PublishTimes) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    name, total, buckets = "fedplant_ingest_publish_seconds", 0, []
    for bound, *counts in zip((*map(str, BOUNDS), "+Inf"), before.buckets, now.buckets, strict=True):
        total += sum(counts)
        buckets.append((bound, total))
    family = HistogramMetricFamily(name, METRICS[name].help)
    family.add_metric((), buckets, before.total + now.total)
    return family


def _partitions(view: View) -> Iterator[Metric]:
    found: dict[str, list[tuple[tuple[str, ...], float]]] = {
        name: [] for name, what in METRICS.items() if what.labels == PLACE
    }
    for part in view.partitions:
        place = (part.site, part.topic, str(part.partition))

        def put(name: str, value: float | None, place: tuple[str, ...] = place) -> None:
            if value is not None:
                found[f"fedplant_ingest_{name}"].append((place, value))

        put("position", part.position)
        put("lag_messages", None if part.log_end is None else max(0, part.log_end - part.position))
        put("open_windows", part.open_windows)
        put("open_rows", part.open_rows)
        if part.watermark_ns is not None:
            put("watermark_timestamp_seconds", part.watermark_ns / 1e9)
            put("lag_seconds", time.time() - part.watermark_ns / 1e9)
    for name, samples in found.items():
        yield _family(name, samples)


def _scorer(scores: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    def of(key: str) -> list[tuple[tuple[str, ...], float]]:
        return [((site,), found[key]) for site, found in scores.items()]

    def by(*keys: str) -> list[tuple[tuple[str, ...], float]]:
        return [((site, key), found[key]) for site, found in scores.items() for key in keys]

    yield _family("fedplant_score_messages_total", of("messages"))
    yield _family("fedplant_score_steps_total", by("scored", "flagged"))
    yield _family("fedplant_score_alerts_total", by("opened", "closed"))
    rejected = [((site, why), n) for site, found in scores.items() for why, n in found["rejected"].items()]
    yield _family("fedplant_score_rejected_total", rejected)
    yield _family("fedplant_score_late_total", of("late"))
    yield _family("fedplant_score_machines", of("machines"))


def _version() -> str:
    try:
        return version("fedplant")
    except PackageNotFoundError:
        return "unknown"


def serve(port: int | None, address: str = "127.0.0.1", board: Board = BOARD) -> int | None:
    """Serve `http://<address>:<port>/metrics` from a thread until the process ends; returns the port, None without one.

    Raises:
      ConfigError: the port is taken or not allowed.
    """
    if port is None:
        return None
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(board)  # type: ignore[arg-type]
    try:
        server, _ = start_http_server(port, address, registry)
    except OSError as error:
        raise ConfigError(
            f"metrics port {port} on {address}: {error.strerror or error}; name a free one with --metrics-port or "
            "monitoring.metrics_port"
        ) from error
    return int(server.server_port)


def reference() -> str:
    """`docs/reference/metrics.md`."""
    lines = [
        "# Metrics",
        "",
        "`fedplant ingest`, `fedplant run` and `fedplant score` serve these for Prometheus with `--metrics-port PORT` or",
        "`monitoring.metrics_port`, on `monitoring.metrics_address` (this machine only, unless you say otherwise). A test holds this page",
        "to the code. Times are in seconds; labels of partitions are site, topic and partition. Ingestion brings its values up to date once a",
        "second. A counter may step back by the letters of a transaction that was not confirmed: their messages are read again.",
        "",
        "| metric | kind | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name, what in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in what.labels) or "-"
        lines.append(f"| `{name}` | {what.kind} | {labels} | {what.help} |")
    lines += [
        "",
        "With `--workers N` the process that was started serves the sum of all. Useful alarms: `fedplant_ingest_lag_messages` that grows for",
        "longer than a burst lasts; `time() - fedplant_ingest_seen_timestamp_seconds > 60` under `ingest --follow`; any new `reason` in",
        "`fedplant_ingest_dead_letters_total`; `fedplant_ingest_lag_seconds` of one partition far from the others (a silent or slow site).",
    ]
    return "\n".join(lines) + "\n"
