"""From one source's residuals in training to what each sensor says at each step: the numpy twin of what `models.stream` does with live ones.

By what the machine is doing, beside a baseline that follows slow changes, in units of a usual residual and of a gain that follows slow growth, weighted by sensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.averages import average
from models.judges import Judge
from models.known import known_mean, known_size, known_tail
from models.options import DetectorOptions
from models.regimes import REGIMES, usual_in, usual_in_others
from models.slow_changes import MUTED, growth, wander
from models.sources.base import Source
from models.sources.folds import fold_rows, segments
from models.stream import BASELINE_SHARE, CLIPPED_AT, LARGEST_GAIN
from models.switching import damping, restlessness
from models.tables import SourceCalibration

_LEAST_TAIL = 0.5
_LEAST_USUAL = 1e-4
_NORMAL_TAIL = 2.576
"""The 99 % quantile of the magnitude of a standard normal variable."""
_WANDERS = 0.4
_FEW_TRUSTED = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """What is known of a site's training steps, whatever source judges them.

    `filled` float32[N_i, F], the runs with what the others tell of missing readings; `rate` of the gain's average, and its `redescent`; which cells are `known`, bool[N, F]; how much each sensor `wanders`, float64[F]; where the machine switches by how much other sensors
    `moved`, float64[N, F]; the steps' membership of each `regime`, float64[N, REGIMES], None where all are judged as one; `switching`, whether the machine switches.
    """

    filled: Sequence[NDArray[np.float32]]
    rate: float
    redescent: float
    known: NDArray[np.bool_]
    wanders: Array
    moved: Array | None
    regime: Array | None
    switching: bool


class Judged(NamedTuple):
    """One source's arrays, its energy float64[N, F], weighted by sensor, and that of blocks whose scale is not known either, float64[N, F]."""

    calibration: SourceCalibration
    energy: Array
    strange: Array


class _Residuals(NamedTuple):
    """Residuals float64[N, F] in the training's own scale, and with each block in that of the others."""

    own: Array
    strange: Array

    def in_units(self, off: Array | float, size: Array | float) -> _Residuals:
        """Each less what is usually off, in units of a size."""
        return _Residuals((self.own - off) / size, (self.strange - off) / size)


def calibrate_source(
    judge: Judge, runs: Sequence[NDArray[np.float32]], context: int, steps: Steps, options: DetectorOptions
) -> Judged:
    """Calibrate one source on scaled runs float32[N_i, F], of which the first `context` steps of each are not judged."""
    source, rate, known = judge.source, steps.rate, steps.known
    said = _residuals(judge, runs, context, steps)
    said, regime_shift, regime_size = _by_regime(said, steps, source)
    said, restless = _where_others_move(said, steps, source)
    limit = CLIPPED_AT * np.maximum(known_size(said.own), source.floor)
    clipped = np.clip(said.own, -limit, limit)
    centre = known_mean(clipped)
    baseline = _followed(np.where(known, clipped, centre), min(rate / BASELINE_SHARE, 1.0), centre)
    if rate > 0:
        said = said.in_units(baseline.before, 1.0)
    residual = said.own
    spread = np.maximum(known_size(residual), source.floor)
    tail = np.maximum(known_tail(np.abs(residual) / spread), _LEAST_TAIL)
    if judge.heavy_tails:
        spread = spread * np.maximum(tail / _NORMAL_TAIL, 1.0)
        tail = np.minimum(tail, _NORMAL_TAIL)
    size, most = np.abs(residual) / spread, CLIPPED_AT * tail
    usual = np.maximum(known_mean(np.minimum(size, most)), _LEAST_USUAL)
    held = growth(size, most, usual, steps.redescent)
    level = _followed(np.where(known, held, usual), rate, usual)
    gain = np.clip(level.before / usual, 1.0, LARGEST_GAIN)
    weight = _sensor_weights(judge, residual, steps, options)
    present = np.maximum((known * weight).sum(axis=1, keepdims=True), 1e-6)

    def weighed(energy: Array) -> Array:
        return np.asarray(np.where(known, energy, 0.0) * weight / present)

    found = SourceCalibration(
        spread=spread,
        tail=tail,
        usual=usual,
        limit=limit,
        centre=centre,
        last_baseline=baseline.last,
        last_level=level.last,
        sensor_weight=weight,
        restless=restless,
        regime_shift=regime_shift,
        regime_size=regime_size,
    )
    if source.excursion:
        energy = weighed(np.log1p(np.maximum(beyond(residual / spread) / gain - 1.0, 0.0)))
        return Judged(found, energy, energy)
    return Judged(found, *(weighed(np.minimum((each / spread / gain) ** 2, options.cap)) for each in said))


