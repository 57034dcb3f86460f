"""`fedplant replay`: recorded site files sent to the topics their plants would use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from ingestion.layout import Layout
    from ingestion.replay import ReplayReport
    from pipeline.config import Config


def speed_factor(text: str) -> float | None:
    """The factor of real time that `--speed` names; None is as fast as possible.

    Raises:
      ConfigError: neither `max` nor a positive number.
    """
    if text == "max":
        return None
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = math.nan
    if not (math.isfinite(factor) and factor > 0):
        raise ConfigError(f"--speed {text}: write `max` or a positive factor of real time, such as 1 or 60")
    return factor


def replay_folder(
    folder: Path,
    *,
    config: Config | None,
    layout: Layout,
    bootstrap: str | None,
    speed: float | None,
    start: datetime | None,
    end: datetime | None,
    sites: Sequence[str] | None,
    processes: str,
    dry_run: bool,
    say: Callable[[str], None],
    progress: Callable[..., None],
) -> ReplayReport:
    """Send (or with `dry_run` count) the readings of a folder of site files of this layout.

    The cluster is the one named, else the configured one, else an embedded broker that runs already.

    Raises:
      InputDataError: the folder holds no usable site file.
      ConfigError: no cluster is named and none runs.
      BrokerUnavailable: the cluster does not answer.
    """
    from ingestion.replay import replay
    from pipeline.sitefiles import read_told

    files = read_told(folder, layout, say)
    topics: dict[str, str] = {}
    client: dict[str, object] = {}
    if config is not None:
        from pipeline.streams.cluster import Cluster, client_options, secured

        topics = {site.name: site.telemetry_topic for site in config.sites}
        if config.kafka.bootstrap != "embedded":
            client = client_options(config.kafka)
            bootstrap = bootstrap or config.kafka.bootstrap
            if not dry_run:
                secured(Cluster(bootstrap, client), config.kafka.request_timeout)
    return replay(
        files,
        bootstrap=""
        if dry_run
        else bootstrap or running_broker(config.kafka.embedded_dir if config else None),
        client_options=client,
        topic_for=lambda site: topics.get(site, f"iiot.{site}.telemetry.v1"),
        start=start,
        end=end,
        speed=speed,
        sites=sites,
        processes=processes,
        dry_run=dry_run,
        progress=progress,
    )


def running_broker(folder: Path | None = None) -> str:
    """Address of the embedded broker that runs on this machine, in the folder that a configuration names or else in the usual one.

    Raises:
      ConfigError: none runs there.
    """
    from ingestion.broker import default_data_dir, status

    running = status(folder or default_data_dir())
    if running is not None:
        return running.bootstrap
    if folder is not None:
        raise ConfigError(
            f"the embedded broker of {folder} does not run: start it with `fedplant broker start --data-dir {folder}`, or give --bootstrap HOST:PORT"
        )
    raise ConfigError(
        "no Kafka is named: give --bootstrap HOST:PORT or the --config of a cluster, or start one with `fedplant broker start`"
    )
