"""`fedplant backtest`: learn from the first part of historian exports, judge on the rest; no Kafka.

Model, calibration and metrics are those of the job; only the source of the readings differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artefacts import MODES, Curves, Evaluation, RunSummary, write_json
from pipeline.config import Config, SiteConfig, load_config
from pipeline.datasets.shards import Dataset, build_dataset
from pipeline.datasets.snapshot import take_snapshot
from pipeline.datasets.sources import FileReadings, site_runs
from pipeline.errors import ConfigError, NothingToDo
from pipeline.evaluation.judging import Judged, cut_from, judge, label_run
from pipeline.jobs.job import dataset_settings, training_rows
from pipeline.learning import Learned, fit_scaling, learn
from pipeline.manifest import manifest, run_id
from pipeline.watch import Watch

if TYPE_CHECKING:
    from ingestion.sitefile import SiteFile


@dataclass(frozen=True)
class Backtest:
    """What a backtest found: figures per site and as mean, learning curves, and how it was made."""

    evaluation: Evaluation
    curves: Curves
    manifest: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            **self.evaluation.to_json(),
            "rounds": {mode: len(curve.rounds) for mode, curve in self.curves.modes.items()},
            "manifest": self.manifest,
        }


def run_backtest(
    data: Path,
    train_until: datetime,
    *,
    config_path: Path | None,
    modes: Sequence[str] | None,
    work_dir: Path | None,
    report: Path | None,
    watch: Watch,
) -> Backtest:
    """Train on readings before `train_until` and judge on those from it on.

    Raises:
      InputDataError: the folder holds no usable site file.
      ConfigError: a mode is unknown, or a configuration key is refused.
      NothingToDo: no site has enough readings before `train_until`.
    """
    from ingestion.sitefile import read_site_dir

    wanted = _checked(modes)
    with watch.step("reading files"):
        files = read_site_dir(data)
    for file in files.values():
        for note in file.notes:
            watch.say(f"{file.site}: {note}")
    config = _configuration(config_path, list(files), train_until)
    readings = FileReadings(files)
    with _folder(work_dir) as folder:
        snapshot = take_snapshot(readings.sources(), dataset_settings(config))
        with watch.step("building the data set"):
            dataset = build_dataset(folder / "datasets", snapshot, readings.tables, fit_scaling)
            rows = training_rows(readings, dataset, snapshot.settings.until_ns)
        skipped = _skipped(dataset)
        for site, why in skipped.items():
            watch.say(f"{site} takes no part: {why}")
        if not dataset.shards:
            raise NothingToDo(
                f"no site can train on readings before {train_until:%Y-%m-%d %H:%M} UTC: {skipped}"
            )
        name = run_id(snapshot.id, config)
        learned = learn(config, dataset, rows, wanted, workdir=folder / "training" / name, watch=watch)
        with watch.step("judging") as step:
            judged = _judged(config, files, readings, dataset)
            evaluation = judge(learned.scorers, judged, dataset.step_ns / 1e9, config.scoring.hold_off, step)
        notes = (*(f"{site}: {why}" for site, why in skipped.items()), *evaluation.notes)
        outcome = Backtest(
            replace(evaluation, notes=notes),
            learned.curves,
            manifest(config, snapshot.id, list(dataset.sensors), dataset.step_ns / 1e9),
        )
        if work_dir is not None or report is not None:
            run = folder / "runs" / name
            _write_run(run, config, dataset, learned, outcome, judged, skipped)
            if report is not None:
                from pipeline.report import write_report

                write_report(run, report, labels=label_frames(files))
    return outcome


def label_frames(files: dict[str, SiteFile]) -> dict[str, Any]:
    """By site the columns `timestamp`, `asset`, `label` of the files that have labels."""
    frames = {}
    for site, file in files.items():
        if file.labels is not None:
            frames[site] = file.frame[["timestamp", "asset"]].assign(label=file.labels.to_numpy("float64"))
    return frames


def _checked(modes: Sequence[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(modes or ()) - set(MODES))
    if unknown:
        raise ConfigError(f"--mode {unknown[0]}: choose from {', '.join(MODES)}")
    return tuple(mode for mode in MODES if not modes or mode in modes)


def _configuration(path: Path | None, sites: list[str], train_until: datetime) -> Config:
    """The file's settings, or the defaults, for these sites and this instant."""
    base = load_config(path) if path is not None else Config(sites=[SiteConfig(name=site) for site in sites])
    return base.model_copy(
        update={
            "sites": [SiteConfig(name=site) for site in sites],
            "dataset": base.dataset.model_copy(update={"train_until": train_until}),
        }
    )


@contextmanager
def _folder(work_dir: Path | None) -> Iterator[Path]:
    if work_dir is not None:
        work_dir.mkdir(parents=True, exist_ok=True)
        yield work_dir
        return
    with tempfile.TemporaryDirectory(prefix="fedplant-backtest-") as name:
        yield Path(name)


def _skipped(dataset: Dataset) -> dict[str, str]:
    return {site: found.excluded for site, found in dataset.outcomes.items() if found.excluded is not None}


def _judged(
    config: Config, files: dict[str, SiteFile], readings: FileReadings, dataset: Dataset
) -> dict[str, list[Judged]]:
    labels = label_frames(files)
    until = dataset_settings(config).until_ns
    assert until is not None
    found: dict[str, list[Judged]] = {}
    for site in dataset.shards:
        parts = (
            cut_from(run, label_run(run, labels.get(site)), until, config.model.steps)
            for run in site_runs(readings, dataset, site)
        )
        found[site] = [part for part in parts if part is not None]
    return found


def _write_run(
    folder: Path,
    config: Config,
    dataset: Dataset,
    learned: Learned,
    outcome: Backtest,
    judged: dict[str, list[Judged]],
    skipped: dict[str, str],
) -> None:
    """A run folder as the job makes it, with the scores of the federated detector, so that the same report reads it."""
    from pipeline.evaluation.scorefile import write_scores

    write_json(folder / "manifest.json", outcome.manifest)
    write_json(folder / "curves.json", learned.curves)
    write_json(folder / "evaluation.json", outcome.evaluation)
    if learned.detector is not None:
        for site, parts in judged.items():
            write_scores(folder, learned.detector, site, parts, config.scoring.top_sensors)
    summary = RunSummary(
        run_id=folder.name,
        snapshot=dataset.id,
        detector=config.project.name,
        run_path=str(folder),
        sites=tuple(sorted(dataset.shards)),
        skipped_sites=skipped,
        sensors=len(dataset.sensors),
        frames={site: shard.train_frames for site, shard in dataset.shards.items()},
        rounds={mode: len(curve.rounds) for mode, curve in learned.curves.modes.items()},
        metrics=outcome.evaluation.mean,
    )
    write_json(folder / "summary.json", summary)
