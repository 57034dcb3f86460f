"""The arrays that make a score of residuals, under one name everywhere: of a source, of a site, and stacked over all sites."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.regimes import REGIMES

Array = NDArray[np.floating]


_DIMENSIONS = {
    "source_weight": ("sources",),
    "rest": ("sensors",),
    "descent": ("sensors", "sensors"),
    "ordinary": ("sensors",),
    "regime_centre": ("regimes", "sensors"),
    "regime_shift": ("sources", "regimes", "sensors"),
    "regime_size": ("sources", "regimes", "sensors"),
}
"""Of the arrays that are not one number a site; the others of a source have one a source and sensor."""
_SWITCHING = ("restless",)
_REGIMES = ("regime_centre", "regime_shift", "regime_size")
_ORDINARY = ("ordinary",)
_FILLED = ("descent",)
_REDESCENDING = ("redescent",)


@dataclass(frozen=True, eq=False)
class SourceCalibration:
    """How the residuals of one source are judged: float[F] each, float[S, F] for all sources of a site.

    `spread`, a usual residual; `tail`, the 99 % quantile and `usual`, the mean of residuals over their spread; `limit` and
    `centre`, what may move the baseline and where it began; `last_baseline`, `last_level`, the slow memory at the end of
    training; `sensor_weight`, which sums to 1 over the sensors; `restless`, by which a residual is larger where the other sensors move (`models.switching`), 0 where
    no machine switches; `regime_shift`, `regime_size` float[REGIMES, F], what residuals are taken off and divided by in each regime (`models.regimes`).
    """

    spread: Array
    tail: Array
    usual: Array
    limit: Array
    centre: Array
    last_baseline: Array
    last_level: Array
    sensor_weight: Array
    restless: Array
    regime_shift: Array
    regime_size: Array


@dataclass(frozen=True, eq=False)
class Calibration(SourceCalibration):
    """Everything that makes a score of a site's residuals; stacked over sites, each array has a first dimension more.

    `source_weight` float[S]. `rest` float[F], a usual step's contribution. `follow_rate` float[], 0 where nothing is followed, and `redescent` float[], by how much less
    what lies far out moves a gain (`models.slow_changes`), 0 where it moves it as what lies nearer does.
    `threshold` float[], where the threshold begins. `margin` float[], by how much the score usually lies below it, in natural
    logarithms, and `margin_rate` float[], how fast that is followed. `regime_centre` float[REGIMES, F], where the regimes lie in scaled readings.
    `ordinary` float[F], what a sensor says in all but rare steps, which counts less (`models.ordinary`); 0 where nothing is discounted.
    `descent` float[F, F], by which missing readings are filled from the others (`models.filling`); 0 where they count as average ones.
    """

    source_weight: Array
    rest: Array
    follow_rate: Array
    redescent: Array
    threshold: Array
    margin: Array
    margin_rate: Array
    regime_centre: Array
    ordinary: Array
    descent: Array

    @classmethod
    def stacked(cls, rows: Sequence[Calibration]) -> Calibration:
        """All rows as one, in float32."""
        return cls(**{name: value.astype(np.float32) for name, value in stack(rows).items()})

    @classmethod
    def shapes(cls, rows: int, sources: int, sensors: int) -> dict[str, tuple[int, ...]]:
        """Shape of every array, stacked over `rows`."""
        size = {"sources": sources, "sensors": sensors, "regimes": REGIMES}
        of_source = {each.name: ("sources", "sensors") for each in dataclasses.fields(SourceCalibration)}
        dimensions = {**of_source, **_DIMENSIONS}
        return {
            each.name: (rows, *(size[dimension] for dimension in dimensions.get(each.name, ())))
            for each in dataclasses.fields(cls)
        }

    def arrays(self) -> Mapping[str, Array]:
        """All arrays by name; those of switching machines, of regimes and of what is discounted only where there are such, as in what was stored before."""
        used = {
            _SWITCHING: self.damped,
            _REGIMES: self.has_regimes,
            _ORDINARY: self.discounts,
            _FILLED: self.fills,
            _REDESCENDING: self.redescends,
        }
        left_out = {name for names, there in used.items() if not there for name in names}
        every = [each.name for each in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in every if name not in left_out}

    @classmethod
    def without(cls, rows: int, sources: int, sensors: int) -> Mapping[str, Array]:
        """What `arrays` leaves out where no machine switches, none has regimes and nothing is discounted."""
        shapes = cls.shapes(rows, sources, sensors)
        found = {
            name: np.zeros(shapes[name], np.float32)
            for name in (*_SWITCHING, *_REGIMES, *_ORDINARY, *_FILLED, *_REDESCENDING)
        }
        return {**found, "regime_size": found["regime_size"] + 1}

    @property
    def damped(self) -> bool:
        """Whether residuals count less where the other sensors move."""
        return bool(np.any(self.restless))

    @property
    def discounts(self) -> bool:
        """Whether what is ordinary for a sensor counts less."""
        return bool(np.any(self.ordinary))

    @property
    def fills(self) -> bool:
        """Whether what the others tell takes the place of a missing reading."""
        return bool(np.any(self.descent))

    @property
    def redescends(self) -> bool:
        """Whether what lies far out moves gains less."""
        return bool(np.any(self.redescent))

    def without_regimes(self) -> Calibration:
        """The same, of a site or stacked, as if every step were of one regime."""
        return dataclasses.replace(
            self,
            regime_centre=np.zeros_like(self.regime_centre),
            regime_shift=np.zeros_like(self.regime_shift),
            regime_size=np.ones_like(self.regime_size),
        )

    def without_excuses(self) -> Calibration:
        """The same without regimes and with nothing discounted."""
        return dataclasses.replace(self.without_regimes(), ordinary=np.zeros_like(self.ordinary))

    @property
    def has_regimes(self) -> bool:
        """Whether residuals are judged by the regime that a machine is in."""
        return bool(np.any(self.regime_centre))


def stack(parts: Sequence[SourceCalibration]) -> dict[str, NDArray[np.float64]]:
    """Every array of `parts`, one behind the other along a new first dimension."""
    return {
        each.name: np.stack([np.asarray(getattr(part, each.name), np.float64) for part in parts])
        for each in dataclasses.fields(parts[0])
    }
