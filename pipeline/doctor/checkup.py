"""`fedplant doctor`: what the configuration asks for, held against this machine and the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.config import Config, load_config
from pipeline.doctor.machine import Cluster, Finding, diagnose
from pipeline.errors import ConfigError
from pipeline.scoring.memory import memory_topic
from pipeline.scoring.settings import alert_topic
from pipeline.streams.cluster import EMBEDDED, client_options
from pipeline.streams.intake import sites_of


def check_up(
    path: Path, bootstrap: str | None, more: Callable[[Config], Iterable[Finding]] = lambda _: ()
) -> list[Finding]:
    """All findings, those of `more` on a usable configuration among them; one that is refused is a finding, and nothing is raised for what is found."""
    try:
        config = load_config(path)
    except ConfigError as error:
        return diagnose(data_dir=path.resolve().parent, configuration_error=str(error))
    address: str | None = bootstrap or config.kafka.bootstrap
    if address == EMBEDDED:
        address = _embedded_address(config)
    cluster = None
    try:
        if address is not None:
            cluster = _cluster(config, address)
    except ConfigError as error:
        return diagnose(data_dir=config.project.data_dir, configuration_error=str(error))
    findings = diagnose(
        data_dir=config.project.data_dir,
        cluster=cluster,
        configuration=str(path),
        embedded=config.kafka.bootstrap == EMBEDDED,
    )
    return [findings[0], *more(config), *findings[1:]]


def _embedded_address(config: Config) -> str | None:
    """Where the embedded broker runs; one that does not run is no failure, commands start it themselves."""
    from ingestion.broker import default_data_dir, status

    running = status(config.kafka.embedded_dir or default_data_dir())
    return running.bootstrap if running else None


def _cluster(config: Config, address: str) -> Cluster:
    sites = sites_of(config)
    return Cluster(
        bootstrap=address,
        reads=[topic for site in sites for topic in (site.topic, memory_topic(site.name))],
        writes=[
            topic
            for site in sites
            for topic in (
                site.dead_letter_topic,
                site.late_topic,
                alert_topic(site.name),
                memory_topic(site.name),
            )
        ],
        groups=[config.ingestion.group, config.scoring.group],
        client=client_options(config.kafka),
    )
