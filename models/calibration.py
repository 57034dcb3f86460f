"""From residuals to a score on one scale and a threshold, per site, on residuals nobody was fitted on where that is possible.

The numpy twin of `models.stream`: it walks through the training's residuals as the detector will walk through live ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from models.known import known_mean
from models.options import DetectorOptions
from models.ordinary import discounted, ordinary
from models.regimes import REGIMES, centres_of, membership, usual_in, usual_in_others
from models.scaling import CLIP
from models.sources.base import Source, Traits
from models.sources.folds import FOLDS, fold_rows, segments
from models.stream import BASELINE_SHARE, CLIPPED_AT, LARGEST_GAIN, LARGEST_MARGIN, LOUDEST, RECOVERED
from models.switching import STEPS, damping, movement, restlessness, switches
from models.tables import Calibration, SourceCalibration, stack
from models.threshold import INDEPENDENT, predictive_quantile, threshold

_CHUNK = 4096
_LEAST_TAIL = 0.5
_LEAST_USUAL = 1e-4
_LEAST_SCORE = 1e-4
_TYPICAL_ENERGY = 1.0
"""Energy of a typical residual. A source whose smoothed energy stays below it in training has residuals under its floor and nothing
to say; dividing by less would raise them over the floor again."""
_NORMAL_TAIL = 2.576
"""The 99 % quantile of the magnitude of a standard normal variable."""
_WANDERS = 0.4
_MUTED = 0.5
_MOST_RESCALED = 2.0
"""Most that a block is rescaled by: a sensor that moves in one block alone would be a hundred times its size in the others' scale."""
_Rescaling = dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""By block a factor and a shift, [F] each."""


@dataclass(frozen=True)
class Judge:
    """A source as it is calibrated on: `rows[i]` says, for each of a run's steps, which row of the source was not fitted on it.

    `weight` is the source's in the score. `taught`: it is fitted beside what rows of other sites are like. `heavy_tails`: a sensor whose residuals have heavier tails than normal ones is
    measured by its 99 % quantile. `own_wander`: sensors whose residual wanders weigh less, and not only those whose value does.
    """

    source: Source
    rows: tuple[NDArray[np.int32], ...]
    weight: float
    taught: bool = False
    heavy_tails: bool = False
    own_wander: bool = False


@dataclass(frozen=True)
class _Steps:
    """What is known of a site's training steps, whatever source judges them.

    `rate` of the gain's average; by sensor how much it `wanders`, float64[F], and whether it is `ever` known, bool[F]; where the machine switches by how much other sensors
    `moved`, float64[N, F]; the steps' membership of each `regime`, float64[N, REGIMES], None where all are judged as one; `switching`, whether the machine switches.
    """

    rate: float
    wanders: NDArray[np.float64]
    ever: NDArray[np.bool_]
    moved: NDArray[np.float64] | None
    regime: NDArray[np.float64] | None
    switching: bool


def follow_rate(rows: int, options: DetectorOptions) -> float:
    """Rate of the gain's average for a training of `rows` steps, 0 if it is too short to tell slow changes from faults."""
    return 2.0 / (max(options.follow * rows, options.least_memory) + 1.0) if options.follows(rows) else 0.0


def margin_rate(rows: int, options: DetectorOptions) -> float:
    """Rate at which the threshold follows the usual score: a memory of the training, and never less than `least_memory` steps.

    0 if it shall stay where the training put it.
    """
    return 2.0 / (max(rows, options.least_memory) + 1.0) if options.threshold_follows else 0.0


