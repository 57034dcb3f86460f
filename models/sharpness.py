"""Which of the two ridges is heard: where relations are sharp the stiff one tells less, and says it as loudly.

Where at half of the sensors a stiff ridge leaves half as much again as the other, or more, it errs at what the other knows: its say goes to the other. Not where a training bursts, as at servers,
whose incidents are what all sources say a little of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.sources.base import Source
from models.sources.ridge import RidgeSource

_ALIKE, _SHARP = 1.5, 1.8
"""So many times what the sharp ridge leaves must the stiff one leave, at the median sensor, for it to be heard as much as ever at most, and not at all."""


def by_sharpness(
    weights: NDArray[np.float64], sources: Sequence[Source], spread: NDArray[np.float64], calm: float
) -> NDArray[np.float64]:
    """The `weights` float64[S] of `sources` with what is taken of the stiffest ridge's given to the softest; their sum stays.

    `spread` float64[S, F], a usual residual of each source in training; `calm`, 0 for a training that bursts and 1 for one that does not.
    """
    ridges = [(each.ridge, index) for index, each in enumerate(sources) if isinstance(each, RidgeSource)]
    if len(ridges) < 2:
        return weights
    (_, soft), (_, stiff) = min(ridges), max(ridges)
    times = float(np.median(spread[stiff] / spread[soft]))
    share = calm * np.clip((times - _ALIKE) / (_SHARP - _ALIKE), 0.0, 1.0)
    found = weights.copy()
    found[stiff] -= share * weights[stiff]
    found[soft] += share * weights[stiff]
    return found
