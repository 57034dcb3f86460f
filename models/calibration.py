"""From residuals to a score on one scale and a threshold, per site, on residuals nobody was fitted on where that is possible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidModel
from models.sources.base import Source

FOLDS = 5
_AVERAGES = (3, 10, 30)
_CHUNK = 4096
_FRAMES = 256
_LEAST_TAIL = 1e-3
_RESOLVED = 60
"""Steps above a quantile for it to be known: neighbouring scores share most of their 30-step average."""
COMPANIONS = ("ridge", "pca")


@dataclass(frozen=True)
class CalibrationOptions:
    """How residuals become a score; nothing here may be chosen with labels of the data it is judged on.

    `false_alarm_rate`: share of normal steps that may score above the threshold. `companion`: the linear source beside the
    network, `ridge`, `pca` or None. `pca`: variance explained by the principal components. `cap`: largest squared normalised
    residual of a sensor. `min_steps`: scored training steps a site needs for a calibration of its own. `prior_rows`: how many
    rows of an average site the companion is fitted with beside a site's own.
    """

    false_alarm_rate: float = 0.001
    companion: str | None = "ridge"
    pca: float = 0.5
    cap: float = 100.0
    min_steps: int = 100
    prior_rows: float = 2000.0

    def __post_init__(self) -> None:
        """Refuse what cannot be calibrated with.

        Raises:
          InvalidModel: an option is out of its range.
        """
        if self.companion is not None and self.companion not in COMPANIONS:
            raise InvalidModel(
                f"companion {self.companion!r} is unknown; choose one of {', '.join(COMPANIONS)}"
            )
        if not 0 < self.false_alarm_rate < 1:
            raise InvalidModel(
                f"false_alarm_rate is {self.false_alarm_rate}; expected a share between 0 and 1"
            )


@dataclass(frozen=True)
class Calibration:
    """One row: per source `spread` float32[F], smoothing `kernel` float32[L], oldest step first; and the `threshold`."""

    spreads: tuple[NDArray[np.float32], ...]
    kernels: tuple[NDArray[np.float32], ...]
    threshold: float


@dataclass(frozen=True)
class Judge:
    """A source as it is calibrated on: `rows[i]` says, for each of a run's steps, which row of the source was not fitted on it."""

    source: Source
    rows: tuple[NDArray[np.int32], ...]


def fold_rows(lengths: Sequence[int], first: int, folds: int) -> tuple[NDArray[np.int32], ...]:
    """Which of `folds` contiguous blocks each step of the runs lies in, counted from `first`: int32[N] a run."""
    total = sum(lengths)
    fold = first + np.arange(total) * folds // max(total, 1)
    return tuple(np.split(fold.astype(np.int32), np.cumsum(lengths)[:-1]))


def segments(rows: NDArray[np.int32]) -> Iterator[tuple[int, int, int]]:
    """Stretches `(start, stop, row)` of equal row."""
    edges = np.r_[0, np.flatnonzero(np.diff(rows)) + 1, len(rows)]
    for start, stop in pairwise(edges):
        if stop > start:
            yield int(start), int(stop), int(rows[start])


def calibrate(
    judges: Sequence[Judge],
    runs: Sequence[NDArray[np.float32]],
    steps: int,
    options: CalibrationOptions,
) -> Calibration:
    """Residual scales, kernels and threshold from scaled runs float32[N, F], each at least `steps` long."""
    spreads, kernels = [], []
    score = [np.zeros(len(run) - steps + 1) for run in runs]
    for judge in judges:
        basis = smoothing(steps - judge.source.context)
        spread, smooth = _one_source(judge, runs, steps, options.cap, basis)
        tail = np.maximum(np.quantile(np.concatenate(smooth), 0.99, axis=0), _LEAST_TAIL)
        weight = 1.0 / (tail * len(_AVERAGES) * len(judges))
        spreads.append(spread)
        kernels.append((basis @ weight).astype(np.float32))
        score = [total + part @ weight for total, part in zip(score, smooth, strict=True)]
    return Calibration(
        tuple(spreads), tuple(kernels), threshold(np.concatenate(score), options.false_alarm_rate)
    )


def typical_calibration(found: Sequence[Calibration]) -> Calibration:
    """What a site without enough data of its own is calibrated with, from at least one other site's calibration.

    Residual scales are the root mean square over sites, kernels the median, the threshold the largest: a companion fitted on
    little data leaves larger residuals than those sites had.
    """
    sources = range(len(found[0].spreads))
    return Calibration(
        tuple(np.sqrt(np.mean([each.spreads[i] ** 2 for each in found], axis=0)) for i in sources),
        tuple(np.median([each.kernels[i] for each in found], axis=0).astype(np.float32) for i in sources),
        max(each.threshold for each in found),
    )


