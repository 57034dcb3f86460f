"""Two ways to execute the same process: the compiled plan in plain TensorFlow, and TFF's native runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from pipeline.datasets.frames import limited, spec_paths
from pipeline.errors import TrainingFailed
from pipeline.federation.allocator import keep_freed_memory
from pipeline.federation.form import CompiledForm
from pipeline.federation.graph import PlainGraph
from pipeline.federation.process import Process
from pipeline.federation.screening import diverged, too_long
from pipeline.federation.settings import RuntimeName

State = list[Any]


@dataclass(frozen=True)
class Outcome:
    """A round: the new state (flat), mean loss, frames trained on, the clients that were left out with the reason, and those whose
    update was shortened with how many times as long as a typical one it was."""

    state: State
    loss: float
    frames: int
    failed: Mapping[str, str]
    shortened: Mapping[str, float] = field(default_factory=dict)


class Runtime(Protocol):
    """Executes a process; states are flat lists of arrays, model weights first."""

    def initialize(self) -> State:
        """Give the state before the first round."""

    def round(self, state: State, specs: Mapping[str, str]) -> Outcome:
        """Train one round on the shard spec of each client."""

    def evaluate(self, state: State, specs: Mapping[str, str]) -> dict[str, tuple[float, int]]:
        """Give loss sum and frames per client; clients whose shard cannot be read are missing."""

    def close(self) -> None:
        """Free what it holds."""


class InProcess:
    """Runs the `MapReduceForm` of the process in this process: no worker, no port, no cache that grows.

    Each client's work is run by itself, as many at a time as there are cores, so a client that fails is known by name and the others are not run again. All updates of
    a round are held until it is known which of them count.
    """

    def __init__(self, process: Process) -> None:
        """Compile the process."""
        keep_freed_memory()
        self._form = CompiledForm(process.learning.initialize, process.learning.next)
        self._evaluate = PlainGraph(process.evaluate_shard)
        self._leaves = process.weight_leaves
        self._bounds_updates = process.bounds_updates
        # A step leaves cores idle between its operations; a session may be run by several threads.
        self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "fedplant-client")

    def initialize(self) -> State:
        """See `Runtime`."""
        return self._form.initialize()

    def round(self, state: State, specs: Mapping[str, str]) -> Outcome:
        """See `Runtime`."""
        prepared = self._form.prepare(state)
        results = self._each(lambda spec: self._form.work(spec, prepared), specs)
        done = {client: found for client, found in results.items() if isinstance(found, list)}
        failed = {
            client: f"its shard cannot be read ({type(error).__name__})"
            for client, error in results.items()
            if client not in done
        }
        # A site without a frame takes no step and says nothing.
        worked = {client: update for client, update in done.items() if self._told(update, "steps") > 0}
        failed.update(
            (client, "its update is not finite")
            for client, update in worked.items()
            if not self._told(update, "sites") or not _finite(update)
        )
        norms = {
            client: float(np.sqrt(self._told(update, "squared_norm")))
            for client, update in worked.items()
            if client not in failed
        }
        steps = {client: int(self._told(worked[client], "steps")) for client in norms}
        failed.update(diverged(norms, steps))
        shortened = self._shortened(worked, failed, norms, steps, specs, prepared)
        left = {client: update for client, update in worked.items() if client not in failed}
        while left:
            new, (loss, frames) = self._form.combine(state, left.values())
            if all(np.isfinite(value).all() for value in new[: self._leaves]):
                return Outcome(new, float(loss), int(frames), failed, shortened)
            # Finite each, not in sum: too few sites to compare, so the longest goes.
            longest = max(left, key=lambda client: norms[client])
            failed[longest] = f"its update diverged: its length is {norms[longest]:.3g}"
            del left[longest]
        return Outcome(state, float("nan"), 0, failed)

    def _shortened(
        self,
        worked: dict[str, list[Any]],
        failed: dict[str, str],
        norms: Mapping[str, float],
        steps: Mapping[str, int],
        specs: Mapping[str, str],
        prepared: Sequence[Any],
    ) -> dict[str, float]:
        """Let clients whose update would outweigh the others' do their work again with a limit; one that does not keep to it has failed."""
        left = {client: norm for client, norm in norms.items() if client not in failed}
        limits = too_long(left, steps) if self._bounds_updates else {}
        again = {client: limited(specs[client], longest) for client, longest in limits.items()}
        for client, found in self._each(lambda spec: self._form.work(spec, prepared), again).items():
            kept = isinstance(found, list) and _finite(found)
            if kept and np.sqrt(self._told(found, "squared_norm")) <= limits[client] * (1 + 1e-3):
                worked[client] = found
            else:
                failed[client] = (
                    f"its update of length {norms[client]:.3g} stays longer than the limit of {limits[client]:.3g}"
                )
        return {client: norms[client] / limits[client] for client in limits if client not in failed}

    def _told(self, update: list[Any], name: str) -> float:
        return float(update[self._form.place(name)])

    def evaluate(self, state: State, specs: Mapping[str, str]) -> dict[str, tuple[float, int]]:
        """See `Runtime`."""
        results = self._each(lambda spec: self._evaluate([*state[: self._leaves], spec]), specs)
        return {
            client: (float(found[0]), int(found[1]))
            for client, found in results.items()
            if isinstance(found, list)
        }

    def _each(
        self, call: Callable[[str], list[Any]], specs: Mapping[str, str]
    ) -> dict[str, list[Any] | tf.errors.OpError]:
        """What the call gives for each client, or why it could not; in the order of the clients, several at a time."""

        def one(spec: str) -> list[Any] | tf.errors.OpError:
            try:
                return call(spec)
            except tf.errors.OpError as error:
                return error

        return dict(zip(specs, self._threads.map(one, specs.values()), strict=True))

    def close(self) -> None:
        """See `Runtime`."""
        self._threads.shutdown()
        self._form.close()
        self._evaluate.close()


