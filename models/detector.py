"""The detector: scaling, residual sources, calibration and threshold per site; scores raw values."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidInput
from models.options import DetectorOptions
from models.scaling import as_float32
from models.sensors import SensorHistory
from models.sources.base import Source
from models.sources.ridge import RidgeSource
from models.state import StateShape
from models.store import load_detector, save_detector
from models.tables import Calibration
from models.tracing import traced
from models.waking import resting, told_after

State = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Scores:
    """`score` float64[N] (NaN before the detector has its context), `threshold` float64[N], `contribution` float32[N, F] (sums to
    the score). `known_site` is False where the fleet-wide calibration was used.
    """

    score: NDArray[np.float64]
    threshold: NDArray[np.float64]
    contribution: NDArray[np.float32]
    known_site: bool = True

    @property
    def is_anomaly(self) -> NDArray[np.bool_]:
        """Whether each step scores above its threshold; NaN does not."""
        return self.score > self.threshold


@dataclass(frozen=True, eq=False)
class Detector:
    """Arrays are stacked over R rows: one per site of `sites`, the fleet-wide one last.

    `mean`, `scale` float64[R, F] bring raw values to one scale, the logarithms of those whose `floor` float64[R, F] is a number
    (`models.logarithms`; None takes none); `calibration`, float32, makes a score of residuals; `history` says what
    the sensors were in training.
    """

    sensors: tuple[str, ...]
    step_seconds: float
    steps: int
    sites: tuple[str, ...]
    sources: tuple[Source, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    calibration: Calibration
    history: SensorHistory
    options: DetectorOptions = field(default_factory=DetectorOptions)
    floor: NDArray[np.float64] | None = None

    @property
    def context(self) -> int:
        """Steps of a stretch before the first score."""
        return max(source.context for source in self.sources)

    @property
    def state_shape(self) -> StateShape:
        """Sizes of what is remembered between two steps."""
        return StateShape(self.context, len(self.sensors), len(self.sources), len(self.options.spans))

    @property
    def logarithms(self) -> tuple[str, ...]:
        """Sensors whose logarithm is scaled."""
        if self.floor is None:
            return ()
        return tuple(
            name for name, floor in zip(self.sensors, self.floor[-1], strict=True) if not np.isnan(floor)
        )

    @property
    def switching(self) -> tuple[str, ...]:
        """Sites of machines that switch between states (`models.switching`)."""
        marks = [each.switches for each in self.sources if isinstance(each, RidgeSource)]
        rows = [mark for mark in marks if mark is not None]
        return tuple(site for row, site in enumerate(self.sites) if any(mark[row] > 0 for mark in rows))

    @property
    def told_after(self) -> int:
        """Readings after which a sensor that woke up is no longer heard, and at rest after which it is again."""
        return told_after(self.options.spans)

    def training_threshold(self, site: str) -> float:
        """What the site's training scores set, where the threshold of a stream begins."""
        return float(self.calibration.threshold[self.row(site)])

    def row(self, site: str) -> int:
        """Row of a site, the fleet's for one that has no calibration of its own."""
        return self.sites.index(site) if site in self.sites else len(self.sites)

    def score(self, site: str, values: NDArray[np.floating]) -> Scores:
        """Score every step of a run of raw values float[N, F], beginning with the memory of the training's end.

        Raises:
          InvalidInput: `values` is not [N, F] with this detector's F.
        """
        return self.stream(site, values, None)[0]

    def stream(self, site: str, values: NDArray[np.floating], state: State | None) -> tuple[Scores, State]:
        """As `score`, going on from the state that an earlier call gave (None: from the training's end), and the state after.

        Raises:
          InvalidInput: `values` is not [N, F] with this detector's F.
        """
        raw = as_float32(values)
        if raw.ndim != 2 or raw.shape[1] != len(self.sensors):
            raise InvalidInput(f"values have shape {raw.shape}; expected [rows, {len(self.sensors)}]")
        row = self.row(site)
        found = traced(self)(self, row, raw, state)
        scores = Scores(
            found.score[0].numpy().astype(np.float64),
            found.threshold[0].numpy().astype(np.float64),
            found.contribution[0].numpy(),
            row < len(self.sites),
        )
        return scores, {name: value.numpy() for name, value in found.state.items()}

    def table_arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by name, those of source i as `i.<name>`; rows first but for `cap`, the largest squared residual."""
        found = {"mean": self.mean, "scale": self.scale, **self.calibration.arrays()}
        if self.floor is not None:
            found["floor"] = self.floor
        found["cap"] = np.asarray(self.options.cap, np.float32)
        found["resting_low"], found["resting_high"] = resting(self.history)
        for index, source in enumerate(self.sources):
            found.update({f"{index}.{name}": value for name, value in source.tables().items()})
        return found

    @cached_property
    def table_tensors(self) -> dict[str, Any]:
        """The same as tensors."""
        import tensorflow as tf

        return {name: tf.constant(value) for name, value in self.table_arrays().items()}

    def suspects(self, site: str, state: State) -> dict[str, str]:
        """Sensors that cannot be relied on after the steps that led to `state`, and why: stuck, saturated, dead or woken up."""
        memory = {name: value[0] for name, value in state.items()}
        return self.history.row(self.row(site)).suspects(self.sensors, memory)

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
