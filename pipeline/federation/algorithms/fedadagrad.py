"""Adagrad at the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.federation.algorithms.adaptive import AdaptiveServer


@dataclass(frozen=True, kw_only=True)
class FedAdagrad(AdaptiveServer):
    """v = v + u^2, without momentum."""

    name: ClassVar[str] = "fedadagrad"

    beta_1: float = 0.0

    def second(self, moment: Any, square: Any) -> Any:
        """See the class."""
        return moment + square
