"""The arrays that make a score of residuals, under one name everywhere: of a source, of a site, and stacked over all sites."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


_DIMENSIONS = {"source_weight": ("sources",), "rest": ("sensors",)}
"""Of the arrays that are not one number a site; those of a source have one a source and sensor."""


@dataclass(frozen=True, eq=False)
class SourceCalibration:
    """How the residuals of one source are judged: float[F] each, float[S, F] for all sources of a site.

    `spread`, a usual residual; `tail`, the 99 % quantile and `usual`, the mean of residuals over their spread; `limit` and
    `centre`, what may move the baseline and where it began; `last_baseline`, `last_level`, the slow memory at the end of
    training; `sensor_weight`, which sums to 1 over the sensors; `restless`, by which a residual is larger where the other sensors move (`models.switching`), 0 where
    no machine switches.
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


@dataclass(frozen=True, eq=False)
class Calibration(SourceCalibration):
    """Everything that makes a score of a site's residuals; stacked over sites, each array has a first dimension more.

    `source_weight` float[S]. `rest` float[F], a usual step's contribution. `follow_rate` float[], 0 where nothing is followed.
    `threshold` float[], where the threshold begins. `margin` float[], by how much the score usually lies below it, in natural
    logarithms, and `margin_rate` float[], how fast that is followed.
    """

    source_weight: Array
    rest: Array
    follow_rate: Array
    threshold: Array
    margin: Array
    margin_rate: Array

    @classmethod
    def stacked(cls, rows: Sequence[Calibration]) -> Calibration:
        """All rows as one, in float32."""
        return cls(**{name: value.astype(np.float32) for name, value in stack(rows).items()})

    @classmethod
    def shapes(cls, rows: int, sources: int, sensors: int) -> dict[str, tuple[int, ...]]:
        """Shape of every array, stacked over `rows`."""
        of_source = {each.name for each in dataclasses.fields(SourceCalibration)}
        size = {"sources": sources, "sensors": sensors}
        return {
            each.name: (rows, sources, sensors)
            if each.name in of_source
            else (rows, *(size[dimension] for dimension in _DIMENSIONS.get(each.name, ())))
            for each in dataclasses.fields(cls)
        }

    def arrays(self) -> Mapping[str, Array]:
        """All arrays by name; `restless` only where a machine switches, as in what was stored before there was such a thing."""
        found = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        if not self.damped:
            del found["restless"]
        return found

    @property
    def damped(self) -> bool:
        """Whether residuals count less where the other sensors move."""
        return bool(np.any(self.restless))


def stack(parts: Sequence[SourceCalibration]) -> dict[str, NDArray[np.float64]]:
    """Every array of `parts`, one behind the other along a new first dimension."""
    return {
        each.name: np.stack([np.asarray(getattr(part, each.name), np.float64) for part in parts])
        for each in dataclasses.fields(parts[0])
    }
