"""Live scoring of the configured sites with a version of the exported detector; an endless one goes over to newer versions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artefacts import ArtefactError, read_summary
from pipeline.config.schema import Config
from pipeline.errors import NothingToDo
from pipeline.runs import detector_root, newest_run, run_folder
from pipeline.scoring.settings import ScoreReport, ScoreSettings, ScoringFailed, alert_topic
from pipeline.streams.cluster import Cluster
from pipeline.streams.intake import intake, stopped_by_signal

if TYPE_CHECKING:
    from ingestion.rights import Errand
    from pipeline.scoring.model import ServingModel

_LOOK_SECONDS = 5.0
Say = Callable[[str], None]


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
    say: Say | None = None,
) -> ScoreReport:
    """Score what is there now, or with `follow` until a signal ends it; scores go to the run's folder for the report.

    With `follow` and no `version` given, a detector that a later run exports takes over as soon as it is loaded; one that cannot be
    loaded is named to `say`, and the present one goes on.

    Raises:
      NothingToDo: no detector has been exported.
      ScoringFailed: the model cannot be used or a topic was refused.
      BrokerUnavailable: the cluster does not answer in time.
    """
    from pipeline.scoring import score

    run = run_id or newest_run(config)
    settings = ScoreSettings(
        **intake(config, cluster).shared(),
        model_dir=model_folder(config, version),
        group_id=config.scoring.group,
        start_group=config.ingestion.group,
        memory_dir=config.project.data_dir / "scoring",
        max_gap_s=config.dataset.max_gap if isinstance(config.dataset.max_gap, float) else None,
        hold_off_s=config.scoring.hold_off,
        top_sensors=config.scoring.top_sensors,
        scores_dir=run_folder(config, run) if run else None,
    )
    settings = replace(settings, decode=replace(settings.decode, learned_from=config.project.data_dir))
    _errand(settings).assure()
    if not follow:
        return score(settings, until="end", progress=progress)
    with stopped_by_signal() as stop:
        if version is not None:
            return score(settings, until=None, progress=progress, stop=stop)
        return _follow(config, settings, stop, progress, say or (lambda _text: None))


def _errand(settings: ScoreSettings) -> Errand:
    """What a scorer does: it reads telemetry, and reads and writes its alerts and its memory."""
    from ingestion.rights import Errand
    from pipeline.scoring.memory import memory_topic

    own = tuple(name for site in settings.sites for name in (alert_topic(site.name), memory_topic(site.name)))
    return Errand(
        settings.bootstrap,
        settings.client,
        reads=(*(site.topic for site in settings.sites), *own),
        writes=own,
        groups=(settings.group_id, *([settings.start_group] if settings.start_group else [])),
        timeout=settings.limits.broker_timeout,
    )


def _follow(
    config: Config,
    settings: ScoreSettings,
    stop: threading.Event,
    progress: Callable[..., None] | None,
    say: Say,
) -> ScoreReport:
    from pipeline.scoring import score
    from pipeline.scoring.model import ServingModel

    serving, before = ServingModel.load(settings.model_dir), None
    while True:
        with _successor(config, serving.version, stop, say) as turn:
            report = score(settings, until=None, progress=progress, stop=turn.over, model=serving)
        before = report if before is None else before.then(report)
        if turn.model is None or stop.is_set():
            return before
        serving = turn.model
        settings = replace(settings, model_dir=turn.folder, scores_dir=turn.run_folder)
        say(f"from now on scored by {serving.name} version {serving.version}")


@dataclass
class _Turn:
    """One version's time: `over` is set when it ends, by the operator or because `model` is loaded and takes over."""

    over: threading.Event = field(default_factory=threading.Event)
    model: ServingModel | None = None
    folder: Path = Path()
    run_folder: Path = Path()


@contextmanager
def _successor(config: Config, version: int, stop: threading.Event, say: Say) -> Iterator[_Turn]:
    """Look for what later runs export, beside the scoring."""
    from pipeline.scoring.model import ServingModel

    turn = _Turn()
    refused: set[str] = set()
    looked_at = 0

    def look() -> None:
        nonlocal looked_at
        written = (
            path.stat().st_mtime_ns for path in (config.project.data_dir / "runs").glob("*/summary.json")
        )
        latest = max(written, default=0)
        # Years of runs are read again only when one was written.
        if latest == looked_at:
            return
        run = newest_run(config)
        looked_at = latest
        if run is None or run in refused:
            return
        summary = read_summary(run_folder(config, run))
        if summary is None or summary.version is None or summary.version <= version:
            return
        folder = detector_root(config) / str(summary.version)
        try:
            turn.model = ServingModel.load(folder)
            turn.folder, turn.run_folder = folder, run_folder(config, run)
        except ScoringFailed as error:
            refused.add(run)
            say(f"version {version} goes on scoring: {error}")

    def watch() -> None:
        while turn.model is None and not stop.wait(_LOOK_SECONDS) and not turn.over.is_set():
            # A run folder that is being written or damaged is looked at again.
            with suppress(ArtefactError, OSError):
                look()
        turn.over.set()

    watcher = threading.Thread(target=watch, daemon=True, name="versions")
    watcher.start()
    try:
        yield turn
    finally:
        turn.over.set()
        watcher.join(2 * _LOOK_SECONDS)
