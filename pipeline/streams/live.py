"""Live scoring of the configured sites with a version of the exported detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.errors import NothingToDo
from pipeline.runs import detector_root, newest_run, run_folder
from pipeline.scoring.settings import ScoreReport, ScoreSettings, alert_topic
from pipeline.streams.cluster import Cluster
from pipeline.streams.intake import decode_rules, event_time_rules, limits, sites_of, stopped_by_signal


def model_folder(config: Config, version: int | None) -> Path:
    """The SavedModel of a version, by default the newest.

    Raises:
      NothingToDo: there is no such version yet.
    """
    root = detector_root(config)
    versions = sorted(int(path.name) for path in root.glob("*") if path.name.isdigit())
    if not versions:
        raise NothingToDo(f"{root}: no detector has been exported yet; `fedplant run` makes one")
    if version is not None and version not in versions:
        raise NothingToDo(f"{root}: no version {version}; there are {', '.join(map(str, versions))}")
    return root / str(version if version is not None else versions[-1])


def score_sites(
    config: Config,
    cluster: Cluster,
    *,
    version: int | None = None,
    run_id: str | None = None,
    follow: bool = False,
    progress: Callable[..., None] | None = None,
) -> ScoreReport:
    """Score what is there now, or with `follow` until a signal ends it; scores go to the run's folder for the report.

    Raises:
      NothingToDo: no detector has been exported.
      ScoringFailed: the model cannot be used or a topic was refused.
      BrokerUnavailable: the cluster does not answer in time.
    """
    from ingestion.rights import assure_rights
    from pipeline.scoring import score

    run = run_id or newest_run(config)
    settings = ScoreSettings(
        sites=sites_of(config),
        bootstrap=cluster.bootstrap,
        model_dir=model_folder(config, version),
        group_id=config.scoring.group,
        start_group=config.ingestion.group,
        client=cluster.client,
        event_time=event_time_rules(config),
        decode=replace(decode_rules(config), learned_from=config.project.data_dir),
        memory_dir=config.project.data_dir / "scoring",
        limits=limits(config),
        max_gap_s=config.dataset.max_gap if isinstance(config.dataset.max_gap, float) else None,
        hold_off_s=config.scoring.hold_off,
        top_sensors=config.scoring.top_sensors,
        scores_dir=run_folder(config, run) if run else None,
    )
    topics = {site.topic: "Read" for site in settings.sites}
    topics |= {alert_topic(site.name): "Write" for site in settings.sites}
    groups = [settings.group_id, config.ingestion.group]
    assure_rights(cluster.bootstrap, cluster.client, topics, groups, settings.limits.broker_timeout)
    if not follow:
        return score(settings, until="end", progress=progress)
    with stopped_by_signal() as stop:
        return score(settings, until=None, progress=progress, stop=stop)
