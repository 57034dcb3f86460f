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

from pipeline.artefacts import MODES, Curves, Evaluation
from pipeline.config import Config, SiteConfig, load_config
from pipeline.datasets.snapshot import take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.errors import ConfigError
from pipeline.evaluation.judging import held_out, judge
from pipeline.evaluation.scorefile import write_scores
from pipeline.jobs.job import dataset_settings, prepare_training
from pipeline.jobs.record import run_manifest, summarise, write_run
from pipeline.learning import learn
from pipeline.manifest import run_id
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
    labels = label_frames(files)
    with _folder(work_dir) as folder:
        snapshot = take_snapshot(readings.sources(), dataset_settings(config))
        prepared = prepare_training(config, folder / "datasets", snapshot, readings, watch)
        run = folder / "runs" / run_id(snapshot.id, config)
        workdir = folder / "training" / run.name
        rows = prepared.training_rows()
        learned = learn(config, prepared.dataset, rows, wanted, workdir=workdir, watch=watch)
        with watch.step("judging") as step:
            judged = held_out(prepared, config.model.steps, labels)
            seconds, hold_off = prepared.dataset.step_ns / 1e9, config.scoring.hold_off
            evaluation = judge(learned.scorers, judged, seconds, hold_off, step)
        skipped = (f"{site}: {why}" for site, why in prepared.skipped.items())
        evaluation = replace(evaluation, notes=(*skipped, *evaluation.notes))
        if work_dir is not None or report is not None:
            if learned.detector is not None:
                for site, parts in judged.items():
                    write_scores(run, learned.detector, site, parts, config.scoring.top_sensors)
            summary = summarise(run, config, prepared, learned, evaluation)
            write_run(run, config, prepared.dataset, learned, evaluation, summary)
        if report is not None:
            from pipeline.report import write_report

            write_report(run, report, labels=labels)
        return Backtest(evaluation, learned.curves, run_manifest(config, prepared.dataset))


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
