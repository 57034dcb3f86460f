"""`fedplant backtest`: learn from the first part of historian exports, judge on the rest; no Kafka.

Model, calibration and metrics are those of the job; only the source of the readings differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ingestion.alone import alone
from pipeline.artefacts import Curves, Evaluation
from pipeline.datasets.prepared import Prepared
from pipeline.errors import ConfigError, NothingToDo
from pipeline.evaluation.judging import Judged, held_out, judge
from pipeline.evaluation.scorefile import write_scores
from pipeline.evaluation.sensors import sensor_notes
from pipeline.evaluation.unscored import unscored_notes
from pipeline.jobs.exports import Exports
from pipeline.jobs.job import prepare_training
from pipeline.jobs.lookaround import looked_around
from pipeline.jobs.record import run_manifest, summarise, write_run
from pipeline.learning.learn import learn
from pipeline.manifest import run_id
from pipeline.remarks import together
from pipeline.watch import Watch


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


def run_backtest(exports: Exports, *, work_dir: Path | None, report: Path | None, watch: Watch) -> Backtest:
    """Train on readings before `dataset.train_until` and judge on those from it on.

    Args:
      exports: the site files and the settings for them.
      work_dir: keeps data sets, checkpoints and the run; None discards them.
      report: where the page is written, if anywhere.
      watch: is told about every step.

    Raises:
      NothingToDo: no site has enough readings before `train_until`, or none that has any from then on.
      TrainingFailed, NotEnoughData: nothing could be learned.
      ArtefactError: the page cannot be written.
    """
    config = exports.config
    if report is not None:
        from pipeline.report import can_be_written

        can_be_written(report)
    with result_folder(work_dir) as folder:
        snapshot = exports.snapshot()
        prepared = prepare_training(config, folder / "datasets", snapshot, exports.readings, watch)
        run = folder / "runs" / run_id(snapshot.id, config)
        workdir = folder / "training" / run.name
        judged = to_judge(prepared, exports)
        rows = prepared.training_rows()
        learned = learn(config, prepared.dataset, rows, exports.modes, workdir=workdir, watch=watch)
        with watch.step("judging") as step:
            seconds, hold_off = prepared.dataset.step_ns / 1e9, config.scoring.hold_off
            evaluation = judge(learned.scorers, judged, seconds, hold_off, step)
        evaluation = looked_around(config, prepared, learned, evaluation, watch)
        summary = summarise(run, config, prepared, learned, evaluation)
        skipped = together(prepared.skipped)
        sensors = () if learned.detector is None else together(sensor_notes(learned.detector, judged))
        incidents = together(
            (site, what)
            for site, what in exports.learned_incidents.items()
            if site in prepared.dataset.shards
        )
        unscored = unscored_notes(prepared, learned.detector, judged, exports.labels)
        notes = (*skipped, *summary.warnings, *incidents, *evaluation.notes, *unscored, *sensors)
        evaluation = replace(evaluation, notes=notes)
        if work_dir is not None or report is not None:
            if learned.detector is not None:
                for site, parts in judged.items():
                    write_scores(run, learned.detector, site, parts, config.scoring.top_sensors)
            write_run(run, config, prepared, learned, evaluation, summary)
        if report is not None:
            from pipeline.report import write_report

            write_report(run, report, labels=exports.labels)
        return Backtest(evaluation, learned.curves, run_manifest(config, prepared, learned))


def to_judge(prepared: Prepared, exports: Exports) -> dict[str, list[Judged]]:
    """What every site is judged on.

    Raises:
      NothingToDo: no site that can learn has a reading from `train_until` on.
    """
    found = held_out(prepared, exports.config.model.steps, exports.labels)
    if not any(found.values()):
        until, last = exports.config.dataset.train_until, {}
        for site in found:
            end = max(run.end_ns for run in prepared.runs(site)) / 1e9
            last[site] = (
                f"the last reading is of {datetime.fromtimestamp(end, timezone.utc):%Y-%m-%d %H:%M:%S}"
            )
        raise NothingToDo(
            f"no site that can learn has readings to be judged on from {until:%Y-%m-%d %H:%M:%S} UTC: {'; '.join(together(last))}"
            " (--train-until)"
        )
    return found


@contextmanager
def result_folder(work_dir: Path | None) -> Iterator[Path]:
    """The folder that keeps results, held against others (StorageError if one holds it), or one that is gone afterwards."""
    if work_dir is not None:
        try:
            work_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{work_dir}: the folder for results cannot be made ({error.strerror}); choose another --work-dir"
            ) from error
        # Two would write the same shards and checkpoints.
        with alone(work_dir, "backtest"):
            yield work_dir
        return
    with tempfile.TemporaryDirectory(prefix="fedplant-backtest-") as name:
        yield Path(name)
