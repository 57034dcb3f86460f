"""Federated averaging whose sites are held near the common weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.federation.algorithms.base import Algorithm, Site, Tensors


@dataclass(frozen=True, kw_only=True)
class FedProx(Algorithm):
    """Li et al. (2020), "Federated Optimization in Heterogeneous Networks".

    A site minimises its loss plus `proximal_strength` / 2 times its squared distance from the common weights.
    """

    name: ClassVar[str] = "fedprox"

    proximal_strength: float = 0.01

    def direction(self, gradients: Tensors, weights: Tensors, site: Site) -> Tensors:
        """Add the pull back to the common weights."""
        return [
            g + self.proximal_strength * (w - s)
            for g, w, s in zip(gradients, weights, site.start, strict=True)
        ]
