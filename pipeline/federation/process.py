"""The learning process and the evaluation as TFF computations over shard specs: only strings enter a round."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models.architectures import ArchitectureSpec, build, loss_fn
from pipeline.datasets.frames import frames
from pipeline.federation.adam import FusedAdam
from pipeline.federation.settings import TrainingSettings


@dataclass(frozen=True)
class Process:
    """A training as TFF computations.

    Attributes:
      learning: `tff.learning.templates.LearningProcess`; `next` is `(S@SERVER, {string}@CLIENTS) -> (S, metrics)@SERVER`.
      evaluate_shard: `(weights, string) -> (loss_sum=float32, frames=int64)`, TensorFlow only.
      weight_leaves: number of tensors in the model weights; the state begins with them.
    """

    learning: Any
    evaluate_shard: Any
    weight_leaves: int


def build_process(
    make_model: Callable[[], tf.keras.Model],
    *,
    steps: int,
    sensors: int,
    settings: TrainingSettings,
    max_steps: int | None,
) -> Process:
    """Build weighted FedAvg (McMahan et al. 2017; server optimiser after Reddi et al. 2021) over shard specs.

    Args:
      make_model: builds the Keras model on frames `float32[B, steps, sensors]`, seeded.
      steps: T.
      sensors: F.
      settings: optimisers, batch, epochs.
      max_steps: most optimiser steps of one client in one round.
    """
    spec = tf.TensorSpec((None, steps, sensors), tf.float32)
    keras_model = tff.learning.models.functional_model_from_keras(make_model, loss_fn, (spec, spec))

    @tf.function
    def no_metrics() -> Any:
        return collections.OrderedDict(loss_sum=tf.constant(0.0), frames=tf.constant(0.0))

    @tf.function
    def add_metrics(state: Any, labels: Any, batch_output: Any, sample_weight: Any = None) -> Any:
        count = tf.cast(batch_output.num_examples, tf.float32)
        return collections.OrderedDict(
            loss_sum=state["loss_sum"] + batch_output.loss * count, frames=state["frames"] + count
        )

    @tf.function
    def final_metrics(state: Any) -> Any:
        return collections.OrderedDict(
            loss=tf.math.divide_no_nan(state["loss_sum"], state["frames"]), frames=state["frames"]
        )

    model = tff.learning.models.FunctionalModel(
        initial_weights=keras_model.initial_weights,
        predict_on_batch_fn=keras_model.predict_on_batch,
        loss_fn=keras_model.loss,
        metrics_fns=(no_metrics, add_metrics, final_metrics),
        input_spec=(spec, spec),
    )

    def cut(path: Any, epochs: int, limit: int | None) -> tf.data.Dataset:
        return frames(
            path,
            sensors=sensors,
            steps=steps,
            stride=settings.stride,
            batch=settings.batch,
            epochs=epochs,
            limit=limit,
        )

    @tff.tensorflow.computation(np.str_)
    def read_shard(path: Any) -> tf.data.Dataset:
        return cut(path, settings.local_epochs, max_steps).map(lambda batch: (batch, batch))

    fed_avg = tff.learning.algorithms.build_weighted_fed_avg(
        model,
        client_optimizer_fn=_optimizer(settings.client_optimizer, settings.client_learning_rate),
        server_optimizer_fn=_optimizer(settings.server_optimizer, settings.server_learning_rate),
        # An iterator in a while loop of the graph: measured shorter per call than `Dataset.reduce` (decision 5).
        loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
    )
    learning = tff.simulation.compose_dataset_computation_with_learning_process(read_shard, fed_avg)
    weights_type = learning.get_model_weights.type_signature.result

    @tff.tensorflow.computation(weights_type, np.str_)
    def evaluate_shard(weights: Any, path: Any) -> Any:
        structure = (tuple(weights.trainable), tuple(weights.non_trainable))

        def add(total: Any, batch: tf.Tensor) -> Any:
            prediction = model.predict_on_batch(structure, batch, training=False)
            count = tf.shape(batch)[0]
            loss = model.loss(output=prediction, label=batch) * tf.cast(count, tf.float32)
            return total[0] + loss, total[1] + tf.cast(count, tf.int64)

        zero = (tf.constant(0.0), tf.constant(0, tf.int64))
        loss_sum, count = cut(path, 1, None).reduce(zero, add)
        return collections.OrderedDict(loss_sum=loss_sum, frames=count)

    leaves = sum(len(part) for part in model.initial_weights)
    return Process(learning, evaluate_shard, leaves)


def for_architecture(
    architecture: ArchitectureSpec,
    *,
    steps: int,
    sensors: int,
    settings: TrainingSettings,
    max_steps: int | None,
) -> Process:
    """Build the process of a named architecture with the settings' seed for its initial weights."""
    return build_process(
        lambda: build(architecture, steps, sensors, settings.seed),
        steps=steps,
        sensors=sensors,
        settings=settings,
        max_steps=max_steps,
    )


def _optimizer(name: str, learning_rate: float) -> Any:
    if name == "adam":
        return FusedAdam(learning_rate)
    return tff.learning.optimizers.build_sgdm(learning_rate)
