"""The detector: scaling, residual sources, calibration and threshold per site; scores raw values."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.architectures.spec import ArchitectureSpec
from models.errors import DetectorUnreadable, InvalidInput, NotEnoughData
from models.graph import series_score
from models.scaling import SensorScaling, moments
from models.sources.base import Source
from models.sources.network import NetworkSource
from models.sources.pca import PcaSource

_AVERAGES = (3, 10, 30)
_CHUNK = 4096
_FLEET_ROWS = 20_000


@dataclass(frozen=True)
class CalibrationOptions:
    """How residuals become a score; nothing here may be chosen with labels of the data it is judged on.

    `false_alarm_rate`: share of training steps above the threshold. `pca`: variance explained by the companion PCA, None
    for the network alone. `cap`: largest squared normalised residual of a sensor. `min_steps`: scored training steps a
    site needs for a calibration of its own.
    """

    false_alarm_rate: float = 0.001
    pca: float | None = 0.5
    cap: float = 100.0
    min_steps: int = 100


@dataclass(frozen=True)
class Scores:
    """`score` float64[N] (NaN before the first full frame), `threshold`, `contribution` float32[N, F] (sums to the score).

    `known_site` is False where the fleet-wide calibration was used.
    """

    score: NDArray[np.float64]
    threshold: float
    contribution: NDArray[np.float32]
    known_site: bool = True

    @property
    def is_anomaly(self) -> NDArray[np.bool_]:
        """Whether each step scores above the threshold; NaN does not."""
        return self.score > self.threshold


@dataclass(frozen=True, eq=False)
class Detector:
    """Arrays are stacked over rows: one per site of `sites`, the fleet-wide one last.

    `mean`, `scale` float64[S+1, F]; per source `residual_scale` float32[S+1, F] and smoothing `kernel` float32[S+1, L];
    `threshold` float32[S+1].
    """

    sensors: tuple[str, ...]
    step_seconds: float
    steps: int
    sites: tuple[str, ...]
    sources: tuple[Source, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    residual_scale: tuple[NDArray[np.float32], ...]
    kernel: tuple[NDArray[np.float32], ...]
    threshold: NDArray[np.float32]
    options: CalibrationOptions = field(default_factory=CalibrationOptions)

    def row(self, site: str) -> int:
        """Row of a site, the fleet's for one that has no calibration of its own."""
        return self.sites.index(site) if site in self.sites else len(self.sites)

    def score(self, site: str, values: NDArray[np.floating]) -> Scores:
        """Score every step of a run of raw values float[N, F] by the frame that ends there.

        Raises:
          InvalidInput: `values` is not [N, F] with this detector's F.
        """
        raw = np.asarray(values, np.float32)
        if raw.ndim != 2 or raw.shape[1] != len(self.sensors):
            raise InvalidInput(f"values have shape {raw.shape}; expected [rows, {len(self.sensors)}]")
        import tensorflow as tf

        row = self.row(site)
        score, contribution = self._series(tf.constant(raw), tf.constant(row))
        return Scores(
            score.numpy().astype(np.float64),
            float(self.threshold[row]),
            contribution.numpy(),
            row < len(self.sites),
        )

    @cached_property
    def _series(self) -> Any:
        """`series_score` of this detector, traced once for stretches of any length."""
        import tensorflow as tf

        return tf.function(
            lambda values, row: series_score(self, values, row),
            input_signature=[
                tf.TensorSpec((None, len(self.sensors)), tf.float32),
                tf.TensorSpec((), tf.int32),
            ],
        )

    def save(self, path: Path) -> None:
        """Write this detector to one file for `load` on the same version of the project."""
        path.write_bytes(pickle.dumps(self))

    @classmethod
    def load(cls, path: Path) -> Detector:
        """Read what `save` wrote; only from files of one's own, as pickle runs what it reads.

        Raises:
          DetectorUnreadable: missing or not a detector.
        """
        try:
            found = pickle.loads(path.read_bytes())
        except (OSError, pickle.UnpicklingError, EOFError, AttributeError) as error:
            raise DetectorUnreadable(f"{path}: not a saved detector ({error}); fit it again") from error
        if not isinstance(found, cls):
            raise DetectorUnreadable(f"{path}: holds {type(found).__name__}, not a detector; fit it again")
        return found


def _residual_chunks(source: Source, scaled: NDArray[np.float32], row: int, steps: int) -> Any:
    """Masked residual blocks [M, T', F] (NaN where truth is), long blocks for shift-invariant sources, else every frame."""
    import tensorflow as tf

    arrays = {k: tf.constant(v) for k, v in source.arrays().items()}
    if source.shift_invariant:
        span = _CHUNK + steps - 1
        blocks = [scaled[None, i : i + span] for i in range(0, len(scaled) - steps + 1, _CHUNK)]
    else:
        every = np.lib.stride_tricks.sliding_window_view(scaled, steps, axis=0).transpose(0, 2, 1)
        blocks = [every[i : i + 256] for i in range(0, len(every), 256)]
    for block in blocks:
        known = tf.constant(np.nan_to_num(block, nan=0.0))
        residual = source.residuals(arrays, known, tf.fill([len(block)], row)).numpy()
        yield np.where(np.isnan(block[:, source.context :]), np.nan, residual)


