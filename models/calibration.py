"""From residuals to a score on one scale and a threshold, per site, on residuals nobody was fitted on where that is possible.

The numpy twin of `models.stream`: it walks through the training's residuals as the detector will walk through live ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.averages import averages
from models.filling import descent, fill
from models.judges import Judge
from models.options import DetectorOptions
from models.ordinary import calm, discounted, ordinary
from models.regimes import REGIMES, centres_of, membership
from models.sharpness import by_sharpness
from models.slow_changes import follow_rate, margin_rate, redescent, wander
from models.source_calibration import Judged, Steps, calibrate_source
from models.stream import LARGEST_MARGIN, LOUDEST, RECOVERED
from models.switching import STEPS, movement
from models.tables import Calibration, stack
from models.threshold import INDEPENDENT, predictive_quantile, threshold

_RARE = 0.01
"""Share of the training's steps that score above the unit of a score."""
_LEAST_SCORE = 1e-4
_TYPICAL_ENERGY = 1.0
"""Energy of a typical residual. A source whose smoothed energy stays below it in training has residuals under its floor and nothing
to say; dividing by less would raise them over the floor again."""

Array = NDArray[np.float64]


def calibrate(
    judges: Sequence[Judge],
    runs: Sequence[NDArray[np.float32]],
    context: int,
    step_seconds: float,
    options: DetectorOptions,
    *,
    switching: bool = False,
) -> Calibration:
    """Everything that makes a score of residuals, from scaled runs float32[N, F], each longer than `context`, of a machine that is `switching` or not."""
    values = np.concatenate([run[context:] for run in runs]).astype(np.float64)
    by = descent(runs) if options.fill else np.zeros((values.shape[1], values.shape[1]))
    filled = [fill(run, by) for run in runs]
    whole = np.concatenate([run[context:] for run in filled]).astype(np.float64)
    centres = centres_of(whole) if options.regimes else np.zeros((REGIMES, values.shape[1]))
    steps = Steps(
        filled=filled,
        rate=follow_rate(len(values), options),
        redescent=redescent(len(values), options),
        known=np.isfinite(values),
        wanders=wander(values),
        moved=_moved(runs, context) if switching and context >= STEPS else None,
        regime=membership(whole, centres) if options.regimes else None,
        switching=switching,
    )
    parts = [calibrate_source(judge, runs, context, steps, options) for judge in judges]
    combined = _combined(judges, parts, options)
    limit = max(threshold(combined.score, options, step_seconds), _LEAST_SCORE)
    return Calibration(
        **stack([part.calibration for part in parts]),
        source_weight=combined.source_weight,
        rest=combined.rest,
        follow_rate=np.asarray(steps.rate),
        redescent=np.asarray(steps.redescent),
        threshold=np.asarray(limit),
        margin=np.mean(np.log(limit / np.clip(combined.score, limit / LARGEST_MARGIN, limit))),
        margin_rate=np.asarray(margin_rate(len(values), options)),
        regime_centre=centres,
        ordinary=combined.ordinary,
        descent=by,
    )


def typical_calibration(found: Sequence[Calibration], options: DetectorOptions) -> Calibration:
    """What a site without enough data of its own is calibrated with, from at least one other site's calibration.

    Residual scales are the root mean square over sites, the threshold the largest, everything else the median: a linear source
    fitted on little data leaves larger residuals than those sites had. Nothing is followed, and nothing judged by regime.
    """

    every = stack(found)
    usual = {name: np.median(values, axis=0) for name, values in every.items()}
    changed = {
        "spread": np.sqrt(np.mean(every["spread"] ** 2, axis=0)),
        "centre": np.zeros_like(usual["centre"]),
        "last_baseline": np.zeros_like(usual["centre"]),
        "last_level": usual["usual"],
        "sensor_weight": every["sensor_weight"].mean(axis=0),
        "follow_rate": np.asarray(0.0),
        "redescent": np.asarray(0.0),
        "descent": np.zeros_like(usual["descent"]),
        "threshold": every["threshold"].max(axis=0),
        "margin_rate": np.asarray(margin_rate(0, options)),
    }
    return Calibration(**{**usual, **changed}).without_regimes()


