"""What every residual source gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from models.sources.gram import GramStatistics

if TYPE_CHECKING:
    import tensorflow as tf


class Source(Protocol):
    """A residual source whose per-site arrays are stacked over rows: one per known site, the fleet's last."""

    name: ClassVar[str]

    @property
    def floor(self) -> float:
        """Least residual scale of a sensor, in scaled units; what is predicted better than this is not worth an alarm."""

    @property
    def context(self) -> int:
        """Leading steps of a frame without residual."""

    @property
    def shift_invariant(self) -> bool:
        """Whether a step's residual does not depend on where its frame starts."""

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """Everything fitted, by name; it becomes the variables of the exported model."""

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Residuals float32[B, T - context, F] of scaled frames float32[B, T, F]; `rows` int32[B] names each frame's site.

        NaN cells of the frames read as 0; what is returned for them is masked by the caller.
        """


class SourceFit(Protocol):
    """How a source is fitted from sums that add up over stretches, blocks and sites."""

    context: ClassVar[int]

    def summarise(self, run: NDArray[np.float32], start: int, stop: int) -> GramStatistics:
        """Statistics of steps `start` to `stop` of a scaled run float32[N, F]."""

    def solve(self, statistics: Sequence[GramStatistics]) -> tuple[Source, ...]:
        """Sources with one row for each of `statistics`; they weigh the same in the score."""
