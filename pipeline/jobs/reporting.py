"""`fedplant report`: the run's own files, and with labels also how every way of training did since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingestion.layout import Layout
from pipeline.artefacts import FEDERATED, ArtefactError, Evaluation, read_evaluation, read_summary, write_json
from pipeline.config.schema import Config
from pipeline.datasets.shards import load_dataset
from pipeline.errors import NothingToDo
from pipeline.jobs.lookedat import told_anew
from pipeline.remarks import listed
from pipeline.runs import newest_run, run_folder
from pipeline.watch import Step


def make_report(
    config: Config,
    *,
    labels: Path | None,
    layout: Layout,
    run_id: str | None,
    out: Path | None,
    say: Callable[[str], None],
    step: Step | None = None,
) -> Path:
    """Write the page and return where it is; with labels, in site files of this layout, `evaluation.json` is made anew from all readings since training.
    What was looked at since the run is not named on it.

    Raises:
      NothingToDo: there is no such run.
      InputDataError: the label files cannot be used.
    """
    from pipeline.report import write_report

    run = run_id or newest_run(config)
    summary = None if run is None else read_summary(run_folder(config, run))
    if run is None or summary is None:
        which = "no run" if run is None else f"no run {run}"
        raise NothingToDo(f"{config.project.data_dir}: {which} to report on; `fedplant run` makes one")
    folder = run_folder(config, run)
    told_anew(config, folder, summary)
    frames = None
    if labels is not None:
        frames = label_folder(config, labels, layout, say)
        found = evaluate_run(config, run, frames, step)
        write_json(folder / "evaluation.json", found)
        if not found.sites:
            say(
                "no reading that came since the training has been ingested, so the ways of training cannot be compared: `fedplant ingest`, then "
                "report again"
            )
    return write_report(folder, out or folder / "report.html", labels=frames)


def evaluate_run(config: Config, run_id: str, labels: dict[str, Any], step: Step | None = None) -> Evaluation:
    """Every way of training, judged on the readings ingested since the training ended.

    Args:
      config: whose data folder holds windows and run.
      run_id: the run whose detectors are judged.
      labels: by site a frame with `timestamp`, `asset`, `label`.
      step: is told how far it is.

    Raises:
      NothingToDo: the run or its data set is gone.
    """
    from pipeline.datasets.prepared import Prepared
    from pipeline.evaluation.judging import held_out, judge
    from pipeline.evaluation.unscored import unscored_notes
    from pipeline.jobs.record import load_detectors, with_baselines
    from pipeline.jobs.settings import dataset_settings, window_readings

    folder = run_folder(config, run_id)
    summary = read_summary(folder)
    dataset = (
        load_dataset(config.project.data_dir / "datasets" / (summary.snapshot or "")) if summary else None
    )
    if summary is None or dataset is None:
        raise NothingToDo(f"{folder}: the run's data set is gone; run again to make it")
    readings = window_readings(config)
    asked = dataset_settings(config)
    prepared = Prepared(dataset, readings, asked.until_ns, asked.validation, asked.leave_out)
    scorers = load_detectors(folder / "detectors", sorted(dataset.shards))
    judged = held_out(prepared, config.model.steps, labels)
    found = judge(
        with_baselines(config, prepared, scorers),
        judged,
        dataset.step_ns / 1e9,
        config.scoring.hold_off,
        step,
    )
    detector = next(iter(scorers.get(FEDERATED, {}).values()), None)
    found = replace(found, notes=(*found.notes, *unscored_notes(prepared, detector, judged, labels)))
    try:
        earlier = read_evaluation(folder)
    except ArtefactError:
        # It is damaged, and made anew.
        earlier = None
    if earlier is None:
        return found
    return replace(
        found,
        expected=earlier.expected,
        candidates=earlier.candidates,
        looked_at_before=earlier.looked_at_before,
    )


def label_folder(config: Config, folder: Path, layout: Layout, say: Callable[[str], None]) -> dict[str, Any]:
    """By site the labels in a folder of site files; sites without are named to the user.

    Raises:
      InputDataError: the folder cannot be used, or holds labels for none of the sites.
    """
    from ingestion.errors import InputDataError
    from pipeline.jobs.exports import label_frames
    from pipeline.sitefiles import read_told

    files = read_told(folder, layout, say)
    frames = label_frames(files)
    sites = {site.name for site in config.sites}
    missing = sorted(sites - set(frames))
    if not sites & set(frames):
        raise InputDataError(
            f"{folder}: no labels for {listed(missing)}, only files of {listed(files)}; name each file as its site and give it a column `label`"
        )
    if missing:
        say(f"no labels for {', '.join(missing)}")
    return frames
