"""A TFF TensorFlow computation as a plain TensorFlow function of flat lists of arrays.

TFF serialises a computation as one `GraphDef` with bindings that name the tensors of its parameter and result. Running
that graph in a session gives the same arithmetic without TFF's runtime: no worker process, no port, no cached executors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2


def _flat_names(binding: Any) -> list[str]:
    kind = binding.WhichOneof("binding")
    if kind is None:
        return []
    if kind == "tensor":
        return [binding.tensor.tensor_name]
    if kind == "struct":
        return [name for element in binding.struct.element for name in _flat_names(element)]
    raise TypeError(
        f"a computation that runs in-process takes and gives tensors only, got a binding of {kind!r}"
    )


class PlainGraph:
    """One compiled computation, callable as `graph(inputs) -> outputs` on flat lists in TFF's type order."""

    def __init__(self, computation: Any) -> None:
        """Import the graph of `computation`, a `tff.Computation` that is TensorFlow only.

        Raises:
          TypeError: it is not one TensorFlow graph, or it passes sequences.
        """
        proto = tff.framework.serialize_computation(computation)
        if proto.WhichOneof("computation") != "tensorflow":
            raise TypeError(f"expected a TensorFlow computation, got {proto.WhichOneof('computation')!r}")
        self.type_signature = computation.type_signature
        self.graph_def = tf.compat.v1.GraphDef()
        proto.tensorflow.graph_def.Unpack(self.graph_def)
        self.input_names = _flat_names(proto.tensorflow.parameter)
        self.output_names = _flat_names(proto.tensorflow.result)
        # A graph of its own, not a tf.function: TFF reuses function names between computations of one process,
        # and the eager context has one library for all.
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(self.graph_def, name="")
        config = tf.compat.v1.ConfigProto()
        # This pass fails on the while loop of a training step and prints an error; nothing is lost without it.
        config.graph_options.rewrite_options.function_optimization = rewriter_config_pb2.RewriterConfig.OFF
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        if proto.tensorflow.initialize_op:
            self._session.run(graph.as_graph_element(proto.tensorflow.initialize_op))
        self._dtypes = [graph.get_tensor_by_name(name).dtype.as_numpy_dtype for name in self.input_names]
        self._call: Any = None
        if not self.output_names:
            # What a sum that needs no model gets to know of it; TensorFlow refuses to make a callable of nothing.
            return
        # Made once, here: `run` would optimise the graph anew in each thread that comes before the first is through.
        # Not part of TensorFlow's public face; 2.14 is pinned.
        self._call = self._session._make_callable_from_options(
            config_pb2.CallableOptions(feed=self.input_names, fetch=self.output_names)
        )

    def __call__(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """Run the graph; `inputs` and the result are flat, in the order of TFF's type. Several threads may call it at once."""
        if self._call is None:
            return []
        values = (np.asarray(value, dtype) for value, dtype in zip(inputs, self._dtypes, strict=True))
        found: list[np.ndarray] = self._call(*values)
        return found

    def close(self) -> None:
        """Free the session."""
        self._session.close()