def _weighted(
    source: Source,
    scaled: NDArray[np.float32],
    row: int,
    spread: NDArray[np.float32],
    cap: float,
    steps: int,
    kernels: NDArray[np.floating],
    over_sensors: bool = False,
) -> NDArray[np.float64]:
    """Smoothed energy float64[N - steps + 1, F, K] of one run under kernels [L, K], the oldest step first.

    `over_sensors` sums over the sensors first (F = 1): what calibration needs, at a fraction of the work.
    """
    parts = []
    length = len(kernels)
    for residual in _residual_chunks(source, scaled, row, steps):
        energy = np.minimum((residual / spread) ** 2, cap)
        present = np.maximum(np.isfinite(energy).sum(axis=2, keepdims=True), 1)
        energy = np.nan_to_num(energy, nan=0.0) / present
        if over_sensors:
            energy = energy.sum(axis=2, keepdims=True)
        if source.shift_invariant:
            count = energy.shape[1] - length + 1
            smooth = np.zeros((count, energy.shape[2], kernels.shape[1]))
            for k in range(length):
                smooth += energy[0, k : k + count, :, None] * kernels[k]
            parts.append(smooth)
        else:
            parts.append(np.einsum("btf,tk->bfk", energy, kernels))
    return np.concatenate(parts)


def _kernels(length: int) -> NDArray[np.float64]:
    """Exponential averages over 3, 10, 30 steps, cut to `length` and normalised: [length, 3], the oldest step first."""
    ages = np.arange(length)[::-1, None]
    weights = (1.0 - 2.0 / (np.asarray(_AVERAGES) + 1.0)) ** ages
    return np.asarray(weights / weights.sum(axis=0))


def _calibrate(
    sources: Sequence[Source],
    runs: Sequence[NDArray[np.float32]],
    row: int,
    steps: int,
    options: CalibrationOptions,
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], float]:
    """Residual scales, kernels and threshold of one row from scaled runs, each at least `steps` long."""
    spreads, kernels = [], []
    score: NDArray[np.float64] | float = 0.0
    for source in sources:
        residual = np.concatenate(
            [
                part.reshape(-1, part.shape[2])
                for run in runs
                for part in _residual_chunks(source, run, row, steps)
            ]
        ).astype(np.float64)
        count = np.maximum(np.isfinite(residual).sum(axis=0), 1)
        square = np.nan_to_num(residual, nan=0.0) ** 2
        limit = 25.0 * square.sum(axis=0) / count
        spread = np.sqrt(np.minimum(square, limit).sum(axis=0) / count)
        spread = np.maximum(spread, source.floor).astype(np.float32)
        basis = _kernels(steps - source.context)
        smooth = np.concatenate(
            [_weighted(source, run, row, spread, options.cap, steps, basis, True)[:, 0] for run in runs]
        )
        tail = np.maximum(np.quantile(smooth, 0.99, axis=0), 1e-3)
        weight = 1.0 / (tail * len(_AVERAGES) * len(sources))
        spreads.append(spread)
        kernels.append((basis @ weight).astype(np.float32))
        score = score + smooth @ weight
    return spreads, kernels, float(np.quantile(score, 1.0 - options.false_alarm_rate))


def fit_sources(
    make: Any,
    sensors: Sequence[str],
    step_seconds: float,
    steps: int,
    site_scaling: Mapping[str, SensorScaling],
    training_runs: Mapping[str, Sequence[NDArray[np.floating]]],
    options: CalibrationOptions,
) -> Detector:
    """Calibrate the sources that `make(scaled runs per row)` gives, one row a site and the fleet's last.

    Raises:
      NotEnoughData: no site has a run of `steps` steps.
    """
    usable = {
        site: [np.asarray(run, np.float32) for run in runs if len(run) >= steps]
        for site, runs in training_runs.items()
    }
    pooled = [run[-_FLEET_ROWS:] for runs in usable.values() for run in runs]
    if not pooled:
        raise NotEnoughData(
            f"no site has a gap-free run of {steps} steps; lower the frame length or ingest more"
        )
    sites = tuple(
        site
        for site, runs in sorted(usable.items())
        if site in site_scaling and sum(len(run) - steps + 1 for run in runs) >= options.min_steps
    )
    fleet = moments(pooled, len(sensors)).scaling()
    scalings = [*(site_scaling[site] for site in sites), fleet]
    scaled = [
        [s.apply(r) for r in runs]
        for s, runs in zip(scalings, [*(usable[x] for x in sites), pooled], strict=True)
    ]
    sources: tuple[Source, ...] = tuple(make(scaled))
    rows = [_calibrate(sources, runs, row, steps, options) for row, runs in enumerate(scaled)]
    indices = range(len(sources))
    return Detector(
        sensors=tuple(sensors),
        step_seconds=step_seconds,
        steps=steps,
        sites=sites,
        sources=sources,
        mean=np.stack([s.mean for s in scalings]),
        scale=np.stack([s.scale for s in scalings]),
        residual_scale=tuple(np.stack([r[0][i] for r in rows]) for i in indices),
        kernel=tuple(np.stack([r[1][i] for r in rows]) for i in indices),
        threshold=np.array([r[2] for r in rows], np.float32),
        options=options,
    )


def fit_detector(
    spec: ArchitectureSpec,
    weights: Sequence[NDArray[np.floating]],
    sensors: Sequence[str],
    step_seconds: float,
    steps: int,
    site_scaling: Mapping[str, SensorScaling],
    training_runs: Mapping[str, Sequence[NDArray[np.floating]]],
    options: CalibrationOptions | None = None,
) -> Detector:
    """Calibrate trained weights on raw training runs float64[N, F] per site.

    Raises:
      InvalidModel: the weights do not fit. NotEnoughData: no site has a run of `steps` steps.
    """
    chosen = options or CalibrationOptions()
    network = NetworkSource.of(spec, weights, steps, len(sensors))

    def make(scaled: Sequence[Sequence[NDArray[np.float32]]]) -> list[Source]:
        pca = [] if chosen.pca is None else [PcaSource.of(scaled, len(sensors), chosen.pca)]
        return [network, *pca]

    return fit_sources(make, sensors, step_seconds, steps, site_scaling, training_runs, chosen)
