"""The peer of `round.py`: one federated round of the same arithmetic in plain PyTorch on one thread.

Runs in an environment of its own. Reads initial weights and rows from a file, then one line from standard input starts a
round: `ordered` keeps the frames in time order, `shuffled` draws a new order. Prints one JSON object per round.
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn

BATCH, LEARNING_RATE = 64, 1e-3


def read_handed(path: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Give the initial weights in PyTorch's order and each site's frames."""
    with np.load(path) as file:
        steps = int(file["steps"])
        weights = [
            torch.from_numpy(file[f"w{i}"].T.copy() if i % 2 == 0 else file[f"w{i}"]) for i in range(8)
        ]
        rows = [torch.from_numpy(site) for site in file["rows"]]
    # As cheap for PyTorch as it can be: all frames are cut before the clock starts, ours are cut inside the round.
    return weights, [
        site.unfold(0, steps, 1).transpose(1, 2).reshape(-1, weights[0].shape[1]) for site in rows
    ]


def make_model(weights: list[torch.Tensor]) -> nn.Sequential:
    """The autoencoder with these weights."""
    layers: list[nn.Module] = []
    for weight in weights[::2]:
        layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return model


def main() -> None:
    """Serve rounds until standard input ends."""
    torch.set_num_threads(1)
    weights, frames = read_handed(sys.argv[1])
    model = make_model(weights)
    print(json.dumps({"torch": torch.__version__}), flush=True)
    generator = torch.Generator().manual_seed(1)
    for line in sys.stdin:
        print(json.dumps(play(model, weights, frames, line.strip() == "shuffled", generator)), flush=True)


def play(
    model: nn.Module,
    weights: list[torch.Tensor],
    frames: list[torch.Tensor],
    shuffled: bool,
    generator: torch.Generator,
) -> dict[str, float]:
    """One round from `weights`: seconds, mean training loss, and the norm of the averaged update."""
    began = time.perf_counter()
    parameters = list(model.parameters())
    total = [torch.zeros_like(weight) for weight in weights]
    loss_sum, count = 0.0, 0
    for site in frames:
        with torch.no_grad():
            for parameter, weight in zip(parameters, weights, strict=True):
                parameter.copy_(weight)
        optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE, eps=1e-7)
        order = torch.randperm(len(site), generator=generator) if shuffled else torch.arange(len(site))
        for chosen in order.split(BATCH):
            batch = site[chosen]
            optimiser.zero_grad()
            loss = nn.functional.huber_loss(model(batch), batch)
            loss.backward()
            optimiser.step()
            loss_sum += loss.item() * len(batch)
        with torch.no_grad():
            for part, parameter, weight in zip(total, parameters, weights, strict=True):
                part += (parameter - weight) * len(site)
        count += len(site)
    norm = torch.stack([(part / count).square().sum() for part in total]).sum().sqrt().item()
    return {"seconds": time.perf_counter() - began, "loss": loss_sum / count, "update_norm": norm}


if __name__ == "__main__":
    main()