def _moved(runs: Sequence[NDArray[np.float32]], context: int) -> Array:
    return np.concatenate([movement(run[context - STEPS :]) for run in runs])


def _source_unit(judge: Judge, energy: Array, options: DetectorOptions) -> float:
    """What a source's smoothed energy float64[N, F] is rarely above in training: in units of it all sources are on one scale."""
    total = energy.sum(axis=1)
    smooth = np.mean(averages(total, float(total.mean()), options.spans), axis=0)
    return max(_rare(smooth, options), _LEAST_SCORE if judge.source.excursion else _TYPICAL_ENERGY)


def _rare(score: Array, options: DetectorOptions) -> float:
    return predictive_quantile(score, _RARE, INDEPENDENT * max(options.spans))


class _Combined(NamedTuple):
    """Scores float64[N] of the training, and what makes them of what sources say: as in `Calibration`."""

    score: Array
    rest: Array
    ordinary: Array
    source_weight: Array


def _combined(judges: Sequence[Judge], parts: Sequence[Judged], options: DetectorOptions) -> _Combined:
    """One score of all sources, each in units of what it is rarely above."""
    unit = np.array(
        [_source_unit(judge, part.energy, options) for judge, part in zip(judges, parts, strict=True)]
    )
    weights = np.array([judge.weight for judge in judges])
    said = _Said.of(parts, weights / unit / weights.sum(), options)
    score = said.score()
    share = calm(score) if options.ordinary or options.sharpen else 0.0
    if options.sharpen and share > 0:
        spread = np.stack([part.calibration.spread for part in parts])
        sharp = by_sharpness(weights, [judge.source for judge in judges], spread, share)
        # Averages over the whole training are most of the work, and most machines keep their weights.
        if not np.array_equal(sharp, weights):
            said = _Said.of(parts, sharp / unit / sharp.sum(), options)
            score = said.score()
    usual = ordinary(said.mean, share) if options.ordinary else np.zeros_like(said.rest)
    if usual.any():
        score = said.beside(usual).score()
    rest, source_weight = said.rest, said.source_weight
    if len(rest) > LOUDEST or usual.any():
        # Of many sensors the loudest are loud, and what is discounted is less: the score's unit is again what is rare.
        rare = max(_rare(score, options), _LEAST_SCORE)
        score, rest, usual, source_weight = (each / rare for each in (score, rest, usual, source_weight))
    return _Combined(score, rest, usual, source_weight)


class _Said(NamedTuple):
    """What each sensor says by all sources, float64[N, F], the mean of its averages and the shortest of them; of a usual step, `rest` float64[F]; with the weights float64[S] of the
    sources. Where sensors need not be told apart they are one, their sum."""

    mean: Array
    quickest: Array
    rest: Array
    source_weight: Array

    @classmethod
    def of(cls, parts: Sequence[Judged], source_weight: Array, options: DetectorOptions) -> _Said:
        weighed = list(zip(source_weight, parts, strict=True))
        rest = np.asarray(sum(weight * part.energy for weight, part in weighed)).mean(axis=0)
        said, first = np.asarray(sum(weight * part.strange for weight, part in weighed)), rest
        if not options.ordinary and len(rest) <= LOUDEST:
            # A sum of averages is the average of the sums, which is less work.
            said, first = said.sum(axis=1, keepdims=True), rest.sum(keepdims=True)
        found = averages(said, first, options.spans)
        return cls(np.mean(found, axis=0), found[int(np.argmin(options.spans))], rest, source_weight)

    def beside(self, usual: Array) -> _Said:
        """What counts of it beside what is ordinary, float64[F]."""
        return self._replace(mean=discounted(self.mean, usual), quickest=discounted(self.quickest, usual))

    def score(self) -> Array:
        """Score float64[N], of the sensors that say most."""
        return np.minimum(_loudest(self.mean), RECOVERED * _loudest(self.quickest))


def _loudest(said: Array) -> Array:
    """Sum [N] over the sensors of [N, F] that say most."""
    if said.shape[1] > LOUDEST:
        said = np.partition(said, -LOUDEST, axis=1)[:, -LOUDEST:]
    return np.asarray(said.sum(axis=1))
