"""What every residual source gives."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from models.sources.gram import GramStatistics

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Traits:
    """What a training says of its machine: `steady` bool[F], the sensors that do not wander where wandering is not followed; whether it `switches` between states."""

    steady: NDArray[np.bool_]
    switches: bool = False


class Source(Protocol):
    """A residual source whose per-site arrays are stacked over rows: one per known site, the fleet's last."""

    name: ClassVar[str]

    @property
    def excursion(self) -> bool:
        """Whether only what lies beyond the training's 99 % quantile counts, by its logarithm, instead of the squared residual."""

    @property
    def floor(self) -> float:
        """Least residual scale of a sensor, in scaled units; what is predicted better than this is not worth an alarm."""

    @property
    def context(self) -> int:
        """Steps before a step that its residual depends on."""

    @property
    def build(self) -> Hashable:
        """Equal for sources whose graphs differ in their arrays only."""

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """Everything fitted, by name."""

    def tables(self) -> Mapping[str, NDArray[np.float32]]:
        """What of it is stacked over rows and given to `residuals`; a network keeps its weights in variables."""

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Residuals float32[B, N, F] of the last N of scaled steps float32[B, context + N, F] at sites `rows` int32[B].

        Unknown cells come as what the others tell of them, or as 0; what is returned for them, or for steps with unknown ones before them, is the caller's to mask.
        """


class LinearSource(Source, Protocol):
    """A source whose residuals are a linear function of a design row."""

    def coefficients(self, row: int) -> NDArray[np.float32]:
        """What predicts the sensors from a row of the design, float32[D, F], at one of the stacked rows."""


class SourceFit(Protocol):
    """How a source is fitted from sums that add up over stretches, blocks and sites."""

    context: ClassVar[int]

    def summarise(self, run: NDArray[np.float32], start: int, stop: int) -> GramStatistics:
        """Statistics of steps `start` to `stop` of a scaled run float32[N, F]."""

    def solve(
        self, statistics: Sequence[GramStatistics], traits: Sequence[Traits]
    ) -> tuple[LinearSource, ...]:
        """Sources with one row for each of `statistics`; `traits` of a row say what its machine is like."""
