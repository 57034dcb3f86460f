"""The plainest source: a step is as unusual as it is far from the site's mean."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class ZScoreSource:
    """Residual is the scaled value itself; with `excursion` only values beyond what training saw count."""

    name: ClassVar[str] = "zscore"
    context: ClassVar[int] = 0

    excursion: bool = False
    floor: float = 0.05

    @property
    def build(self) -> Hashable:
        """As `Source.build`."""
        return (self.name, self.excursion)

    def tables(self) -> Mapping[str, NDArray[np.float32]]:
        """As `Source.tables`."""
        return self.arrays()

    def arrays(self) -> Mapping[str, NDArray[np.float32]]:
        """Nothing is fitted beyond the scaling."""
        return {}

    def residuals(self, arrays: Mapping[str, tf.Tensor], frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """As `Source.residuals`."""
        return frames
