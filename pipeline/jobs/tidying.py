"""What a job that is repeated for years leaves on the disk: results stay, the working files of older runs go."""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pipeline.artefacts import RunSummary
from pipeline.runs import finished_runs


def drop_old_work(data_dir: Path, keep: int) -> list[Path]:
    """Remove data sets and checkpoints that none of the `keep` newest finished runs used; gives the folders removed.

    Windows, run folders and detectors stay, so an older run can be read, served and, with the same settings, made again. Files of a
    run that has not finished stay while they are younger than the oldest run kept; nothing is removed before `keep` runs finished.
    """
    runs = _newest_first(data_dir)
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


def _newest_first(data_dir: Path) -> list[tuple[datetime, RunSummary]]:
    """Finished runs with their end; a damaged run is passed over."""
    found = []
    for _, summary in finished_runs(data_dir, skip_damaged=True):
        with suppress(ValueError):
            ended = datetime.fromisoformat((summary.finished or "").replace("Z", "+00:00"))
            found.append((ended, summary))
    return sorted(found, key=lambda run: run[0], reverse=True)
