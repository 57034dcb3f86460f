"""A peer of `round.py`: the same rounds in Flower's simulation, in an environment of its own.

    python round_flower.py HANDED.npz ROUNDS

Prints one JSON object with the seconds of each round, from the strategy's configuration of a round to that of the next.
"""

import json
import logging
import os
import sys
import time
from typing import Any

os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from round_torch import BATCH, LEARNING_RATE, make_model, read_handed
from torch import nn

HANDED, ROUNDS = sys.argv[1], int(sys.argv[2])
SECONDS: list[float] = []
client = ClientApp()
server = ServerApp()
_SITES: dict[int, torch.Tensor] = {}


@client.train()
def train(message: Message, context: Context) -> Message:
    """One site's epoch."""
    torch.set_num_threads(1)
    site = int(context.node_config["partition-id"])
    if site not in _SITES:
        _SITES.update(enumerate(read_handed(HANDED)[1]))
    data = _SITES[site]
    state = message.content["arrays"].to_torch_state_dict()
    model = make_model([state[name] for name in state])
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=1e-7)
    for chosen in torch.randperm(len(data)).split(BATCH):
        optimiser.zero_grad()
        nn.functional.huber_loss(model(data[chosen]), data[chosen]).backward()
        optimiser.step()
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": len(data)}),
        }
    )
    return Message(content=content, reply_to=message)


class Timed(FedAvg):
    """Federated averaging that notes when a round begins and when its updates are averaged."""

    def configure_train(self, *args: Any, **named: Any) -> Any:
        """A round begins."""
        self.began = time.perf_counter()
        return super().configure_train(*args, **named)

    def aggregate_train(self, *args: Any, **named: Any) -> Any:
        """A round ends."""
        found = super().aggregate_train(*args, **named)
        SECONDS.append(time.perf_counter() - self.began)
        return found


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """All rounds."""
    weights, frames = read_handed(HANDED)
    strategy = Timed(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=len(frames),
        min_available_nodes=len(frames),
    )
    strategy.start(grid=grid, initial_arrays=ArrayRecord(make_model(weights).state_dict()), num_rounds=ROUNDS)


def main() -> None:
    """Run the rounds."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    _, frames = read_handed(HANDED)
    # One actor a core is what Flower's documentation asks for; two actors were no faster here, the cores share a unit.
    run_simulation(
        server,
        client,
        num_supernodes=len(frames),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    print(json.dumps({"seconds": SECONDS}))


if __name__ == "__main__":
    main()
