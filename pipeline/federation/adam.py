"""Adam for a site's steps in one operation a tensor."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
# TensorFlow's name for a resource without a name: every execution of the operation gives a new one.
_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"


class FusedAdam(tff.learning.optimizers.Optimizer):
    """Adam (Kingma, Ba 2015, the form before their section 2.1 with epsilon hat) by TensorFlow's `ResourceApplyAdam`.

    `tff.learning.optimizers.build_adam` is a chain of twelve element-wise operations that each write a new tensor; this
    goes over weights and moments once. State: `step` int64, and the moments `m`, `v`, each as the weights.
    """

    def __init__(self, learning_rate: float) -> None:
        """Take the step size, positive."""
        self._learning_rate = learning_rate

    def initialize(self, specs: Any) -> Any:
        """Give the state before the first step for weights of these `tf.TensorSpec`s."""

        def zeros() -> Any:
            return tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), specs)

        return collections.OrderedDict(step=tf.constant(0, tf.int64), m=zeros(), v=zeros())

    def next(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, Any]:
        """Give state and weights after a step; a tensor whose gradient is None stays."""
        step = state["step"] + 1
        passed = tf.cast(step, tf.float32)
        powers = tf.pow(np.float32(_BETA_1), passed), tf.pow(np.float32(_BETA_2), passed)
        new = [
            (weight, m, v) if gradient is None else self._apply(weight, m, v, gradient, powers)
            for weight, m, v, gradient in zip(
                tf.nest.flatten(weights),
                tf.nest.flatten(state["m"]),
                tf.nest.flatten(state["v"]),
                tf.nest.flatten(gradients),
                strict=True,
            )
        ]
        packed = [tf.nest.pack_sequence_as(weights, [parts[i] for parts in new]) for i in range(3)]
        return collections.OrderedDict(step=step, m=packed[1], v=packed[2]), packed[0]

    def _apply(self, weight: Any, m: Any, v: Any, gradient: Any, powers: tuple[Any, Any]) -> tuple[Any, ...]:
        handles, filled = [], []
        for value in (weight, m, v):
            handle = tf.raw_ops.VarHandleOp(dtype=value.dtype, shape=value.shape, shared_name=_ANONYMOUS)
            filled.append(tf.raw_ops.AssignVariableOp(resource=handle, value=value))
            handles.append(handle)
        with tf.control_dependencies(filled):
            done = tf.raw_ops.ResourceApplyAdam(
                var=handles[0],
                m=handles[1],
                v=handles[2],
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=np.float32(self._learning_rate),
                beta1=np.float32(_BETA_1),
                beta2=np.float32(_BETA_2),
                epsilon=np.float32(_EPSILON),
                grad=gradient,
            )
        with tf.control_dependencies([done]):
            return tuple(tf.raw_ops.ReadVariableOp(resource=h, dtype=weight.dtype) for h in handles)
