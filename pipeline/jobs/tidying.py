"""What a job that is repeated for years leaves on the disk: results stay, the working files of older runs go."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

from pipeline.artefacts import ArtefactError, RunSummary, read_summary


def drop_old_work(data_dir: Path, keep: int) -> list[Path]:
    """Remove data sets and checkpoints that none of the `keep` newest finished runs used; gives the folders removed.

    Windows, run folders and detectors stay, so an older run can be read, served and, with the same settings, made again. Files of a
    run that has not finished stay while they are younger than the oldest run kept; nothing is removed before `keep` runs finished.
    """
    runs = _finished(data_dir / "runs")
    if len(runs) < keep:
        return []
    newest = runs[:keep]
    used = {data_dir / "training" / summary.run_id for _, summary in newest}
    used |= {data_dir / "datasets" / (summary.snapshot or "") for _, summary in newest}
    oldest = newest[-1][0].timestamp()
    removed = []
    for folder in sorted([*(data_dir / "datasets").glob("*"), *(data_dir / "training").glob("*")]):
        if folder in used or not folder.is_dir() or folder.stat().st_mtime >= oldest:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder)
    return removed


def _finished(runs: Path) -> list[tuple[datetime, RunSummary]]:
    """Finished runs with their end, newest first; a damaged run is passed over."""
    found = []
    for folder in runs.glob("*"):
        try:
            summary = read_summary(folder)
            if summary is not None and summary.finished is not None:
                ended = datetime.fromisoformat(summary.finished.replace("Z", "+00:00"))
                found.append((ended, summary))
        except (ArtefactError, ValueError):
            continue
    return sorted(found, key=lambda run: run[0], reverse=True)
