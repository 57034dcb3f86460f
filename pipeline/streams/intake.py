"""The configured sites' topics into windows on disk."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ingestion.settings import DecodeRules, EventTimeRules, IngestSettings, Intake, Limits, Site
from pipeline.artefacts import IngestionCounts
from pipeline.config.schema import Config
from pipeline.config.sensors import sensors_of
from pipeline.monitoring.metrics import BOARD
from pipeline.streams.cluster import Cluster

if TYPE_CHECKING:
    from ingestion.counts import IngestReport
    from ingestion.rights import Errand


def sites_of(config: Config) -> tuple[Site, ...]:
    """The configured plants as ingestion knows them."""
    return tuple(Site(site.name, site.telemetry_topic) for site in config.sites)


def event_time_rules(config: Config) -> EventTimeRules:
    """The configured meaning of time."""
    rules = config.ingestion
    return EventTimeRules(
        window=rules.window,
        out_of_orderness=rules.out_of_orderness,
        allowed_lateness=rules.allowed_lateness,
        max_future_skew=rules.max_future_skew,
        idle_timeout=rules.idle_timeout,
        zone=rules.time_zone,
        unit=rules.time_unit,
        earliest_year=rules.earliest_year,
    )


def decode_rules(config: Config) -> DecodeRules:
    """The configured meaning of values, by site."""
    rules = config.ingestion
    mapping = {
        site.name: {name: sensor.rule() for name, sensor in sensors.items()}
        for site in config.sites
        if (sensors := sensors_of(config, site.name))
    }
    assets = {
        site.name: {**rules.assets, **site.assets} for site in config.sites if rules.assets or site.assets
    }
    return DecodeRules(
        format=rules.format,
        schema_registry=rules.schema_registry or "",
        mapping=mapping,
        assets=assets,
        min_quality=rules.min_quality,
    )


def limits(config: Config) -> Limits:
    """The configured bounds."""
    return Limits(
        max_message_bytes=config.ingestion.max_message_bytes, broker_timeout=config.kafka.request_timeout
    )


def intake(config: Config, cluster: Cluster) -> Intake:
    """What reading the configured sites takes."""
    return Intake(
        sites_of(config),
        cluster.bootstrap,
        client=cluster.client,
        event_time=event_time_rules(config),
        decode=decode_rules(config),
        limits=limits(config),
    )


@dataclass(frozen=True)
class Consent:
    """What the operator has agreed to after a ContinuityError: readings that retention removed, or a topic made anew."""

    accept_gap: bool = False
    new_topic: bool = False


NO_CONSENT = Consent()


def ingest_settings(config: Config, cluster: Cluster, consent: Consent = NO_CONSENT) -> IngestSettings:
    """What ingestion is told."""
    return IngestSettings(
        **intake(config, cluster).shared(),
        data_dir=config.project.data_dir,
        group_id=config.ingestion.group,
        accept_gap=consent.accept_gap,
        new_topic=consent.new_topic,
    )


@contextmanager
def stopped_by_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that endless work ends in order; for the main thread only."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous = {
        number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def assure_reading(settings: IngestSettings) -> None:
    """Name what a secured cluster denies of reading the sites' topics and the group. Raises BrokerUnavailable."""
    _errand(settings).assure()


def _errand(settings: IngestSettings) -> Errand:
    from ingestion.rights import Errand

    return Errand(
        settings.bootstrap,
        settings.client,
        reads=tuple(site.topic for site in settings.sites),
        groups=(settings.group_id,),
        timeout=settings.limits.broker_timeout,
    )


def assure_ingestion(settings: IngestSettings, writes: bool = True) -> None:
    """Name every right that a secured cluster denies, before anything is done. Raises BrokerUnavailable."""
    letters = tuple(n for site in settings.sites for n in (site.dead_letter_topic, site.late_topic))
    errand = _errand(settings)
    if writes:
        replace(errand, writes=letters).assure()
    else:
        replace(errand, reads=errand.reads + letters).assure()


def ingest_sites(
    config: Config,
    cluster: Cluster,
    *,
    follow: bool = False,
    consent: Consent = NO_CONSENT,
    workers: int = 1,
    progress: Callable[..., None] | None = None,
) -> IngestReport:
    """Ingest what is there now, or with `follow` until a signal ends it; open windows wait for their readings.

    `workers` processes share the partitions.

    Raises:
      BrokerUnavailable: the cluster does not answer in time.
      StorageError: the data folder cannot be written.
      ContinuityError: a topic does not continue what is on disk.
    """
    from ingestion.consumer import Progress
    from ingestion.workers import ingest_shared

    def tell(at: Progress) -> None:
        BOARD.ingesting(at.view)
        if progress is not None:
            total = None if at.remaining is None else at.read + at.remaining
            progress(at.read, total, f"{at.read:,} readings")

    settings = ingest_settings(config, cluster, consent)
    assure_ingestion(settings)
    counts = None
    try:
        if not follow:
            report = ingest_shared(settings, workers, until="end", progress=tell)
        else:
            with stopped_by_signal() as stop:
                report = ingest_shared(settings, workers, until=None, progress=tell, stop=stop)
        counts = report.to_dict()["sites"]
        return report
    finally:
        BOARD.ingested(counts)


def sites_that_sent(config: Config, cluster: Cluster) -> list[str]:
    """Sites whose topics have ever held a message, also if it is gone by now.

    Raises:
      BrokerUnavailable: the cluster does not answer in time.
    """
    from ingestion.status import status

    partitions = status(ingest_settings(config, cluster)).partitions
    return sorted({part.site for part in partitions if part.log_end > 0})


def counts_by_site(report: IngestReport) -> dict[str, IngestionCounts]:
    """The report's counts as the run folder keeps them."""
    counts = {}
    for site, found in report.to_dict()["sites"].items():
        counts[site] = IngestionCounts(
            read=found["messages"],
            kept=found["kept"],
            late=found["late"],
            duplicate=found["duplicate"],
            dead_lettered=found["dead_lettered"],
            reasons=found["dead_lettered_by_reason"],
            windows=found["windows"],
            left_open=found["left_open"],
            sensors=found["sensors"],
            repaired=found["repaired"],
            already_handled=found["already_handled"],
        )
    return counts
