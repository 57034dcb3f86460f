"""Learning curves of the ways of training that trained a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artefacts import Curve, RoundRecord

if TYPE_CHECKING:
    from pipeline.federation.settings import TrainingResult


def curve_of(result: TrainingResult) -> Curve:
    """Of one training."""
    rounds = tuple(RoundRecord(r.round, r.loss, r.validation, r.seconds, dict(r.sites)) for r in result.curve)
    privacy = None if result.privacy is None else asdict(result.privacy)
    return Curve(rounds, result.best_round, result.stopped, privacy, dict(result.excluded))


def mean_curve(results: Sequence[TrainingResult]) -> Curve:
    """Of several, each of one site by itself: round by round the mean over those that got that far."""
    curves, rounds = [curve_of(result) for result in results], []
    for number in range(max(len(curve.rounds) for curve in curves)):
        at = [curve.rounds[number] for curve in curves if number < len(curve.rounds)]
        sites = {site: value for record in at for site, value in record.sites.items()}
        rounds.append(
            RoundRecord(
                number + 1,
                _mean([record.loss for record in at]),
                _mean([record.validation for record in at]),
                sum(record.seconds for record in at),
                sites,
            )
        )
    return Curve(tuple(rounds), None, "each site stops by itself")


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None
