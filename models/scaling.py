"""Per-sensor mean and scale of one site, from sums that merge exactly over runs and sites.

Merging follows Chan, Golub, LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidInput
from models.logarithms import logged

CLIP = 10.0
"""Scaled values beyond this many scales are clipped: one absurd value must not drown all other sensors."""

LARGEST = float(np.finfo(np.float32).max)
"""Values beyond are infinite to a detector, whose inputs are float32, and so unknown."""

_TAIL = 0.005
_FAR = 1e6
"""A reading this many times the width of a sensor's middle 99 % away from it says nothing about a machine: a broken conversion,
the largest float as a sentinel. Bursts of real machines reach some thousand widths, so nearer sentinels (-9999) are left to the
configured valid range."""
_HUGE = 1e9
"""Only values beyond this can be implausible: a rare event of a sensor that else gives rounding noise is many widths away, and real."""

CONSTANT = 1e-5
"""A standard deviation at most this share of the largest absolute value is a constant sensor's rounding noise."""


@dataclass(frozen=True)
class SensorMoments:
    """Sums of F sensors, each float64[F]: known cells, their mean, sum of squared deviations, largest absolute value.

    Those of sensors with a `floor` (`models.logarithms`) are of logarithms, whose size is 1: a logarithm moves by how much its reading
    moves beside its own size.
    """

    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    largest: NDArray[np.float64]
    floor: NDArray[np.float64] | None = None

    @classmethod
    def empty(cls, sensors: int) -> SensorMoments:
        """No cell seen."""
        zero = np.zeros(sensors)
        return cls(zero, zero, zero, zero)

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> SensorMoments:
        """Moments of raw values float[N, F]; NaN and what float32 cannot hold are not counted. N may be 0.

        Raises:
          InvalidInput: `values` is not two-dimensional.
        """
        raw = np.asarray(values, np.float64)
        if raw.ndim != 2:
            raise InvalidInput(f"values have shape {raw.shape}; expected [rows, sensors]")
        return cls.of_stretches(raw)

    @classmethod
    def of_stretches(cls, raw: NDArray[np.float64]) -> SensorMoments:
        """Moments, each [..., F], of raw values float64[..., N, F] over their N rows; as `of`."""
        known = np.abs(raw) <= LARGEST
        count = known.sum(axis=-2).astype(np.float64)
        filled = np.where(known, raw, 0.0)
        mean = filled.sum(axis=-2) / np.maximum(count, 1.0)
        squares = (np.where(known, filled - mean[..., None, :], 0.0) ** 2).sum(axis=-2)
        largest = np.abs(filled).max(axis=-2, initial=0.0)
        return cls(count, mean, squares, largest)

    def merge(self, other: SensorMoments) -> SensorMoments:
        """Moments of both together."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1.0)
        step = other.mean - self.mean
        return SensorMoments(
            count,
            self.mean + step * share,
            self.squares + other.squares + step**2 * self.count * share,
            np.maximum(self.largest, other.largest),
            self.floor,
        )

    @property
    def variance(self) -> NDArray[np.float64]:
        """Over the known cells, 0 without any."""
        return np.asarray(self.squares / np.maximum(self.count, 1.0))

    @property
    def moves(self) -> NDArray[np.bool_]:
        """Which sensors are not constant but for rounding."""
        return np.asarray(np.sqrt(self.variance) > CONSTANT * self.largest)

    def scaling(self) -> SensorScaling:
        """Mean and scale. A constant sensor is scaled by its own size, so a later change shows and stays finite; a sensor
        never seen has mean 0 and scale 1.
        """
        scale = np.where(self.moves, np.sqrt(self.variance), self.largest)
        return SensorScaling(self.mean, np.where(scale > 0, scale, 1.0), self.floor)


@dataclass(frozen=True)
class SensorScaling:
    """`mean` and `scale`, float64[F], in the sensors' own units; of logarithms where `floor` float64[F] (`models.logarithms`) is a
    number. None takes no logarithm."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    floor: NDArray[np.float64] | None = None

    def apply(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scaled values float32[..., F] of raw ones, clipped to +-10; NaN and infinities become NaN."""
        raw = logged(values, self.floor)
        raw = np.where(np.isfinite(raw), raw, np.nan)
        return np.clip((raw - self.mean) / self.scale, -CLIP, CLIP).astype(np.float32)

    def to_dict(self) -> dict[str, list[Any]]:
        """Give a JSON-safe form; `floor` is in it where logarithms are taken, None for sensors whose is not."""
        found: dict[str, list[Any]] = {"mean": self.mean.tolist(), "scale": self.scale.tolist()}
        if self.floor is not None:
            found["floor"] = [None if np.isnan(each) else each for each in self.floor.tolist()]
        return found

    @classmethod
    def from_dict(cls, value: Mapping[str, list[Any]]) -> SensorScaling:
        """Read back what `to_dict` gave."""
        return cls(
            *(np.asarray(value[key], np.float64) for key in ("mean", "scale", "floor") if key in value)
        )


def as_float32(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The same in float32; what does not fit is infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def moments(
    runs: Iterable[NDArray[np.floating]], sensors: int, floor: NDArray[np.float64] | None = None
) -> SensorMoments:
    """Moments of all raw runs float[N_i, sensors] together, without `implausible` values: one of 1e26 would hide its sensor for good.

    Of the logarithms of sensors that have a `floor` float64[sensors].
    """
    return plausible_moments(plausible(runs, floor), sensors, floor)


def plausible_moments(
    runs: Iterable[NDArray[np.float64]], sensors: int, floor: NDArray[np.float64] | None = None
) -> SensorMoments:
    """As `moments`, of runs as `plausible` gives them: for whoever needs both."""
    total = SensorMoments.empty(sensors)
    for run in runs:
        total = total.merge(SensorMoments.of(run))
    if floor is None:
        return total
    size = np.where(total.count > 0, 1.0, 0.0)
    return replace(total, largest=np.where(np.isnan(floor), total.largest, size), floor=floor)


def plausible(
    runs: Iterable[NDArray[np.floating]], floor: NDArray[np.float64] | None = None
) -> list[NDArray[np.float64]]:
    """The raw runs float[N_i, F] with NaN for values that are `implausible` among all of them, and logarithms of sensors that have a `floor`."""
    whole = [np.asarray(run, np.float64) for run in runs]
    odd = implausible(np.concatenate(whole)) if whole else np.zeros((0, 0), np.bool_)
    found, first = [], 0
    for run in whole:
        of_run = odd[first : first + len(run)]
        found.append(logged(np.where(of_run, np.nan, run) if of_run.any() else run, floor))
        first += len(run)
    return found


def middle(ordered: NDArray[np.floating]) -> tuple[float, float]:
    """Where the middle 99 % of sorted values float[N], N at least 1, begin and end."""
    # Rounded inwards, so that the one extreme of a short series is not its own measure.
    low = ordered[int(np.ceil((len(ordered) - 1) * _TAIL))]
    high = ordered[int(np.floor((len(ordered) - 1) * (1 - _TAIL)))]
    return low, high


def implausible(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which raw values, bool[N, F], are out of all proportion to their sensor's others, float[N, F]; NaN and infinities are not.

    Judged by the sensor's middle 99 %; if that is one value, by the size of its values that are not zero.
    """
    raw = np.asarray(values, np.float64)
    odd = np.zeros(raw.shape, np.bool_)
    size = np.abs(raw)
    # Hardly any sensor ever shows such a value: the others need not be sorted.
    for sensor in np.flatnonzero(((size > _HUGE) & (size <= LARGEST)).any(axis=0)):
        column = raw[:, sensor]
        known = np.sort(column[size[:, sensor] <= LARGEST])
        if len(known) < 3:
            continue
        low, high = middle(known)
        width = high - low
        if width == 0:
            sizes = np.abs(known[known != 0])
            width = np.median(sizes) if len(sizes) else 0.0
        if width > 0:
            far = np.maximum(column - high, low - column) > _FAR * width
            odd[:, sensor] = np.isfinite(column) & far & (size[:, sensor] > _HUGE)
    return odd
