"""Sends recorded site files to Kafka as each plant's gateway would: flat JSON, keyed by asset, never the label."""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from ingestion.errors import BrokerUnavailable, IngestionError, InputDataError
from ingestion.replayplan import Plan, schedule
from ingestion.sender import Sender, create_topics
from ingestion.sitefile import SiteFile

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class SiteReplay:
    """What one site sent: confirmed messages, their payload bytes, and the seconds from first to last confirmation."""

    topic: str
    messages: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class ReplayReport:
    """What a replay sent, by site, and the seconds it took in all."""

    sites: dict[str, SiteReplay]
    seconds: float

    @property
    def messages(self) -> int:
        """Messages of all sites."""
        return sum(site.messages for site in self.sites.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {"messages": self.messages, **asdict(self)}


def replay(
    files: Mapping[str, SiteFile],
    *,
    bootstrap: str,
    client_options: Mapping[str, Any] | None = None,
    topic_for: Callable[[str], str] = lambda site: f"iiot.{site}.telemetry.v1",
    partitions: int = 1,
    start: datetime | None = None,
    end: datetime | None = None,
    speed: float | None = None,
    sites: Sequence[str] | None = None,
    processes: Literal["one", "per-site"] | str = "one",
    dry_run: bool = False,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> ReplayReport:
    """Send the readings with event time in `[start, end)` (UTC when naive) and return when the broker has confirmed every one.

    One message a reading: `{"asset", "ts" (ms UTC), "values" {sensor: number or null}, "quality": 192, "seq"}`. `seq` counts an asset's rows from
    the beginning of its file, so two spans of one file continue each other. The record's own timestamp is the later of now and the event time:
    old enough records would be removed by the cluster's retention, and an event time ahead of its record is what consumers refuse as a wrong clock.

    `speed`: factor of real time, None as fast as possible. Missing topics are created with `partitions`. `dry_run` counts without a broker.
    `timeout`: seconds a message may stay unconfirmed (a broker that restarts in that time costs nothing: the producer is idempotent).
    `progress(done, total, site)` is called about every thousand messages.

    Raises:
        BrokerUnavailable: not reachable, not answering within `timeout`, or a topic denied.
        InputDataError: unknown site, nothing in the span, or a reading the broker refuses as too large.
    """
    chosen = _chosen(files, sites)
    if speed is not None and not speed > 0:
        raise InputDataError(
            f"speed {speed}: expected a positive factor of real time, or none for as fast as possible"
        )
    plans = [Plan.of(chosen[name], topic_for(name), start, end) for name in chosen]
    if all(len(plan.times) == 0 for plan in plans):
        raise InputDataError(
            f"no reading between {start or 'the beginning'} and {end or 'the end'}; widen the span"
        )
    options = {"bootstrap_servers": bootstrap, **(client_options or {})}
    report = progress or (lambda _done, _total, _site: None)
    began = time.monotonic()
    if dry_run:
        sent = {plan.site: _count(plan) for plan in plans}
    else:
        create_topics({plan.topic: partitions for plan in plans}, options, timeout)
        run = _run_processes if processes == "per-site" and len(plans) > 1 else _run
        sent = run(plans, options, speed, timeout, report)
    return ReplayReport(sent, time.monotonic() - began)


def _chosen(files: Mapping[str, SiteFile], sites: Sequence[str] | None) -> dict[str, SiteFile]:
    unknown = [site for site in sites or () if site not in files]
    if unknown:
        raise InputDataError(f"no file of site {unknown[0]}; there are {', '.join(sorted(files)) or 'none'}")
    return {site: files[site] for site in (sites or files)}


def _count(plan: Plan) -> SiteReplay:
    size = sum(len(value) for _, value, _ in plan.messages(0, len(plan.times)))
    return SiteReplay(plan.topic, len(plan.times), size, 0.0)


def _run(
    plans: Sequence[Plan],
    options: Mapping[str, Any],
    speed: float | None,
    timeout: float,
    progress: Progress,
) -> dict[str, SiteReplay]:
    total = sum(len(plan.times) for plan in plans)
    done, sizes = 0, dict.fromkeys((plan.site for plan in plans), 0)
    began = time.monotonic()
    sender = Sender(options, paced=speed is not None, timeout=timeout)
    try:
        for plan, first, last in schedule(plans, speed):
            size = 0
            for key, value, event_ms in plan.messages(first, last):
                sender.send(plan.topic, key, value, event_ms)
                size += len(value)
            sizes[plan.site] += size
            done += last - first
            progress(done, total, plan.site)
        sender.confirm()
    finally:
        sender.close()
    seconds = time.monotonic() - began
    return {plan.site: SiteReplay(plan.topic, len(plan.times), sizes[plan.site], seconds) for plan in plans}


def _run_processes(
    plans: Sequence[Plan],
    options: Mapping[str, Any],
    speed: float | None,
    timeout: float,
    progress: Progress,
) -> dict[str, SiteReplay]:
    context = multiprocessing.get_context("spawn")
    news: Any = context.Queue()
    owner = os.getpid()
    children = {
        plan.site: context.Process(
            target=_plant,
            args=(plan, dict(options), speed, timeout, news, owner),
            daemon=True,
            name=plan.site,
        )
        for plan in plans
    }
    total = sum(len(plan.times) for plan in plans)
    done = dict.fromkeys(children, 0)
    results: dict[str, SiteReplay] = {}
    for child in children.values():
        child.start()
    try:
        while len(results) < len(plans):
            try:
                site, value = news.get(timeout=0.5)
            except queue.Empty:
                gone = [
                    s for s, child in children.items() if s not in results and child.exitcode not in (None, 0)
                ]
                if gone:
                    raise BrokerUnavailable(
                        f"the process that replays {gone[0]} died (exit code {children[gone[0]].exitcode}); start again"
                    ) from None
                continue
            if isinstance(value, Exception):
                raise value
            if isinstance(value, SiteReplay):
                results[site] = value
            else:
                done[site] = value
                progress(sum(done.values()), total, site)
    finally:
        for child in children.values():
            if child.is_alive() and child.name not in results:
                child.terminate()
            child.join(10)
    return {plan.site: results[plan.site] for plan in plans}


def _plant(
    plan: Plan, options: Mapping[str, Any], speed: float | None, timeout: float, news: Any, owner: int
) -> None:
    def tell(done: int, _total: int, site: str) -> None:
        if os.getppid() != owner:
            raise SystemExit(1)
        news.put((site, done))

    try:
        if len(plan.times) == 0:
            news.put((plan.site, SiteReplay(plan.topic, 0, 0, 0.0)))
            return
        sent = _run([plan], options, speed, timeout, tell)[plan.site]
        news.put((plan.site, replace(sent)))
    except IngestionError as error:
        news.put((plan.site, error))
