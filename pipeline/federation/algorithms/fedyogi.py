"""Yogi at the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.federation.algorithms.adaptive import AdaptiveServer


@dataclass(frozen=True, kw_only=True)
class FedYogi(AdaptiveServer):
    """v = v - (1 - beta_2) u^2 sign(v - u^2)."""

    name: ClassVar[str] = "fedyogi"

    beta_2: float = 0.99

    def second(self, moment: Any, square: Any) -> Any:
        """See the class."""
        import tensorflow as tf

        return moment - (1 - self.beta_2) * square * tf.sign(moment - square)
