"""Optimisers of a site's steps: weights and moments lie in resources of the graph and change in place.

TFF's optimisers pass tensors and write a new one in each of a dozen operations a step; these go over the memory once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

# TensorFlow's name for a resource without a name: every execution of the operation gives a new one.
_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"


class InPlace:
    """Tensors that change: one resource each, which lives as long as the run of the graph that made it."""

    def __init__(self, values: Sequence[Any]) -> None:
        """Begin with `values`."""
        self.handles = []
        for value in values:
            handle = tf.raw_ops.VarHandleOp(dtype=value.dtype, shape=value.shape, shared_name=_ANONYMOUS)
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)
            self.handles.append(handle)
        self._kinds = [(value.dtype, value.shape) for value in values]

    def read(self) -> list[Any]:
        """Give the values now."""
        return [
            tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype), shape)
            for handle, (dtype, shape) in zip(self.handles, self._kinds, strict=True)
        ]


@dataclass(frozen=True)
class Step:
    """What a step is made of: the weights as they are (`values`), their gradients, the rate, and its number, float32 from 1."""

    values: Sequence[Any]
    gradients: Sequence[Any]
    learning_rate: Any
    number: Any


@dataclass(frozen=True)
class Optimizer(ABC):
    """Frozen parameters; `moments` tensors a weight are kept between the steps of one round."""

    moments = 0

    def begin(self, weights: Sequence[Any]) -> list[InPlace]:
        """Give the moments before the first step."""
        return [InPlace([tf.zeros_like(weight) for weight in weights]) for _ in range(self.moments)]

    @abstractmethod
    def step(self, weights: InPlace, moments: list[InPlace], step: Step) -> None:
        """Change weights and moments."""


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Gradient descent."""

    def step(self, weights: InPlace, moments: list[InPlace], step: Step) -> None:
        """See `Optimizer`."""
        for handle, gradient in zip(weights.handles, step.gradients, strict=True):
            # Not ResourceApplyGradientDescent: TFF's worker rounds it differently.
            tf.raw_ops.AssignSubVariableOp(resource=handle, value=step.learning_rate * gradient)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma, Ba (2015), the form before their section 2.1, with epsilon hat.

    `weight_decay` times learning rate and weight is taken off beside the step: AdamW (Loshchilov, Hutter 2019).
    """

    moments = 2

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.0

    def step(self, weights: InPlace, moments: list[InPlace], step: Step) -> None:
        """See `Optimizer`."""
        powers = tf.pow(self.beta_1, step.number), tf.pow(self.beta_2, step.number)
        first, second = moments
        for handle, m, v, value, gradient in zip(
            weights.handles, first.handles, second.handles, step.values, step.gradients, strict=True
        ):
            if self.weight_decay:
                shrink = value * (step.learning_rate * self.weight_decay)
                tf.raw_ops.AssignSubVariableOp(resource=handle, value=shrink)
            tf.raw_ops.ResourceApplyAdam(
                var=handle,
                m=m,
                v=v,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=step.learning_rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )


def optimizer(name: str, weight_decay: float = 0.0) -> Optimizer:
    """Give the optimiser called `name`: `sgd`, `adam` or `adamw`."""
    if name == "sgd":
        return Sgd()
    return Adam(weight_decay=weight_decay if name == "adamw" else 0.0)
