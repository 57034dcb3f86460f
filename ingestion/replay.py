"""Sends recorded site files to Kafka as each plant's gateway would: flat JSON, keyed by asset, never the label."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any, Literal

import numpy as np
import orjson
import pandas as pd

from ingestion.errors import BrokerUnavailable, IngestionError, InputDataError
from ingestion.sitefile import SiteFile

GOOD_QUALITY = 192
MAX_UNCONFIRMED = 20_000
_CHUNK = 1024
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
    plans = [_Plan.of(chosen[name], topic_for(name), start, end) for name in chosen]
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


@dataclass(frozen=True)
class _Plan:
    """One site's rows to send: times int64[N] ms, codes int32[N] into assets, seq int64[N], values float64[N, F]."""

    site: str
    topic: str
    sensors: tuple[str, ...]
    assets: tuple[str, ...]
    codes: np.ndarray
    times: np.ndarray
    seq: np.ndarray
    values: np.ndarray

    @staticmethod
    def of(file: SiteFile, topic: str, start: datetime | None, end: datetime | None) -> _Plan:
        frame = file.frame
        codes, assets = pd.factorize(frame["asset"])
        stamps = frame["timestamp"]
        low = 0 if start is None else stamps.searchsorted(_utc(start), side="left")
        high = len(frame) if end is None else stamps.searchsorted(_utc(end), side="left")
        rows = slice(int(low), max(int(low), int(high)))
        seq = frame.groupby("asset", sort=False).cumcount().to_numpy()
        return _Plan(
            file.site,
            topic,
            file.sensors,
            tuple(str(asset) for asset in assets),
            codes[rows],
            stamps.to_numpy(dtype="datetime64[ms]").astype(np.int64)[rows],
            seq[rows],
            frame[list(file.sensors)].to_numpy(dtype=np.float64)[rows],
        )

    def messages(self, first: int, last: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, payload and event time (ms) of rows [first, last)."""
        keys = [asset.encode() for asset in self.assets]
        dumps, sensors, assets = orjson.dumps, self.sensors, self.assets
        columns = zip(
            self.codes[first:last].tolist(),
            self.times[first:last].tolist(),
            self.seq[first:last].tolist(),
            self.values[first:last].tolist(),
            strict=True,
        )
        for code, ts, seq, row in columns:
            # orjson writes NaN as null, which is how gateways say that a sensor gave nothing.
            reading = {
                "asset": assets[code],
                "ts": ts,
                "values": dict(zip(sensors, row, strict=True)),
                "quality": GOOD_QUALITY,
                "seq": seq,
            }
            yield keys[code], dumps(reading), ts


def _utc(moment: datetime) -> pd.Timestamp:
    return pd.Timestamp(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc))


def _count(plan: _Plan) -> SiteReplay:
    size = sum(len(value) for _, value, _ in plan.messages(0, len(plan.times)))
    return SiteReplay(plan.topic, len(plan.times), size, 0.0)


def create_topics(topics: Mapping[str, int], options: Mapping[str, Any], timeout: float) -> None:
    """Create those of `topics` (name to partitions) that do not exist; raises BrokerUnavailable within about `timeout` seconds."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    try:
        shared = {key: value for key, value in options.items() if key in KafkaAdminClient.DEFAULT_CONFIG}
        admin = KafkaAdminClient(**{"bootstrap_timeout_ms": int(timeout * 1000), **shared})
    except (KafkaError, OSError, ValueError) as error:
        raise _unavailable(error, options, "") from error
    try:
        missing = {name: count for name, count in topics.items() if name not in set(admin.list_topics())}
        for name, count in missing.items():
            with contextlib.suppress(TopicAlreadyExistsError):
                admin.create_topics(
                    {name: {"num_partitions": count}}, timeout_ms=int(timeout * 1000), wait_for_metadata=True
                )
    except (KafkaError, OSError) as error:
        raise _unavailable(error, options, next(iter(topics))) from error
    finally:
        admin.close()


def _unavailable(error: BaseException, options: Mapping[str, Any], topic: str) -> IngestionError:
    name = type(error).__name__
    if "Authorization" in name:
        return BrokerUnavailable(
            f"topic {topic}: {name}; these credentials may not write (or create) it, ask for the permission"
        )
    if "MessageSizeTooLarge" in name or "RecordTooLarge" in name:
        return InputDataError(
            f"topic {topic}: a reading is larger than the broker accepts (message.max.bytes)"
        )
    reason = (str(error).splitlines() or [""])[0][:200]
    return BrokerUnavailable(
        f"no answer from Kafka at {options['bootstrap_servers']} {'for ' + topic if topic else ''}: {name}: {reason}; "
        "check the address and that the broker runs"
    )


class _Sender:
    """An idempotent producer with a bounded number of unconfirmed messages; every failure surfaces as one of ours."""

    def __init__(self, options: Mapping[str, Any], *, paced: bool, timeout: float) -> None:
        from kafka import KafkaProducer
        from kafka.errors import KafkaError

        self._errors = (KafkaError, OSError, ValueError)
        self._options, self._timeout = options, timeout
        self._waiting: deque[tuple[str, Any]] = deque()
        self._places: dict[tuple[str, bytes], int] = {}
        limit = int(timeout * 1000)
        try:
            self._producer = KafkaProducer(
                **{
                    "enable_idempotence": True,
                    "acks": "all",
                    "linger_ms": 5 if paced else 20,
                    "batch_size": 262_144,
                    "max_request_size": 10_000_000,
                    "max_block_ms": limit,
                    "bootstrap_timeout_ms": limit,
                    "request_timeout_ms": min(10_000, limit),
                    "delivery_timeout_ms": limit,
                    "reconnect_backoff_max_ms": 500,
                    **options,
                }
            )
        except self._errors as error:
            raise _unavailable(error, options, "") from error

    def send(self, topic: str, key: bytes, value: bytes, event_ms: int) -> None:
        """Hand one message over; waits only when too many are unconfirmed."""
        stamp = max(time.time_ns() // 1_000_000, event_ms)
        try:
            place = self._places.get((topic, key))
            if place is None:
                place = self._places[topic, key] = self._place(topic, key)
            future = self._producer.send(topic, value, key, partition=place, timestamp_ms=stamp)
            self._waiting.append((topic, future))
        except self._errors as error:
            raise _unavailable(error, self._options, topic) from error
        if len(self._waiting) > MAX_UNCONFIRMED:
            self.confirm(MAX_UNCONFIRMED // 2)

    def _place(self, topic: str, key: bytes) -> int:
        # Kafka's default choice, made once per asset: its hash in Python is a fifth of the cost of a message.
        from kafka.partitioner.default import murmur2

        partitions = sorted(self._producer.partitions_for(topic))
        return partitions[(murmur2(key) & 0x7FFFFFFF) % len(partitions)]

    def confirm(self, leave: int = 0) -> None:
        """Wait until at most `leave` messages are unconfirmed; raises for the first that failed."""
        while len(self._waiting) > leave:
            topic, future = self._waiting.popleft()
            try:
                future.get(timeout=self._timeout + 5)
            except self._errors as error:
                raise _unavailable(error, self._options, topic) from error

    def close(self) -> None:
        """Let go of the broker without waiting for what was not confirmed."""
        with contextlib.suppress(*self._errors):
            self._producer.close(timeout=0 if self._waiting else 5)


def _run(
    plans: Sequence[_Plan],
    options: Mapping[str, Any],
    speed: float | None,
    timeout: float,
    progress: Progress,
) -> dict[str, SiteReplay]:
    total = sum(len(plan.times) for plan in plans)
    done, sizes = 0, dict.fromkeys((plan.site for plan in plans), 0)
    began = time.monotonic()
    sender = _Sender(options, paced=speed is not None, timeout=timeout)
    try:
        for plan, first, last in _schedule(plans, speed):
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


def _schedule(plans: Sequence[_Plan], speed: float | None) -> Iterator[tuple[_Plan, int, int]]:
    """Pieces (plan, first row, last row) in event-time order over all sites; with `speed`, each no earlier than it is due."""
    at = [0] * len(plans)
    origin = min((int(plan.times[0]) for plan in plans if len(plan.times)), default=0)
    began = time.monotonic()
    while True:
        ahead = [
            (int(plan.times[row]), index)
            for index, (plan, row) in enumerate(zip(plans, at, strict=True))
            if row < len(plan.times)
        ]
        if not ahead:
            return
        event_ms, index = min(ahead)
        plan, first = plans[index], at[index]
        last = min(first + _CHUNK, len(plan.times))
        if speed is not None:
            due = began + (event_ms - origin) / 1000 / speed
            time.sleep(max(0.0, due - time.monotonic()))
            reached = origin + (time.monotonic() - began) * 1000 * speed
            last = min(last, max(first + 1, int(np.searchsorted(plan.times, reached, side="right"))))
        yield plan, first, last
        at[index] = last


def _run_processes(
    plans: Sequence[_Plan],
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
    plan: _Plan, options: Mapping[str, Any], speed: float | None, timeout: float, news: Any, owner: int
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