def wander(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each sensor's variance that lies between five contiguous blocks of float[N, F]: near 1 for a random walk."""
    means = np.stack([_mean(block) for block in np.array_split(values, FOLDS)])
    total = np.nanvar(np.where(np.isfinite(values).any(axis=0), values, 0.0), axis=0)
    return np.asarray(np.clip(means.var(axis=0) / (total + 1e-9), 0.0, 1.0))


def steady_sensors(scaled: Sequence[NDArray[np.float32]], options: DetectorOptions) -> NDArray[np.bool_]:
    """Sensors bool[F] that do not wander, where training is too short to follow those that do; else all."""
    values = np.concatenate(scaled).astype(np.float64)
    if not options.weigh_sensors or follow_rate(len(values), options) > 0:
        return np.ones(values.shape[1], np.bool_)
    return np.asarray(wander(values) < _MUTED)


def traits_of(scaled: Sequence[NDArray[np.float32]], options: DetectorOptions) -> Traits:
    """What scaled runs float32[N_i, F] say of their machine."""
    return Traits(steady_sensors(scaled, options), switches(scaled))


def calibrate(
    judges: Sequence[Judge],
    runs: Sequence[NDArray[np.float32]],
    context: int,
    step_seconds: float,
    options: DetectorOptions,
    switching: bool = False,
    regimes: bool = False,
    discounts: bool = False,
) -> Calibration:
    """Everything that makes a score of residuals, from scaled runs float32[N, F], each longer than `context`.

    `switching`: of a machine that switches; `regimes`: residuals are judged by what the machine is doing; `discounts`: what is ordinary for a sensor counts less.
    """
    moved = None
    if switching and context >= STEPS:
        moved = np.concatenate([movement(run[context - STEPS :]) for run in runs])
    values = np.concatenate([run[context:] for run in runs]).astype(np.float64)
    centres = centres_of(values) if regimes else np.zeros((REGIMES, values.shape[1]))
    steps = _Steps(
        follow_rate(len(values), options),
        wander(values),
        np.isfinite(values).any(axis=0),
        moved,
        membership(values, centres) if regimes else None,
        switching,
    )
    parts, energies, unknown = zip(
        *(_one_source(judge, runs, context, steps, options) for judge in judges), strict=True
    )
    scale = sum(judge.weight for judge in judges)
    combined, strange = np.zeros_like(values), np.zeros_like(values)
    source_weight = np.zeros(len(judges))
    for i, (judge, energy, unscaled) in enumerate(zip(judges, energies, unknown, strict=True)):
        total = energy.sum(axis=1)
        smooth = np.mean(_averages(total, float(total.mean()), options), axis=0)
        least = _LEAST_SCORE if judge.source.excursion else _TYPICAL_ENERGY
        rare = predictive_quantile(smooth, 0.01, INDEPENDENT * max(options.spans))
        source_weight[i] = judge.weight / scale / max(rare, least)
        combined += source_weight[i] * energy
        strange += source_weight[i] * unscaled
    rest = combined.mean(axis=0)
    by_sensor = discounts or len(rest) > LOUDEST
    smoothed = (
        _smoothed(strange, rest, options) if by_sensor else _smoothed(*_together(strange, rest), options)
    )
    score = _score(*smoothed)
    usual = ordinary(smoothed[0], score) if discounts else np.zeros_like(rest)
    if usual.any():
        score = _score(*(discounted(each, usual) for each in smoothed))
    if len(rest) > LOUDEST or usual.any():
        # Of many sensors the loudest are loud, and what is discounted is less: the score's unit is again what is rare.
        unit = max(predictive_quantile(score, 0.01, INDEPENDENT * max(options.spans)), _LEAST_SCORE)
        score, rest, usual, source_weight = (each / unit for each in (score, rest, usual, source_weight))
    limit = max(threshold(score, options, step_seconds), _LEAST_SCORE)
    return Calibration(
        **stack(parts),
        source_weight=source_weight,
        rest=rest,
        follow_rate=np.asarray(steps.rate),
        threshold=np.asarray(limit),
        margin=np.mean(np.log(limit / np.clip(score, limit / LARGEST_MARGIN, limit))),
        margin_rate=np.asarray(margin_rate(len(values), options)),
        regime_centre=centres,
        ordinary=usual,
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
        "threshold": every["threshold"].max(axis=0),
        "margin_rate": np.asarray(margin_rate(0, options)),
    }
    return Calibration(**{**usual, **changed}).without_regimes()


def _one_source(
    judge: Judge,
    runs: Sequence[NDArray[np.float32]],
    context: int,
    steps: _Steps,
    options: DetectorOptions,
) -> tuple[SourceCalibration, NDArray[np.float64], NDArray[np.float64]]:
    """One source's arrays [F], its energy [N, F], weighted by sensor, and that of blocks whose scale is not known either."""
    source, rate, wanders, ever = judge.source, steps.rate, steps.wanders, steps.ever
    residual = _residuals(judge, runs, context)
    # Later rows lie further out than those that made the scale. Where slow changes are followed, baseline and gain make up for it; in a machine
    # that knows only itself, that blocks are predicted from fewer rows than later ones will be.
    in_own_scale = not judge.taught or rate > 0
    strange = residual if in_own_scale else _residuals(judge, runs, context, _others_scales(runs, judge.rows))
    restless = np.zeros(residual.shape[1])
    regime_shift, regime_size = (np.full((REGIMES, residual.shape[1]), each) for each in (0.0, 1.0))
    if steps.regime is not None and not source.excursion:
        known_of = steps.regime, source.floor, steps.switching
        regime_shift, regime_size = usual_in(residual, *known_of)
        off, size = usual_in_others(residual, *known_of)
        residual, strange = (residual - off) / size, (strange - off) / size
    if steps.moved is not None and not source.excursion:
        restless = restlessness(residual, steps.moved, source.floor)
        damped = damping(restless, steps.moved)
        residual, strange = residual / damped, strange / damped
    known = np.isfinite(residual)
    limit = CLIPPED_AT * np.maximum(_typical(residual), source.floor)
    clipped = np.clip(residual, -limit, limit)
    centre = _mean(clipped)
    last_baseline = centre
    if rate > 0:
        baseline = _average(np.where(known, clipped, centre), min(rate / BASELINE_SHARE, 1.0), centre)
        followed = np.concatenate([centre[None], baseline[:-1]])
        residual, strange = residual - followed, strange - followed
        last_baseline = baseline[-1]
    spread = np.maximum(_typical(residual), source.floor)
    tail = np.maximum(_quantile(np.abs(residual) / spread), _LEAST_TAIL)
    if judge.heavy_tails:
        spread = spread * np.maximum(tail / _NORMAL_TAIL, 1.0)
        tail = np.minimum(tail, _NORMAL_TAIL)
    size = np.abs(residual) / spread
    held = np.minimum(size, CLIPPED_AT * tail)
    usual = np.maximum(_mean(held), _LEAST_USUAL)
    last_level = usual
    gain = np.ones_like(usual)
    if rate > 0:
        level = _average(np.where(known, held, usual), rate, usual)
        gain = np.clip(np.concatenate([usual[None], level[:-1]]) / usual, 1.0, LARGEST_GAIN)
        last_level = level[-1]
    trust = np.ones(len(wanders))
    if rate <= 0 and options.weigh_sensors:
        most = np.maximum(wanders, wander(residual)) if judge.own_wander else wanders
        trust = 1.0 / (1.0 + (most / _WANDERS) ** 6)
        if not judge.own_wander and not source.excursion:
            trust = np.where(wanders < _MUTED, trust, 0.0)
    # With every sensor wandering, wandering is what this machine does.
    trust = np.where(ever, trust if (trust * ever).sum() > 0.05 * ever.sum() else 1.0, 0.0)
    weight = trust / max(float(trust.sum()), 1e-9)
    present = np.maximum((known * weight).sum(axis=1, keepdims=True), 1e-6)

    def weighed(energy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.where(known, energy, 0.0) * weight / present)

    found = SourceCalibration(
        spread,
        tail,
        usual,
        limit,
        centre,
        last_baseline,
        last_level,
        weight,
        restless,
        regime_shift,
        regime_size,
    )
    if source.excursion:
        energy = weighed(np.log1p(np.maximum(beyond(residual / spread) / gain - 1.0, 0.0)))
        return found, energy, energy
    energy, unknown = (
        weighed(np.minimum((each / spread / gain) ** 2, options.cap)) for each in (residual, strange)
    )
    return found, energy, unknown


def beyond(normalised: NDArray[np.float64]) -> NDArray[np.float64]:
    """Magnitudes [N, F] in units of the 99 % quantile, each of five contiguous blocks by mean and quantile of the four others.

    By its own a block that goes where no other was would forgive itself. A sensor that only one block knows is judged by that.
    """
    centre, size = _mean(normalised), np.abs(normalised)
    found = np.empty_like(normalised)
    (blocks,) = fold_rows([len(normalised)])
    for start, stop, _ in segments(blocks):
        # A single row has no others.
        others = np.delete(normalised, np.s_[start:stop], axis=0) if stop - start < len(size) else normalised
        told = np.isfinite(others).any(axis=0)
        shift = np.where(told, _mean(others) - centre, 0.0)
        tail = np.where(told, _quantile(np.abs(others - shift)), _quantile(size))
        found[start:stop] = np.abs(normalised[start:stop] - shift) / np.maximum(tail, _LEAST_TAIL)
    return found


def _others_scales(runs: Sequence[NDArray[np.float32]], rows: Sequence[NDArray[np.int32]]) -> _Rescaling:
    """What brings scaled values of each block into the scale of the other blocks, which is what new rows will be in.

    The mean and deviation of a short training are those of its own rows: by them later rows lie further out.
    """
    values, of = np.concatenate(runs).astype(np.float64), np.concatenate(rows)
    centre, deviation = _mean(values), _deviation(values)
    found = {}
    for block in np.unique(of):
        others = values[of != block]
        told = np.isfinite(others).any(axis=0) & (deviation > _LEAST_USUAL)
        change = np.where(told, deviation / np.maximum(_deviation(others), _LEAST_USUAL), 1.0)
        factor = np.clip(change, 1.0 / _MOST_RESCALED, _MOST_RESCALED)
        shift = centre - factor * np.where(told, _mean(others), centre)
        found[int(block)] = (factor.astype(np.float32), shift.astype(np.float32))
    return found


def _residuals(
    judge: Judge, runs: Sequence[NDArray[np.float32]], context: int, rescaling: _Rescaling | None = None
) -> NDArray[np.float64]:
    """Residuals [N, F] of all runs from step `context` of each on, NaN where the value is."""
    import tensorflow as tf

    source = judge.source
    arrays = {name: tf.constant(value) for name, value in source.arrays().items()}
    found = []
    for run, rows in zip(runs, judge.rows, strict=True):
        for start, stop, row in segments(rows):
            factor, shift = (np.float32(1), np.float32(0)) if rescaling is None else rescaling[row]
            for first in range(max(start, context), stop, _CHUNK):
                part = run[first - source.context : min(stop, first + _CHUNK)]
                frames = np.nan_to_num(np.clip(part * factor + shift, -CLIP, CLIP), nan=0.0)
                residual = source.residuals(arrays, tf.constant(frames[None]), tf.constant([row])).numpy()[0]
                found.append(np.where(np.isnan(part[source.context :]), np.nan, residual))
    return np.concatenate(found).astype(np.float64)


def _deviation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each sensor's known cells, 0 without any."""
    return np.asarray(np.sqrt(_mean((values - _mean(values)) ** 2)))


def _typical(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square of each sensor, [F], with squares limited to 25 times their mean; NaN cells do not count."""
    square = residual**2
    return np.asarray(np.sqrt(_mean(np.minimum(square, 25.0 * _mean(square)))))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the known cells of each sensor, 0 without any."""
    return known_mean(values, np.isfinite(values))


def _quantile(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """99 % quantile of each sensor's known cells, 0 without any."""
    known = np.isfinite(values)
    if known.all():
        return np.asarray(np.quantile(values, 0.99, axis=0))
    return np.array(
        [
            np.quantile(column[of], 0.99) if of.any() else 0.0
            for column, of in zip(values.T, known.T, strict=True)
        ]
    )


def _average(
    values: NDArray[np.float64], rate: float, first: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Exponential average along the first axis, starting from `first`."""
    before = (1.0 - rate) * np.broadcast_to(np.asarray(first, np.float64), values.shape[1:])
    return np.asarray(lfilter([rate], [1.0, rate - 1.0], values, axis=0, zi=before[None])[0])


def _together(
    combined: NDArray[np.float64], rest: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All sensors as one: [N, 1] and [1]."""
    return combined.sum(axis=1, keepdims=True), rest.sum(keepdims=True)


def _smoothed(
    combined: NDArray[np.float64], rest: NDArray[np.float64], options: DetectorOptions
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of the averages of what each sensor says, [N, F], beginning at a usual step's, [F], and the shortest of them."""
    averages = _averages(combined, rest, options)
    return np.mean(averages, axis=0), averages[int(np.argmin(options.spans))]


def _score(mean: NDArray[np.float64], quickest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Score [N] of what counts of the averages' mean and of the shortest, [N, F] each."""
    return np.minimum(_loudest(mean), RECOVERED * _loudest(quickest))


def _loudest(said: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum [N] over the sensors of [N, F] that say most."""
    if said.shape[1] > LOUDEST:
        said = np.partition(said, -LOUDEST, axis=1)[:, -LOUDEST:]
    return np.asarray(said.sum(axis=1))


def _averages(
    energy: NDArray[np.float64], first: NDArray[np.float64] | float, options: DetectorOptions
) -> list[NDArray[np.float64]]:
    """Exponential averages of float[N, ...] over each of the spans, from `first` [...] on."""
    return [_average(energy, 2.0 / (span + 1.0), first) for span in options.spans]
