"""Rules that a minority of bad updates cannot move far, as TFF aggregations that see every site's update."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff


class Rule(ABC):
    """From updates `float32[n, D]`, n >= 1, to one `float32[D]`; n is known only when the graph runs."""

    @abstractmethod
    def combine(self, updates: Any) -> Any:
        """Build the operations."""


@dataclass(frozen=True)
class Median(Rule):
    """The median of each coordinate (Yin et al. 2018, "Byzantine-Robust Distributed Learning"); of an even number the middle two's mean."""

    def combine(self, updates: Any) -> Any:
        """See `Rule`."""
        count = tf.shape(updates)[0]
        ordered = tf.sort(updates, axis=0)
        return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


@dataclass(frozen=True)
class TrimmedMean(Rule):
    """The mean of each coordinate without its `share` lowest and its `share` highest values (Yin et al. 2018), rounded down."""

    share: float = 0.2

    def combine(self, updates: Any) -> Any:
        """See `Rule`."""
        count = tf.shape(updates)[0]
        cut = tf.cast(tf.math.floor(tf.cast(count, tf.float64) * self.share + 1e-9), tf.int32)
        return tf.reduce_mean(tf.sort(updates, axis=0)[cut : count - cut], axis=0)


@dataclass(frozen=True)
class MultiKrum(Rule):
    """The mean of the updates that lie nearest to others (Blanchard et al. 2017, "Machine Learning with Adversaries").

    An update's score is the sum of the squared distances to its n - `malicious` - 2 nearest; the n - `malicious` with the least
    are averaged.
    """

    malicious: int = 1

    def combine(self, updates: Any) -> Any:
        """See `Rule`."""
        count = tf.shape(updates)[0]
        wide = tf.cast(updates, tf.float64)
        # One pair at a time: the usual trick with the product of all pairs loses small distances beside a huge update.
        distances = tf.map_fn(lambda one: tf.reduce_sum(tf.square(wide - one), axis=1), wide)
        nearest = tf.maximum(count - self.malicious - 2, 1)
        # The first is the update itself.
        scores = tf.reduce_sum(tf.sort(distances, axis=1)[:, 1 : nearest + 1], axis=1)
        kept = tf.argsort(scores, stable=True)[: tf.maximum(count - self.malicious, 1)]
        return tf.reduce_mean(tf.gather(updates, kept), axis=0)


class RobustFactory(tff.aggregators.WeightedAggregationFactory):
    """Collects the updates at the server and combines them by a rule.

    Sites of positive weight count the same, those of weight 0 do not count. Memory at the server: all updates of a round.
    """

    def __init__(self, rule: Rule) -> None:
        """Use `rule`."""
        self.rule = rule

    def create(self, value_type: Any, weight_type: Any) -> tff.templates.AggregationProcess:
        """Build `(()@SERVER, V@CLIENTS, float32@CLIENTS) -> (()@SERVER, V@SERVER, ()@SERVER)` for a structure V of float32 tensors."""
        leaves = [leaf.shape for leaf in tff.structure.flatten(value_type)]
        sizes = [math.prod(shape) for shape in leaves]
        width = sum(sizes)
        rule = self.rule
        collected = tff.types.TensorType(np.float32, (None, width))

        @tff.tensorflow.computation(value_type, weight_type)
        def flatten(value: Any, weight: Any) -> Any:
            flat = tf.concat([tf.reshape(part, [-1]) for part in tf.nest.flatten(value)], axis=0)
            # Of a weight of 0 there is no row.
            return tf.ensure_shape(
                tf.boolean_mask(flat[tf.newaxis], tf.reshape(weight > 0, [1])), [None, width]
            )

        @tff.tensorflow.computation
        def nothing() -> Any:
            return tf.raw_ops.PlaceholderWithDefault(input=tf.zeros([0, width]), shape=[None, width])

        @tff.tensorflow.computation(collected, collected)
        def join(one: Any, other: Any) -> Any:
            return tf.concat([one, other], axis=0)

        @tff.tensorflow.computation(collected)
        def keep(all_of_them: Any) -> Any:
            return all_of_them

        @tff.tensorflow.computation(collected)
        def combine(updates: Any) -> Any:
            combined = tf.cond(
                tf.shape(updates)[0] > 0, lambda: rule.combine(updates), lambda: tf.zeros([width])
            )
            parts = tf.split(tf.ensure_shape(combined, [width]), sizes)
            shaped = [tf.reshape(part, shape) for part, shape in zip(parts, leaves, strict=True)]
            return tff.types.type_to_py_container(
                tff.structure.pack_sequence_as(value_type, shaped), value_type
            )

        @tff.federated_computation
        def initialize() -> Any:
            return tff.federated_value((), tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def aggregate(state: Any, value: Any, weight: Any) -> Any:
            rows = tff.federated_map(flatten, (value, weight))
            together = tff.federated_aggregate(rows, nothing(), join, join, keep)
            result = tff.federated_map(combine, together)
            return tff.templates.MeasuredProcessOutput(state, result, tff.federated_value((), tff.SERVER))

        return tff.templates.AggregationProcess(initialize, aggregate)
