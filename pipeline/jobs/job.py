"""The one-shot job: ingest what is there, train over all sites, evaluate, export. Made to be repeated.

The same readings and the same settings lead to the same run, so a job that finds its own result only says so; one that was
killed goes on from its data set and its last checkpoint.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from models.detector import Detector
from models.export import export_detector
from pipeline.artefacts import (
    CENTRALISED,
    FEDERATED,
    LOCAL,
    Evaluation,
    IngestionCounts,
    RunSummary,
    read_summary,
    write_json,
)
from pipeline.config.schema import Config
from pipeline.datasets.shards import Dataset, build_dataset
from pipeline.datasets.snapshot import DatasetSettings, Snapshot, take_snapshot
from pipeline.datasets.sources import Readings, WindowReadings, site_runs
from pipeline.errors import NothingToDo
from pipeline.evaluation.judging import Judged, cut_from, judge, label_run
from pipeline.learning import BASELINES, Learned, TrainingRows, fit_scaling, learn
from pipeline.manifest import manifest, run_id
from pipeline.runs import detector_root, run_folder
from pipeline.streams.cluster import Cluster
from pipeline.streams.intake import NO_CONSENT, Consent, counts_by_site, ingest_sites
from pipeline.watch import Watch


def run_job(
    config: Config, cluster: Cluster, *, watch: Watch, force: bool = False, consent: Consent = NO_CONSENT
) -> RunSummary:
    """One complete job; returns what `summary.json` holds.

    Raises:
      NothingToDo: no site has a closed window yet.
      BrokerUnavailable, StorageError, ContinuityError: ingestion could not go on.
      TrainingFailed, NotEnoughData: nothing could be learned.
    """
    clock = _Clock()
    with watch.step("ingesting") as step:
        report = ingest_sites(config, cluster, consent=consent, progress=step.update)
    counts = counts_by_site(report)
    clock.lap("ingest")
    readings = WindowReadings(config.project.data_dir, [site.name for site in config.sites])
    snapshot = take_snapshot(readings.sources(), dataset_settings(config))
    name = run_id(snapshot.id, config)
    earlier = read_summary(run_folder(config, name))
    if earlier is not None and _intact(earlier) and not force:
        return _nothing_new(earlier, counts)
    if not any(snapshot.sources.values()):
        raise NothingToDo(_why_nothing(counts))
    return _train_and_export(config, readings, snapshot, name, counts, clock, watch, force)


def dataset_settings(config: Config) -> DatasetSettings:
    """The configured way from readings to frames."""
    data = config.dataset
    return DatasetSettings(
        steps=config.model.steps,
        step_ns=_ns(data.step),
        max_gap_ns=_ns(data.max_gap),
        validation=data.validation,
        until_ns=None if data.train_until is None else int(data.train_until.timestamp() * 1_000_000) * 1000,
        sensors=None if data.sensors is None else tuple(data.sensors),
        exclude=tuple(data.exclude),
    )


def modes_of(config: Config) -> tuple[str, ...]:
    """The ways of training that a job compares."""
    return (FEDERATED, LOCAL, CENTRALISED, *BASELINES) if config.training.compare else (FEDERATED,)


def training_rows(readings: Readings, dataset: Dataset, until_ns: int | None) -> TrainingRows:
    """By site that can train, its raw runs `float64[N, F]` up to `until_ns`."""
    return {
        site: [run.values for run in site_runs(readings, dataset, site, until_ns)] for site in dataset.shards
    }


def _train_and_export(
    config: Config,
    readings: Readings,
    snapshot: Snapshot,
    name: str,
    counts: Mapping[str, IngestionCounts],
    clock: _Clock,
    watch: Watch,
    force: bool,
) -> RunSummary:
    data_dir, folder = config.project.data_dir, run_folder(config, name)
    workdir = data_dir / "training" / name
    if force:
        shutil.rmtree(workdir, ignore_errors=True)
    with watch.step("building the data set"):
        dataset = build_dataset(data_dir / "datasets", snapshot, readings.tables, fit_scaling)
        rows = training_rows(readings, dataset, snapshot.settings.until_ns)
    skipped = {site: found.excluded for site, found in dataset.outcomes.items() if found.excluded is not None}
    for site, why in skipped.items():
        watch.say(f"{site} takes no part: {why}")
    if not dataset.shards:
        raise NothingToDo(
            "no site can train: " + "; ".join(f"{site}: {why}" for site, why in skipped.items())
        )
    clock.lap("dataset")
    learned = learn(config, dataset, rows, modes_of(config), workdir=workdir, watch=watch)
    clock.lap("train")
    with watch.step("evaluating") as step:
        # Without labels the other ways of training have nothing to be compared by; `report --labels` judges them all.
        chosen = {FEDERATED: learned.scorers[FEDERATED]}
        evaluation = judge(
            chosen,
            _held_out(config, readings, dataset),
            dataset.step_ns / 1e9,
            config.scoring.hold_off,
            step,
        )
    clock.lap("evaluate")
    assert learned.detector is not None
    with watch.step("exporting"):
        model = export_detector(learned.detector, detector_root(config), max_gap_ns=dataset.max_gap_ns)
    clock.lap("export")
    summary = RunSummary(
        run_id=name,
        started=clock.started_utc,
        finished=_utc(),
        seconds=clock.seconds(),
        command=" ".join(["fedplant", *sys.argv[1:]]),
        snapshot=snapshot.id,
        detector=config.project.name,
        version=int(model.name),
        model_path=str(model),
        run_path=str(folder),
        sites=tuple(sorted(dataset.shards)),
        skipped_sites=skipped,
        sensors=len(dataset.sensors),
        frames={site: shard.train_frames for site, shard in dataset.shards.items()},
        rounds={mode: len(curve.rounds) for mode, curve in learned.curves.modes.items()},
        ingestion=counts,
        metrics=evaluation.mean,
        warnings=tuple(_warnings(dataset)),
    )
    _write_run(folder, config, dataset, learned, evaluation, summary)
    return summary


def _held_out(config: Config, readings: Readings, dataset: Dataset) -> dict[str, list[Judged]]:
    """Rows nobody learned from: those after `train_until` if there are any, else each site's validation part."""
    until = dataset_settings(config).until_ns
    found: dict[str, list[Judged]] = {}
    for site in dataset.shards:
        runs = site_runs(readings, dataset, site)
        last = max(run.end_ns for run in runs)
        from_ns = until if until is not None and until <= last else _validation_start(dataset, site, last)
        parts = (cut_from(run, label_run(run, None), from_ns, config.model.steps) for run in runs)
        found[site] = [part for part in parts if part is not None]
    return found


