"""`fedplant report`: the run's own files, and with labels also how every way of training did since."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artefacts import CENTRALISED, FEDERATED, LOCAL, Evaluation, read_summary, write_json
from pipeline.config.schema import Config
from pipeline.datasets.shards import load_dataset
from pipeline.errors import NothingToDo
from pipeline.runs import newest_run, run_folder
from pipeline.watch import Step

if TYPE_CHECKING:
    from pipeline.learning import Scorer


def make_report(
    config: Config,
    *,
    labels: Path | None,
    run_id: str | None,
    out: Path | None,
    say: Callable[[str], None],
    step: Step | None = None,
) -> Path:
    """Write the page and return where it is; with labels, `evaluation.json` is made anew from all readings since training.

    Raises:
      NothingToDo: there is no such run.
      InputDataError: the label files cannot be used.
    """
    from pipeline.report import write_report

    run = run_id or newest_run(config)
    if run is None or read_summary(run_folder(config, run)) is None:
        raise NothingToDo(
            f"{config.project.data_dir}: no run {run or ''} to report on; `fedplant run` makes one"
        )
    folder = run_folder(config, run)
    frames = None
    if labels is not None:
        frames = label_folder(config, labels, say)
        write_json(folder / "evaluation.json", evaluate_run(config, run, frames, step))
    return write_report(folder, out or folder / "report.html", labels=frames)


def evaluate_run(config: Config, run_id: str, labels: dict[str, Any], step: Step | None = None) -> Evaluation:
    """Every way of training, judged on the readings ingested since the training ended.

    Args:
      config: whose data folder holds windows and run.
      run_id: the run whose detectors are judged.
      labels: by site a frame with `timestamp`, `asset`, `label`.
    """
    from models.detector import Detector
    from pipeline.datasets.sources import WindowReadings, site_runs
    from pipeline.evaluation.judging import cut_from, judge, label_run
    from pipeline.jobs.job import dataset_settings, detector_path, training_rows
    from pipeline.learning import BASELINES, fit_baselines

    folder = run_folder(config, run_id)
    summary = read_summary(folder)
    dataset = (
        load_dataset(config.project.data_dir / "datasets" / (summary.snapshot or "")) if summary else None
    )
    if summary is None or dataset is None:
        raise NothingToDo(f"{folder}: the run's data set is gone; run again to make it")
    readings = WindowReadings(config.project.data_dir, [site.name for site in config.sites])
    until = dataset_settings(config).until_ns
    scorers: dict[str, dict[str, Scorer]] = {}
    for mode in (FEDERATED, LOCAL, CENTRALISED):
        for site in dataset.shards:
            path = detector_path(folder / "detectors", mode, site)
            if path.exists():
                scorers.setdefault(mode, {})[site] = Detector.load(path)
    rows = training_rows(readings, dataset, until)
    scorers.update(fit_baselines(config, dataset, rows, BASELINES))
    judged = {}
    for site in dataset.shards:
        runs = site_runs(readings, dataset, site)
        from_ns = until if until is not None else max(run.end_ns for run in runs) + 1
        parts = (cut_from(run, label_run(run, labels.get(site)), from_ns, config.model.steps) for run in runs)
        judged[site] = [part for part in parts if part is not None]
    return judge(scorers, judged, dataset.step_ns / 1e9, config.scoring.hold_off, step)


def label_folder(config: Config, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """By site the labels in a folder of site files; sites without are named to the user.

    Raises:
      InputDataError: the folder cannot be used.
    """
    from ingestion.sitefile import read_site_dir
    from pipeline.jobs.backtest import label_frames

    frames = label_frames(read_site_dir(folder))
    missing = sorted({site.name for site in config.sites} - set(frames))
    if missing:
        say(f"no labels for {', '.join(missing)}")
    return frames
