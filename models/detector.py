"""The detector: scaling, residual sources, calibration and threshold per site; scores raw values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.architectures.spec import ArchitectureSpec
from models.calibration import FOLDS, CalibrationOptions, Judge, calibrate, fold_rows, typical_calibration
from models.errors import InvalidInput, NotEnoughData
from models.graph import series_score
from models.scaling import SensorScaling, moments
from models.sources.base import Source, SourceFit
from models.sources.folds import fit_rows
from models.sources.network import NetworkSource
from models.sources.pca import PcaFit
from models.sources.ridge import RidgeFit
from models.store import load_detector, save_detector

_FLEET_ROWS = 60_000
"""Rows the fleet's calibration looks at, the last ones of every run: it serves sites that nothing is known of."""


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
            autograph=False,
        ).get_concrete_function()

    def save(self, path: Path) -> None:
        """Write this detector to one file, at once, for `load`."""
        save_detector(self, path)

    @classmethod
    def load(cls, path: Path) -> Detector:
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
          DetectorUnreadable: missing, damaged or of another format.
        """
        return load_detector(path)


def fit_sources(
    fixed: Sequence[Source],
    fits: Sequence[SourceFit],
    sensors: Sequence[str],
    step_seconds: float,
    steps: int,
    site_scaling: Mapping[str, SensorScaling],
    training_runs: Mapping[str, Sequence[NDArray[np.floating]]],
    options: CalibrationOptions,
) -> Detector:
    """Fit `fits`, calibrate them and the `fixed` sources: one row a site and the fleet's last.

    A site with a frame but fewer than `options.min_steps` scored steps keeps its own scaling and takes the calibration of a
    typical other site. A site's companion is fitted with `options.prior_rows` rows of an average site beside its own.

    Raises:
      NotEnoughData: no site has a run of `steps` steps.
    """
    usable = {
        site: [np.asarray(run, np.float32) for run in runs if len(run) >= steps]
        for site, runs in sorted(training_runs.items())
    }
    share = max(steps, _FLEET_ROWS // max(1, sum(len(runs) for runs in usable.values())))
    pooled = [run[-share:] for runs in usable.values() for run in runs]
    if not pooled:
        raise NotEnoughData(
            f"no site has a gap-free run of {steps} steps; lower the frame length or ingest more"
        )
    named = {site: runs for site, runs in usable.items() if runs and site in site_scaling}
    own = [s for s, runs in named.items() if sum(len(r) - steps + 1 for r in runs) >= options.min_steps]
    sites = tuple(named) if own else ()
    scalings = [*(site_scaling[site] for site in sites), moments(pooled, len(sensors)).scaling()]
    scaled = [
        [scaling.apply(run) for run in runs]
        for scaling, runs in zip(scalings, [*(named[site] for site in sites), pooled], strict=True)
    ]
    alone = [row for row, site in enumerate(sites) if site in own]
    fitted: list[Source] = list(fixed)
    # Calibration judges the network on what it was trained on, but each linear source on blocks it was not fitted on.
    judges = [[Judge(source, fold_rows(_lengths(runs), 0, 1)) for source in fixed] for runs in scaled]
    for fit in fits:
        whole, held = fit_rows(fit, scaled, alone, options.prior_rows)
        fitted.extend(whole)
        for row, found in held.items():
            folds = fold_rows(_lengths(scaled[row]), 0, FOLDS)
            judges[row] += [Judge(source, folds) for source in found]
    by_row = {row: calibrate(judges[row], scaled[row], steps, options) for row in [*alone, len(sites)]}
    if len(alone) < len(sites):
        typical = typical_calibration([by_row[row] for row in alone])
        by_row.update({row: typical for row in range(len(sites)) if row not in by_row})
    rows = [by_row[row] for row in range(len(scaled))]
    return Detector(
        sensors=tuple(sensors),
        step_seconds=step_seconds,
        steps=steps,
        sites=sites,
        sources=tuple(fitted),
        mean=np.stack([s.mean for s in scalings]),
        scale=np.stack([s.scale for s in scalings]),
        residual_scale=tuple(np.stack([row.spreads[i] for row in rows]) for i in range(len(fitted))),
        kernel=tuple(np.stack([row.kernels[i] for row in rows]) for i in range(len(fitted))),
        threshold=np.array([row.threshold for row in rows], np.float32),
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
    """Calibrate trained weights on raw training runs float64[N, F] per site, in time order.

    Raises:
      InvalidModel: the weights do not fit. NotEnoughData: no site has a run of `steps` steps.
    """
    chosen = options or CalibrationOptions()
    network = NetworkSource.of(spec, weights, steps, len(sensors))
    companions: dict[str | None, list[SourceFit]] = {
        "ridge": [RidgeFit(len(sensors))],
        "pca": [PcaFit(len(sensors), chosen.pca)],
        None: [],
    }
    return fit_sources(
        [network],
        companions[chosen.companion],
        sensors,
        step_seconds,
        steps,
        site_scaling,
        training_runs,
        chosen,
    )


def _lengths(runs: Sequence[NDArray[np.float32]]) -> list[int]:
    return [len(run) for run in runs]
