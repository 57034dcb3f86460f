"""A federated computation compiled to `MapReduceForm`: its parts as plain TensorFlow graphs, run one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from pipeline.federation.graph import PlainGraph

Values = list[Any]


class CompiledForm:
    """`initialize` and `next` of an iterative process; all values are flat lists in the order of TFF's types.

    A round is `prepare` the state, `work` at each client, `combine` what came back into the new state and the measurements.
    """

    def __init__(self, initialize: Any, next_computation: Any) -> None:
        """Compile `( -> S@SERVER)` and `(S@SERVER, {string}@CLIENTS) -> (S, M)@SERVER`."""
        mapreduce = tff.backends.mapreduce
        # The sessions optimise the graphs; TFF's own pass before them finds nothing and prints errors.
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        form = mapreduce.get_map_reduce_form_for_computation(next_computation, grappler_config=config)
        self._initialize = PlainGraph(mapreduce.get_state_initialization_computation(initialize))
        self._prepare = PlainGraph(form.prepare)
        self._work = PlainGraph(form.work)
        self._zero = PlainGraph(form.zero)
        self._accumulate = PlainGraph(form.accumulate)
        self._report = PlainGraph(form.report)
        self._update = PlainGraph(form.update)
        names = [name for name, _ in _leaves(form.work.type_signature.result)]
        self._places = {name: place for place, name in enumerate(names) if names.count(name) == 1}

    def initialize(self) -> Values:
        """Give the state before the first round."""
        return self._initialize([])

    def prepare(self, state: Sequence[Any]) -> Values:
        """Give what every client gets of the state."""
        return self._prepare(state)

    def work(self, spec: str, prepared: Sequence[Any]) -> Values:
        """One client's part of a round.

        Raises:
          tf.errors.OpError: its data cannot be read.
        """
        return self._work([spec, *prepared])

    def place(self, name: str) -> int:
        """Where the leaf called `name` lies in what `work` gives."""
        return self._places[name]

    def combine(self, state: Sequence[Any], results: Iterable[Sequence[Any]]) -> tuple[Values, Values]:
        """Give the new state and the measurements from the clients' results."""
        total = self._zero([])
        for result in results:
            total = self._accumulate([*total, *result])
        values = self._update([*state, *self._report(total)])
        return values[: len(state)], values[len(state) :]

    def close(self) -> None:
        """Free the graphs."""
        for graph in (
            self._initialize,
            self._prepare,
            self._work,
            self._zero,
            self._accumulate,
            self._report,
            self._update,
        ):
            graph.close()


def _leaves(kind: Any, name: str = "") -> list[tuple[str, np.dtype[Any]]]:
    if isinstance(kind, tff.TensorType):
        return [(name, kind.dtype)]
    found = []
    for field, member in tff.structure.iter_elements(kind):
        found += _leaves(member, field or name)
    return found