def smoothing(length: int) -> NDArray[np.float64]:
    """Exponential averages over 3, 10, 30 steps, cut to `length` and normalised: [length, 3], the oldest step first."""
    ages = np.arange(length)[::-1, None]
    weights = (1.0 - 2.0 / (np.asarray(_AVERAGES) + 1.0)) ** ages
    return np.asarray(weights / weights.sum(axis=0))


def threshold(score: NDArray[np.float64], rate: float) -> float:
    """Threshold that about a share `rate` of future normal steps exceeds, from training scores float64[N] in time order.

    The quantile of all scores promises too much where the machine changes from week to week, that of the worst of five
    contiguous blocks too little; their geometric mean came closest to the promise (docs/concepts/detection.md). A rate
    that the data cannot resolve is extrapolated with an exponential tail.
    """
    share = min(0.2, max(rate, _RESOLVED / len(score)))
    base = float(np.quantile(score, 1.0 - share))
    excess = score[score > base]
    if rate < share and len(excess):
        base += float(excess.mean() - base) * float(np.log(share / rate))
    overall = max(base, float(np.quantile(score, 1.0 - rate)))
    blocks = [part for part in np.array_split(score, FOLDS) if len(part)]
    worst = max(float(np.quantile(part, 1.0 - rate)) for part in blocks)
    return float(np.sqrt(overall * max(overall, worst)))


def _residual(source: Source, frames: NDArray[np.float32], row: int) -> NDArray[np.float32]:
    """Residuals float32[B, T - context, F], NaN where the truth is."""
    import tensorflow as tf

    arrays = {name: tf.constant(value) for name, value in source.arrays().items()}
    known = tf.constant(np.nan_to_num(frames, nan=0.0))
    found = source.residuals(arrays, known, tf.fill([len(frames)], row)).numpy()
    return np.where(np.isnan(frames[:, source.context :]), np.float32(np.nan), found)


def _along(source: Source, run: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.float32]:
    """Residuals float32[N - context, F] of every step of a run, of a source for which frames do not matter."""
    parts = []
    for start, stop, row in segments(rows):
        for first in range(max(start, source.context), stop, _CHUNK):
            part = run[None, first - source.context : min(stop, first + _CHUNK)]
            parts.append(_residual(source, part, row)[0])
    return np.concatenate(parts)


def _frames(run: NDArray[np.float32], steps: int, stride: int) -> Iterator[NDArray[np.float32]]:
    every = np.lib.stride_tricks.sliding_window_view(run, steps, axis=0).transpose(0, 2, 1)[::stride]
    for first in range(0, len(every), _FRAMES):
        yield every[first : first + _FRAMES]


def _spread(residuals: Iterable[NDArray[np.float32]], floor: float) -> NDArray[np.float32]:
    """Root mean square residual of each sensor, float32[F], with squares limited to 25 times their mean."""
    residual = np.concatenate([part.reshape(-1, part.shape[-1]) for part in residuals]).astype(np.float64)
    count = np.maximum(np.isfinite(residual).sum(axis=0), 1)
    square = np.nan_to_num(residual, nan=0.0) ** 2
    limit = 25.0 * square.sum(axis=0) / count
    spread = np.sqrt(np.minimum(square, limit).sum(axis=0) / count)
    return np.maximum(spread, floor).astype(np.float32)


def _one_source(
    judge: Judge, runs: Sequence[NDArray[np.float32]], steps: int, cap: float, basis: NDArray[np.float64]
) -> tuple[NDArray[np.float32], list[NDArray[np.float64]]]:
    """Residual scales, and per run the energy summed over sensors under each column of `basis`: float64[N - steps + 1, K]."""
    source = judge.source
    if source.shift_invariant:
        along = [_along(source, run, rows) for run, rows in zip(runs, judge.rows, strict=True)]
        spread = _spread(along, source.floor)
        energies = [_energy(residual, spread, cap) for residual in along]
        return spread, [
            np.stack([np.convolve(energy, column[::-1], "valid") for column in basis.T], axis=1)
            for energy in energies
        ]
    row = int(judge.rows[0][-1])
    # Frames that do not overlap hold each step once; the residuals of all frames would be `steps` times the data.
    spread = _spread(
        (_residual(source, frames, row) for run in runs for frames in _frames(run, steps, steps)),
        source.floor,
    )
    return spread, [
        np.concatenate(
            [
                _energy(_residual(source, frames, row), spread, cap) @ basis
                for frames in _frames(run, steps, 1)
            ]
        )
        for run in runs
    ]


def _energy(residual: NDArray[np.float32], spread: NDArray[np.float32], cap: float) -> NDArray[np.float64]:
    """Mean over known sensors of capped squared normalised residuals float[..., F]."""
    energy = np.minimum((residual / spread) ** 2, cap)
    present = np.maximum(np.isfinite(energy).sum(axis=-1), 1)
    return np.asarray(np.nan_to_num(energy, nan=0.0).sum(axis=-1, dtype=np.float64) / present)
