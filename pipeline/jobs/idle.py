"""What `fedplant doctor` says of stretches of time in the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ingestion.errors import StorageError
from pipeline.artefacts import read_summary
from pipeline.config.schema import Config
from pipeline.datasets.leaveout import Period
from pipeline.datasets.shards import load_dataset
from pipeline.datasets.untouched import Ingested
from pipeline.doctor.machine import Finding
from pipeline.errors import PipelineError
from pipeline.jobs.leftout import touches_nothing
from pipeline.jobs.settings import dataset_settings, looked_at
from pipeline.runs import newest_run, run_folder

_PATIENCE = 3.0
"""Seconds of reading windows, for each table of stretches."""


def idle_stretches(config: Config) -> Iterator[Finding]:
    """Stretches of time in the configuration that touch nothing of what was ingested; nothing before anything was."""
    settings = dataset_settings(config)
    sites = [site.name for site in config.sites]
    data_dir, until = config.project.data_dir, settings.until_ns
    tables: Mapping[str, Sequence[Period]] = {
        "leave_out": settings.leave_out,
        "looked_at": looked_at(config),
    }
    for table, stretches in tables.items():
        # What was looked at is of steps, which stand for the readings before them for some gap.
        held = _gap_ns(config) if table == "looked_at" else 0
        ingested = Ingested(data_dir, sites, until, held, _PATIENCE)
        try:
            for each, _ in ingested.untouched(stretches):
                detail, _, advice = touches_nothing(each, table, until).partition(": ")
                yield Finding(f"dataset.{table}", "warn", detail, f"{advice[0].upper()}{advice[1:]}.")
        except StorageError as error:
            yield Finding("windows", "fail", str(error), "Ingest again, which rebuilds what is damaged.")
            return


def _gap_ns(config: Config) -> int:
    """The longest gap within a run of the newest training; 0 without any."""
    run = newest_run(config)
    try:
        summary = None if run is None else read_summary(run_folder(config, run))
        snapshot = None if summary is None else summary.snapshot
        dataset = load_dataset(config.project.data_dir / "datasets" / snapshot) if snapshot else None
    except PipelineError:
        return 0
    return 0 if dataset is None else dataset.max_gap_ns
