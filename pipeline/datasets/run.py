"""The values that the data set steps hand on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Run:
    """A regular, gap-free stretch of one asset.

    Attributes:
      site: plant.
      asset: machine of that plant.
      start_ns: grid time of the first row, ns since 1970 UTC, a multiple of `step_ns`.
      step_ns: grid spacing in ns.
      values: `float64[N, F]` in sensor units, NaN where a sensor is unknown.
    """

    site: str
    asset: str
    start_ns: int
    step_ns: int
    values: NDArray[np.float64]

    @property
    def end_ns(self) -> int:
        """Grid time of the last row."""
        return self.start_ns + (len(self.values) - 1) * self.step_ns

    @property
    def times_ns(self) -> NDArray[np.int64]:
        """Grid time of each row, `int64[N]`."""
        return self.start_ns + self.step_ns * np.arange(len(self.values), dtype=np.int64)

    def steps_before(self, instant_ns: int) -> int:
        """How many rows have a grid time before an instant (ns since 1970 UTC)."""
        return int(np.clip(-(-(instant_ns - self.start_ns) // self.step_ns), 0, len(self.values)))

    def before(self, instant_ns: int) -> NDArray[np.float64]:
        """The rows with a grid time before an instant, a view."""
        return self.values[: self.steps_before(instant_ns)]


@dataclass(frozen=True)
class SiteRuns:
    """All runs of a site on its own sensors (sorted), ordered by asset and time; `readings` rows were read for them.

    Of these `left_out` are in no run (`pipeline.datasets.leaveout`), `touched` by stretch. `end_ns` is the grid time of the last row, as it would be with them; 0 without any.
    """

    site: str
    sensors: tuple[str, ...]
    runs: tuple[Run, ...]
    readings: int
    left_out: int = 0
    touched: tuple[int, ...] = ()
    end_ns: int = 0


def count_frames(lengths: list[int], *, steps: int, stride: int = 1) -> int:
    """Counts the frames that runs of these lengths give, as `pipeline.datasets.frames` cuts them."""
    return sum((length - steps) // stride + 1 for length in lengths if length >= steps)