def _validation_start(dataset: Dataset, site: str, last_ns: int) -> int:
    return last_ns - (dataset.outcomes[site].validation_rows - 1) * dataset.step_ns


def _write_run(
    folder: Path,
    config: Config,
    dataset: Dataset,
    learned: Learned,
    evaluation: Evaluation,
    summary: RunSummary,
) -> None:
    """The run folder; the summary comes last, because its presence says that the run is complete."""
    save_detectors(folder / "detectors", learned)
    write_json(
        folder / "manifest.json", manifest(config, dataset.id, list(dataset.sensors), dataset.step_ns / 1e9)
    )
    write_json(folder / "curves.json", learned.curves)
    write_json(folder / "evaluation.json", evaluation)
    write_json(folder / "summary.json", summary)


def save_detectors(folder: Path, learned: Learned) -> None:
    """Keep every trained detector, so that later readings and labels can be judged without training again."""
    for mode in (FEDERATED, CENTRALISED, LOCAL):
        by_site = learned.scorers.get(mode, {})
        for site, scorer in by_site.items():
            path = detector_path(folder, mode, site)
            if isinstance(scorer, Detector) and (mode == LOCAL or site == min(by_site)):
                path.parent.mkdir(parents=True, exist_ok=True)
                scorer.save(path)


def detector_path(folder: Path, mode: str, site: str) -> Path:
    """Where a way of training keeps its detector: one for all sites, but each site's own when trained alone."""
    return folder / mode / (site if mode == LOCAL else "all")


def _intact(summary: RunSummary) -> bool:
    return summary.model_path is not None and Path(summary.model_path).is_dir()


def _nothing_new(earlier: RunSummary, counts: Mapping[str, IngestionCounts]) -> RunSummary:
    fields = {**earlier.__dict__, "status": "nothing_new", "ingestion": counts}
    return RunSummary(**fields)


def _why_nothing(counts: Mapping[str, IngestionCounts]) -> str:
    read = sum(count.read for count in counts.values())
    if read == 0:
        return (
            "no site has sent anything yet: start the plants' gateways (or `fedplant replay`), then run again"
        )
    dead = sum(count.dead_lettered for count in counts.values())
    return (
        f"no window is closed yet: {read:,} messages were read, {dead:,} of them dead-lettered; "
        "wait for more readings, then run again"
    )


def _warnings(dataset: Dataset) -> list[str]:
    found = []
    for site, outcome in sorted(dataset.outcomes.items()):
        if outcome.excluded is None and outcome.validation_rows == 0:
            found.append(f"{site}: too short to hold rows back, so it is not validated")
        if outcome.silent:
            found.append(f"{site}: never sent {', '.join(outcome.silent)}")
    return found


def _ns(seconds: float | str) -> int | None:
    return None if isinstance(seconds, str) else round(seconds * 1e9)


def _utc() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


class _Clock:
    """Wall time by step."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._first = self._last = now()
        self._laps: dict[str, float] = {}
        self.started_utc = _utc()

    def lap(self, name: str) -> None:
        """The step that ends now."""
        moment = self._now()
        self._laps[name] = round(moment - self._last, 3)
        self._last = moment

    def seconds(self) -> dict[str, float]:
        """All steps and their total."""
        return {**self._laps, "total": round(self._now() - self._first, 3)}
