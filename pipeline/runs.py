"""Where things lie in the data folder, and which run is the newest."""

from __future__ import annotations

from pathlib import Path

from pipeline.artefacts import read_summary
from pipeline.config.schema import Config


def detector_root(config: Config) -> Path:
    """The folder of the detector's versions."""
    return config.project.data_dir / "detectors" / config.project.name


def run_folder(config: Config, run_id: str) -> Path:
    """The folder of one run."""
    return config.project.data_dir / "runs" / run_id


def newest_run(config: Config) -> str | None:
    """The run that finished last, or None."""
    finished = []
    for folder in (config.project.data_dir / "runs").glob("*"):
        summary = read_summary(folder)
        if summary is not None and summary.finished is not None:
            finished.append((summary.finished, folder.name))
    return max(finished)[1] if finished else None
