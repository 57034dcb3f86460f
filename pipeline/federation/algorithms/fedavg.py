"""Federated averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.federation.algorithms.base import Algorithm


@dataclass(frozen=True, kw_only=True)
class FedAvg(Algorithm):
    """McMahan et al. (2017), "Communication-Efficient Learning of Deep Networks from Decentralized Data".

    Sites take their steps alone; the server moves along the mean of their updates. With a server learning rate of 1 the new
    weights are the mean of the sites' weights.
    """

    name: ClassVar[str] = "fedavg"
