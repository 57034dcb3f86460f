"""A peer of `round.py`: the same rounds in pfl's simulation, in an environment of its own.

    python round_pfl.py HANDED.npz ROUNDS

Prints one JSON object with the seconds of each round.
"""

import itertools
import json
import logging
import sys
import time

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNTrainHyperParams
from pfl.model.pytorch import PyTorchModel
from round_torch import BATCH, LEARNING_RATE, make_model, read_handed
from torch import nn


class Autoencoder(nn.Module):
    """The network with the loss as pfl asks for it."""

    def __init__(self, layers: nn.Sequential) -> None:
        """Take the network."""
        super().__init__()
        self.layers = layers

    def loss(self, frames: torch.Tensor, *, is_train: bool = True) -> torch.Tensor:
        """Huber loss of the reconstruction."""
        return nn.functional.huber_loss(self.layers(frames), frames)

    def metrics(self, frames: torch.Tensor) -> dict[str, float]:
        """None: nothing is evaluated."""
        return {}


class Clock(TrainingProcessCallback):
    """Seconds between the ends of rounds."""

    def __init__(self) -> None:
        """Start when training begins."""
        self.seconds: list[float] = []
        self._last = time.perf_counter()

    def on_train_begin(self, *, model: object) -> object:
        """The clock starts."""
        self._last = time.perf_counter()
        return super().on_train_begin(model=model)

    def after_central_iteration(self, *args: object, **named: object) -> object:
        """A round ended."""
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
        return super().after_central_iteration(*args, **named)


def main() -> None:
    """Run the rounds."""
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    weights, frames = read_handed(sys.argv[1])
    rounds = int(sys.argv[2])
    module = Autoencoder(make_model(weights))
    model = PyTorchModel(
        module,
        lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, eps=1e-7),
        torch.optim.SGD(module.parameters(), lr=1.0),
    )

    def site(name: str) -> Dataset:
        order = torch.randperm(len(frames[int(name)]))
        return Dataset((frames[int(name)][order],), user_id=name)

    numbers = itertools.count()
    data = FederatedDataset(site, lambda: str(next(numbers) % len(frames)))
    clock = Clock()
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=10**6,
            train_cohort_size=len(frames),
            val_cohort_size=None,
        ),
        SimulatedBackend(data, data),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=LEARNING_RATE, local_batch_size=BATCH),
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    moved = max(
        float((parameter.detach() - weight).abs().max())
        for parameter, weight in zip(module.parameters(), weights, strict=True)
    )
    assert moved > 0 and np.isfinite(moved)
    print(json.dumps({"seconds": clock.seconds, "moved": moved}))


if __name__ == "__main__":
    main()
