"""Algorithms by name, one file each: frozen parameters, their paper, their formulas. Importing them imports no TensorFlow."""

from __future__ import annotations

from pipeline.federation.algorithms.base import Algorithm
from pipeline.federation.algorithms.fedadagrad import FedAdagrad
from pipeline.federation.algorithms.fedadam import FedAdam
from pipeline.federation.algorithms.fedavg import FedAvg
from pipeline.federation.algorithms.fedavgm import FedAvgM
from pipeline.federation.algorithms.fedprox import FedProx
from pipeline.federation.algorithms.fedyogi import FedYogi
from pipeline.federation.algorithms.mimelite import MimeLite
from pipeline.federation.algorithms.scaffold import Scaffold

ALGORITHMS: dict[str, type[Algorithm]] = {
    kind.name: kind for kind in (FedAvg, FedProx, FedAdam, FedYogi, FedAdagrad, FedAvgM, MimeLite, Scaffold)
}

__all__ = ["ALGORITHMS", "Algorithm"]
