"""What a training tells of itself before there is a label: what to expect of alarms, and which of its stretches stand out."""

from __future__ import annotations

from dataclasses import replace

from pipeline.artefacts import Evaluation
from pipeline.config import Config
from pipeline.datasets.prepared import Prepared
from pipeline.evaluation.expectation import expect
from pipeline.evaluation.lookedat import parted
from pipeline.evaluation.standing_out import candidates
from pipeline.jobs.settings import looked_at
from pipeline.learning.learned import Learned
from pipeline.watch import Watch


def looked_around(
    config: Config, prepared: Prepared, learned: Learned, evaluation: Evaluation, watch: Watch
) -> Evaluation:
    """The evaluation with both, as it was where no federated detector was asked for."""
    if learned.detector is None:
        return evaluation
    with watch.step("looking ahead") as step:
        expected = expect(config, prepared, learned, step)
    with watch.step("looking back") as step:
        named, before = parted(candidates(prepared, learned.detector, step), looked_at(config))
    return replace(evaluation, expected=expected, candidates=named, looked_at_before=before)
