"""Where things lie in the data folder, and which run is the newest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.artefacts import ArtefactError, RunSummary, read_summary
from pipeline.config.schema import Config


def detector_root(config: Config) -> Path:
    """The folder of the detector's versions."""
    return config.project.data_dir / "detectors" / config.project.name


def run_folder(config: Config, run_id: str) -> Path:
    """The folder of one run."""
    return config.project.data_dir / "runs" / run_id


def finished_runs(data_dir: Path, *, skip_damaged: bool = False) -> Iterator[tuple[str, RunSummary]]:
    """Id and summary of every run that has finished, in no order. Raises ArtefactError for a damaged one unless those are skipped."""
    for folder in (data_dir / "runs").glob("*"):
        try:
            summary = read_summary(folder)
        except ArtefactError:
            if skip_damaged:
                continue
            raise
        if summary is not None and summary.finished is not None:
            yield folder.name, summary


def newest_run(config: Config) -> str | None:
    """The run that finished last, or None. Raises ArtefactError for a damaged one."""
    ended = [(summary.finished or "", run) for run, summary in finished_runs(config.project.data_dir)]
    return max(ended)[1] if ended else None
