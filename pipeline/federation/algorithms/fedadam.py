"""Adam at the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.federation.algorithms.adaptive import AdaptiveServer


@dataclass(frozen=True, kw_only=True)
class FedAdam(AdaptiveServer):
    """v = beta_2 v + (1 - beta_2) u^2."""

    name: ClassVar[str] = "fedadam"

    beta_2: float = 0.99

    def second(self, moment: Any, square: Any) -> Any:
        """See the class."""
        return self.beta_2 * moment + (1 - self.beta_2) * square
