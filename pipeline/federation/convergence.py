"""When to stop: the validation has not improved enough for some rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Convergence:
    """State of the stop rule; `best` is the lowest value so far, `reference` the one improvements are measured from."""

    patience: int
    min_improvement: float
    best: float = math.inf
    best_round: int = 0
    reference: float = math.inf
    waited: int = 0

    def after(self, round_number: int, validation: float | None) -> Convergence:
        """Give the rule after a round. Without validation the latest round is the best and nothing ever stops.

        A value that is not finite never improves.
        """
        if validation is None:
            return replace(self, best_round=round_number)
        known = math.isfinite(validation)
        better = known and validation < self.best
        # Small steps add up: the reference moves only when enough was gained since it was set.
        enough = known and (
            math.isinf(self.reference)
            or validation < self.reference - self.min_improvement * abs(self.reference)
        )
        return replace(
            self,
            best=validation if better else self.best,
            best_round=round_number if better else self.best_round,
            reference=validation if enough else self.reference,
            waited=0 if enough else self.waited + 1,
        )

    @property
    def stop(self) -> bool:
        """Whether training has converged."""
        return self.waited >= self.patience
