"""Sums from which linear sources are fitted exactly: adding those of two stretches gives that of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class GramStatistics:
    """`gram` float64[D, D], the sum of x x' over `rows` rows of a design that ends in a constant 1."""

    gram: NDArray[np.float64]
    rows: float

    @classmethod
    def empty(cls, width: int) -> GramStatistics:
        """No row seen of a design of `width` columns."""
        return cls(np.zeros((width, width)), 0.0)

    @classmethod
    def of(cls, design: NDArray[np.float64]) -> GramStatistics:
        """Sum over the rows of a finite design float64[N, D]; N may be 0."""
        return cls(design.T @ design, float(len(design)))

    def plus(self, other: GramStatistics, weight: float = 1.0) -> GramStatistics:
        """This and `weight` times the other; -1 takes out what was added before.

        Raises:
          InvalidInput: they are sums over designs of different width.
        """
        if self.gram.shape != other.gram.shape:
            raise InvalidInput(
                f"statistics over {len(self.gram)} and {len(other.gram)} columns cannot be added; "
                "use the same sensors at every site"
            )
        return GramStatistics(self.gram + weight * other.gram, self.rows + weight * other.rows)

    def per_row(self) -> GramStatistics:
        """The mean over rows, as statistics of one row; empty ones stay empty."""
        share = 1.0 / self.rows if self.rows > 0 else 0.0
        return GramStatistics(self.gram * share, self.rows * share)

    def now(self, sensors: int) -> GramStatistics:
        """The part of a design `[z_t | z_{t-1} | .. | 1]` that is of its so many sensors now and the constant."""
        kept = [*range(sensors), len(self.gram) - 1]
        return GramStatistics(self.gram[np.ix_(kept, kept)], self.rows)

    def unexplained(self, coefficients: NDArray[np.floating]) -> NDArray[np.float64]:
        """Sum over the rows of (x_f - x'c_f)^2, float64[F], for coefficients c float[D, F] that predict the first F columns."""
        left = -np.asarray(coefficients, np.float64)
        left[np.arange(left.shape[1]), np.arange(left.shape[1])] += 1.0
        return np.asarray(np.maximum(np.einsum("df,df->f", left, self.gram @ left), 0.0))

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-safe form; the float64 values survive exactly."""
        return {"gram": self.gram.tolist(), "rows": self.rows}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> GramStatistics:
        """Read back what `to_dict` gave.

        Raises:
          InvalidInput: not a finite square matrix and a count.
        """
        try:
            found = cls(np.asarray(value["gram"], np.float64), float(value["rows"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"not Gram statistics: {error}") from error
        square = found.gram.ndim == 2 and found.gram.shape[0] == found.gram.shape[1]
        if not square or not np.isfinite(found.gram).all() or not 0 <= found.rows < np.inf:
            raise InvalidInput(
                f"Gram statistics of shape {found.gram.shape} over {found.rows} rows; expected a finite square matrix"
            )
        return found


def federated_prior(statistics: Sequence[GramStatistics]) -> GramStatistics | None:
    """What an average site's row adds: the mean over sites of their statistics per row; None if no site has a row.

    Every site weighs the same, however much data it has. It is a sum over sites, so it fits secure aggregation.
    """
    filled = [each.per_row() for each in statistics if each.rows > 0]
    if not filled:
        return None
    total = filled[0]
    for each in filled[1:]:
        total = total.plus(each)
    return GramStatistics(total.gram / len(filled), 1.0)