def _residuals(judge: Judge, runs: Sequence[NDArray[np.float32]], context: int, steps: Steps) -> _Residuals:
    """Later rows lie further out than those that made the scale. Where slow changes are followed, baseline and gain make up for it; in a machine
    that knows only itself, that blocks are predicted from fewer rows than later ones will be."""
    own = np.where(steps.known, judge.residuals(steps.filled, context), np.nan)
    if not judge.taught or steps.rate > 0:
        return _Residuals(own, own)
    in_others = judge.residuals(steps.filled, context, judge.others_scales(runs))
    return _Residuals(own, np.where(steps.known, in_others, np.nan))


def _by_regime(said: _Residuals, steps: Steps, source: Source) -> tuple[_Residuals, Array, Array]:
    """Residuals by what is usual in the regimes of blocks that do not tell it, and what is usual in those of all."""
    if steps.regime is None or source.excursion:
        nowhere = np.zeros((REGIMES, said.own.shape[1]))
        return said, nowhere, nowhere + 1.0
    known_of = steps.regime, source.floor, steps.switching
    return said.in_units(*usual_in_others(said.own, *known_of)), *usual_in(said.own, *known_of)


def _where_others_move(said: _Residuals, steps: Steps, source: Source) -> tuple[_Residuals, Array]:
    """Residuals in units of what they are when the other sensors move so much, and each sensor's restlessness float64[F]."""
    if steps.moved is None or source.excursion:
        return said, np.zeros(said.own.shape[1])
    restless = restlessness(said.own, steps.moved, source.floor)
    return said.in_units(0.0, damping(restless, steps.moved)), restless


class _Followed(NamedTuple):
    """An average before each step, float64[N, F], and after the last, float64[F]."""

    before: Array
    last: Array


def _followed(values: Array, rate: float, first: Array) -> _Followed:
    """`first` all the time where nothing is followed."""
    if rate <= 0:
        return _Followed(np.broadcast_to(first, values.shape), first)
    found = average(values, rate, first)
    return _Followed(np.concatenate([first[None], found[:-1]]), found[-1])


def _sensor_weights(judge: Judge, residual: Array, steps: Steps, options: DetectorOptions) -> Array:
    """How much each sensor counts, float64[F], 1 in all: alike where slow changes are followed, else less the more it wanders."""
    trust = np.ones(len(steps.wanders))
    if steps.rate <= 0 and options.weigh_sensors:
        most = np.maximum(steps.wanders, wander(residual)) if judge.own_wander else steps.wanders
        trust = 1.0 / (1.0 + (most / _WANDERS) ** 6)
        if not judge.own_wander and not judge.source.excursion:
            trust = np.where(steps.wanders < MUTED, trust, 0.0)
    # With every sensor wandering, wandering is what this machine does.
    ever = steps.known.any(axis=0)
    enough = (trust * ever).sum() > _FEW_TRUSTED * ever.sum()
    trust = np.where(ever, trust if enough else 1.0, 0.0)
    return np.asarray(trust / max(float(trust.sum()), 1e-9))


def beyond(normalised: Array) -> Array:
    """Magnitudes [N, F] in units of the 99 % quantile, each of five contiguous blocks by mean and quantile of the four others.

    By its own a block that goes where no other was would forgive itself. A sensor that only one block knows is judged by that.
    """
    centre, size = known_mean(normalised), np.abs(normalised)
    found = np.empty_like(normalised)
    (blocks,) = fold_rows([len(normalised)])
    for start, stop, _ in segments(blocks):
        # A single row has no others.
        others = np.delete(normalised, np.s_[start:stop], axis=0) if stop - start < len(size) else normalised
        told = np.isfinite(others).any(axis=0)
        shift = np.where(told, known_mean(others) - centre, 0.0)
        tail = np.where(told, known_tail(np.abs(others - shift)), known_tail(size))
        found[start:stop] = np.abs(normalised[start:stop] - shift) / np.maximum(tail, _LEAST_TAIL)
    return found
