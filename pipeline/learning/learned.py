"""What comes out of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector, Scores
from pipeline.artefacts import Curves


class Scorer(Protocol):
    """Anything that scores a run of one site: a detector or a baseline."""

    def score(self, site: str, values: NDArray[np.float64]) -> Scores:
        """Scores of `values`, `float64[N, F]` in sensor units."""

    def training_threshold(self, site: str) -> float:
        """The threshold that training set."""


@dataclass(frozen=True)
class Learned:
    """What came out of the training.

    Attributes:
      scorers: by way of training, by site.
      detector: the federated one, which is exported; None if it was not asked for.
      curves: learning curves of the trained modes; for `local` the mean over sites.
      privacy: what noise promises, by what was shared: `rounds`, `statistics`; empty without noise.
      personal: by site with weights of its own, or its group's, whose they are.
      network: weights of the federated network, None without one; `own_networks` those of the sites in `personal`.
      remarks: site and remark of those that took no part in what the federated detector is made from, or less than they would have, or are followed early.
    """

    scorers: Mapping[str, Mapping[str, Scorer]]
    detector: Detector | None
    curves: Curves
    privacy: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    personal: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[tuple[str, str], ...] = ()
    network: Sequence[NDArray[np.float32]] | None = None
    own_networks: Mapping[str, Sequence[NDArray[np.float32]]] = field(default_factory=dict)
