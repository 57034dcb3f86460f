"""Scores of a whole judged stretch as the report reads them, written by the same class as the live scorer's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.detector import Detector
from pipeline.evaluation.judging import Judged
from pipeline.scoring.writer import ScoreWriter


def write_scores(folder: Path, detector: Detector, site: str, judged: Sequence[Judged], top: int) -> None:
    """Write `scores/<site>.parquet` (and the signals around alerts) of a run folder.

    Raises:
      ArtefactError: the folder cannot be written.
    """
    with ScoreWriter(folder, site, detector.sensors, top=top) as writer:
        for part in judged:
            found = detector.score(site, part.run.values)
            rows = slice(part.lead, None)
            writer.write(
                part.run.asset,
                part.run.times_ns[rows],
                found.score[rows],
                found.threshold[rows],
                found.contribution[rows],
                part.run.values[rows],
                label=part.label[rows],
            )
