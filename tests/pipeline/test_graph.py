"""A compiled computation as a function of flat lists: every output in its place, for every thread its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from pipeline.federation.graph import PlainGraph


@tff.tensorflow.computation(np.str_, tff.TensorType(np.float32, [None]))
def doubled(name, values):
    total = tf.while_loop(
        lambda step, _: step < 200, lambda step, sum_: (step + 1, sum_ + values), (0, 0 * values)
    )[1]
    return total, total, name, tf.size(values)


def test_outputs_come_in_order_also_one_bound_twice_or_given_back_and_inputs_take_the_type_they_are_asked_for() -> (
    None
):
    graph = PlainGraph(doubled)
    first, again, name, size = graph(["east", [1, 2]])
    assert first.tolist() == again.tolist() == [200.0, 400.0]
    assert (first.dtype, name, size) == (np.float32, b"east", 2)
    with pytest.raises(ValueError, match="longer"):
        graph(["east"])
    graph.close()


def test_threads_that_call_at_once_each_get_their_own() -> None:
    graph = PlainGraph(doubled)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: graph([str(number), np.full(1000, number)]), range(64)))
    for number, (total, _, name, _) in enumerate(found):
        assert np.all(total == 200 * number)
        assert name == str(number).encode()
    graph.close()


def test_what_an_operation_complains_of_is_tensorflows_own_error() -> None:
    @tff.tensorflow.computation(np.str_)
    def size(path):
        return tf.strings.length(tf.io.read_file(path))

    graph = PlainGraph(size)
    with pytest.raises(tf.errors.NotFoundError, match="/none"):
        graph(["/none"])
    graph.close()


def test_a_computation_that_gives_nothing_gives_nothing() -> None:
    graph = PlainGraph(tff.tensorflow.computation(lambda: ()))
    assert graph([]) == []
    graph.close()


def test_what_a_graph_has_to_set_up_is_there_and_after_its_end_nothing_is() -> None:
    @tff.tensorflow.computation(np.float32)
    def more(value):
        return value + tf.Variable(3.0)

    graph = PlainGraph(more)
    assert graph([1.0]) == [4.0]
    graph.close()
    with pytest.raises(tf.errors.CancelledError, match="closed"):
        graph([1.0])


def test_what_is_not_one_graph_of_tensors_is_refused() -> None:
    @tff.tensorflow.computation(tff.SequenceType(np.float32))
    def total(values):
        return values.reduce(0.0, lambda one, other: one + other)

    with pytest.raises(TypeError, match="tensors only, got a binding of 'sequence'"):
        PlainGraph(total)
    with pytest.raises(TypeError, match="expected a TensorFlow computation, got 'lambda'"):
        PlainGraph(tff.federated_computation(lambda value: value, np.float32))
