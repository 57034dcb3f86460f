"""What readings and residuals with gaps, float64[N, F], usually are: of each sensor over its known cells, float64[F], 0 without any."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LARGEST_SQUARE = 25.0
"""Times the mean square that a square counts for at most where a usual size is asked for."""


def known_mean(values: NDArray[np.float64], known: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Mean, over the cells that are finite unless bool[N, F] says which are `known`."""
    known = np.isfinite(values) if known is None else known
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def known_deviation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation."""
    return np.asarray(np.sqrt(known_mean((values - known_mean(values)) ** 2)))


def known_size(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square, with squares limited to 25 times their mean."""
    square = residual**2
    return np.asarray(np.sqrt(known_mean(np.minimum(square, _LARGEST_SQUARE * known_mean(square)))))


def known_tail(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 99 % quantile."""
    known = np.isfinite(values)
    if known.all():
        return np.asarray(np.quantile(values, 0.99, axis=0))
    return np.array(
        [
            np.quantile(column[of], 0.99) if of.any() else 0.0
            for column, of in zip(values.T, known.T, strict=True)
        ]
    )
