"""The one-shot job: ingest what is there, train over all sites, evaluate, export. Made to be repeated.

The same readings and the same settings lead to the same run, so a job that finds its own result only says so; one that was
killed goes on from its data set and its last checkpoint.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from ingestion.alone import alone
from models.export import export_detector
from pipeline.artefacts import FEDERATED, IngestionCounts, RunSummary, read_summary
from pipeline.config.schema import Config
from pipeline.datasets.prepared import Prepared, prepare
from pipeline.datasets.snapshot import Snapshot, take_snapshot
from pipeline.datasets.sources import Readings
from pipeline.errors import NothingToDo
from pipeline.evaluation.judging import held_out, judge
from pipeline.evaluation.sensors import sensor_notes
from pipeline.jobs.lookaround import looked_around
from pipeline.jobs.lookedat import told_anew
from pipeline.jobs.record import summarise, write_run
from pipeline.jobs.settings import dataset_settings, modes_of, window_readings
from pipeline.jobs.tidying import drop_old_work
from pipeline.learning.learn import learn
from pipeline.manifest import run_id
from pipeline.remarks import listed, together
from pipeline.runs import detector_root, run_folder
from pipeline.streams.cluster import Cluster
from pipeline.streams.intake import NO_CONSENT, Consent, counts_by_site, ingest_sites, sites_that_sent
from pipeline.watch import Watch


def run_job(
    config: Config, cluster: Cluster, *, watch: Watch, force: bool = False, consent: Consent = NO_CONSENT
) -> RunSummary:
    """One complete job; returns what `summary.json` holds.

    Raises:
      NothingToDo: no site has a closed window yet.
      BrokerUnavailable, StorageError, ContinuityError: ingestion could not go on; StorageError too while another job trains in the data folder.
      TrainingFailed, NotEnoughData: nothing could be learned.
    """
    clock = _Clock()
    with watch.step("ingesting") as step:
        report = ingest_sites(config, cluster, consent=consent, progress=step.update)
    counts = counts_by_site(report)
    clock.lap("ingest")
    readings = window_readings(config)
    snapshot = take_snapshot(readings.sources(), dataset_settings(config))
    folder = run_folder(config, run_id(snapshot.id, config))
    earlier = read_summary(folder)
    if earlier is not None and _intact(earlier) and not force:
        return replace(told_anew(config, folder, earlier), status="nothing_new", ingestion=counts)
    if not any(snapshot.sources.values()):
        raise NothingToDo(_why_nothing(counts, sites_that_sent(config, cluster)))
    data_dir = config.project.data_dir
    workdir = data_dir / "training" / folder.name
    # Two would share checkpoints, and the first to end may remove what the other still needs.
    with alone(data_dir, "training"):
        if force:
            shutil.rmtree(workdir, ignore_errors=True)
        prepared = prepare_training(config, data_dir / "datasets", snapshot, readings, watch)
        clock.lap("dataset")
        on_disk = {site: sum(source.rows for source in found) for site, found in snapshot.sources.items()}
        return _train_and_export(config, prepared, folder, workdir, counts, on_disk, clock, watch)


def prepare_training(
    config: Config, root: Path, snapshot: Snapshot, readings: Readings, watch: Watch
) -> Prepared:
    """The data set of a snapshot below `root` with the runs behind it; sites that take no part are named.

    Raises:
      NothingToDo: no site can train.
      ConfigError: none of the wanted sensors exists, or step and gap contradict.
    """
    with watch.step("building the data set"):
        prepared = prepare(root, snapshot, readings)
        for site in prepared.dataset.shards:
            prepared.runs(site)
    if not prepared.dataset.shards:
        raise NothingToDo(none_can_train(config, prepared.skipped))
    for line in together((site, f"takes no part: {why}") for site, why in prepared.skipped.items()):
        watch.say(line)
    return prepared


def none_can_train(config: Config, reasons: Mapping[str, str]) -> str:
    """What to say when every site was left out; `reasons` by site."""
    until = config.dataset.train_until
    when = "" if until is None else f" on readings before {until.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    return f"no site can train{when}: {'; '.join(together(reasons))}"


def _train_and_export(
    config: Config,
    prepared: Prepared,
    folder: Path,
    workdir: Path,
    counts: Mapping[str, IngestionCounts],
    on_disk: Mapping[str, int],
    clock: _Clock,
    watch: Watch,
) -> RunSummary:
    dataset = prepared.dataset
    rows = prepared.training_rows()
    learned = learn(config, dataset, rows, modes_of(config), workdir=workdir, watch=watch)
    clock.lap("train")
    with watch.step("evaluating") as step:
        # Without labels the other ways of training have nothing to be compared by; `report --labels` judges them all.
        chosen = {FEDERATED: learned.scorers[FEDERATED]}
        unseen = held_out(prepared, config.model.steps, or_validation=True)
        evaluation = judge(chosen, unseen, dataset.step_ns / 1e9, config.scoring.hold_off, step)
    evaluation = looked_around(config, prepared, learned, evaluation, watch)
    assert learned.detector is not None
    sensors = together(sensor_notes(learned.detector, unseen))
    evaluation = replace(evaluation, notes=(*evaluation.notes, *sensors))
    clock.lap("evaluate")
    with watch.step("exporting"):
        model = export_detector(
            learned.detector,
            detector_root(config),
            max_gap_ns=dataset.max_gap_ns,
            hold_ns=dataset.hold_ns,
        )
    clock.lap("export")
    summary = summarise(
        folder,
        config,
        prepared,
        learned,
        evaluation,
        started=clock.started_utc,
        finished=_utc(),
        seconds=clock.seconds(),
        command=" ".join(["fedplant", *sys.argv[1:]]),
        version=int(model.name),
        model_path=str(model),
        ingestion=counts,
        on_disk=on_disk,
    )
    write_run(folder, config, prepared, learned, evaluation, summary)
    gone = drop_old_work(config.project.data_dir, config.project.keep_work)
    if gone:
        watch.say(f"removed {len(gone)} data sets and checkpoints of older runs (project.keep_work)")
    return summary


def _intact(summary: RunSummary) -> bool:
    return summary.model_path is not None and Path(summary.model_path).is_dir()


def _why_nothing(counts: Mapping[str, IngestionCounts], sent: Sequence[str]) -> str:
    """What to say when no window is on disk; `sent` names the sites whose topics have ever held a message.

    What an earlier run or `fedplant ingest` read is in no count of this one, but for readings of open windows, which every run reads again.
    """
    waiting = sum(count.left_open for count in counts.values())
    if waiting:
        dead = sum(count.dead_lettered for count in counts.values())
        beside = f"; {dead:,} messages were dead-lettered" if dead else ""
        return (
            f"no window is closed yet: {waiting:,} readings wait in open ones (ingestion.window){beside}; "
            "later readings close them: wait for these, then run again"
        )
    if sent:
        return (
            f"no window holds a reading: what {listed(sent, most=3)} sent was dead-lettered, or is gone from its topic; look into its dead-letter topic "
            "and at what `fedplant inspect TOPIC` says of it, then run again"
        )
    return "no site has sent anything yet: start the plants' gateways (or `fedplant replay`), then run again"


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