def _finite(values: Sequence[Any]) -> bool:
    """A site says so of its update itself; whether what arrived is, is looked at again."""
    return all(np.isfinite(value).all() for value in values if np.asarray(value).dtype.kind == "f")


class Native:
    """TFF's C++ runtime, the reference that tests compare with."""

    def __init__(self, process: Process) -> None:
        """Start nothing yet; the worker starts with the first call."""
        from pipeline.federation.worker import guarded_context

        self._process = process
        self._context = guarded_context()
        weights_type = process.learning.get_model_weights.type_signature.result

        @tff.federated_computation(
            tff.FederatedType(weights_type, tff.SERVER), tff.FederatedType(np.str_, tff.CLIENTS)
        )
        def evaluate(weights: Any, paths: Any) -> Any:
            return tff.federated_map(process.evaluate_shard, (tff.federated_broadcast(weights), paths))

        self._evaluate = evaluate
        self._template: Any = None

    def initialize(self) -> State:
        """See `Runtime`."""
        with self._context.install():
            self._template = self._process.learning.initialize()
        return tf.nest.flatten(self._template)

    def _pack(self, state: Sequence[Any]) -> Any:
        if self._template is None:
            self.initialize()
        return tf.nest.pack_sequence_as(self._template, list(state))

    def round(self, state: State, specs: Mapping[str, str]) -> Outcome:
        """See `Runtime`; a client whose update is not finite weighs nothing, but is not named, and one that diverged is not seen."""
        failed = {
            client: "its shard cannot be read (NotFoundError)"
            for client, spec in specs.items()
            if not all(tf.io.gfile.exists(path) for path in spec_paths(spec))
        }
        left = [spec for client, spec in specs.items() if client not in failed]
        if not left:
            return Outcome(state, float("nan"), 0, failed)
        with self._context.install():
            output = self._process.learning.next(self._pack(state), left)
        metrics = output.metrics
        return Outcome(tf.nest.flatten(output.state), float(metrics["loss"]), int(metrics["frames"]), failed)

    def evaluate(self, state: State, specs: Mapping[str, str]) -> dict[str, tuple[float, int]]:
        """See `Runtime`."""
        with self._context.install():
            weights = self._process.learning.get_model_weights(self._pack(state))
            values = self._evaluate(weights, list(specs.values()))
        return {
            client: (float(value["loss_sum"]), int(value["frames"]))
            for client, value in zip(specs, values, strict=True)
        }

    def close(self) -> None:
        """See `Runtime`."""
        self._context.close()


def open_runtime(name: RuntimeName, process: Process) -> Runtime:
    """Give the runtime `name` for this process.

    Raises:
      TrainingFailed: TFF's worker program is missing.
    """
    if name == "in-process":
        return InProcess(process)
    try:
        return Native(process)
    except RuntimeError as error:
        raise TrainingFailed(
            f"TFF's native runtime does not start ({error}); use runtime = 'in-process'"
        ) from error
