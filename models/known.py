"""Means over what is known of readings with gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def known_mean(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of each column of float64[N, F] over its known cells, bool[N, F]: float64[F], 0 without any."""
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
