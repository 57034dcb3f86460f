"""The learning process and the evaluation as TFF computations over shard specs: only strings enter a round."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models.architectures import ArchitectureSpec, build, loss_fn
from pipeline.federation.aggregation.factory import aggregation
from pipeline.federation.algorithms import ALGORITHMS, Algorithm
from pipeline.federation.local import Amount, Frames, LocalTraining, Weighting
from pipeline.federation.optimizers import optimizer
from pipeline.federation.rules import unbounded
from pipeline.federation.schedules import Schedule
from pipeline.federation.settings import TrainingSettings

_State = tff.learning.templates.LearningAlgorithmState


@dataclass(frozen=True)
class ProcessSpec:
    """What a process is made from beside its network.

    Attributes:
      settings: algorithm, optimisers, aggregation, batch, epochs.
      steps: T, rows of a frame.
      sensors: F.
      max_steps: most optimiser steps of one client in one round; None is no limit.
      population: sites that there are, of which a round may have a part.
    """

    settings: TrainingSettings
    steps: int
    sensors: int
    max_steps: int | None = None
    population: int = 1


@dataclass(frozen=True)
class Process:
    """A training as TFF computations.

    Attributes:
      learning: `tff.learning.templates.LearningProcess`; `next` is `(S@SERVER, {string}@CLIENTS) -> (S, metrics)@SERVER`.
      evaluate_shard: `(weights, string) -> (loss_sum=float32, frames=int64)`, TensorFlow only.
      weight_leaves: number of tensors in the model weights; the state begins with them.
      bounds_updates: whether an update that would outweigh the others is to be shortened, since nothing else bounds it.
    """

    learning: Any
    evaluate_shard: Any
    weight_leaves: int
    bounds_updates: bool = False


def build_process(make_model: Callable[[], tf.keras.Model], spec: ProcessSpec) -> Process:
    """Build the configured algorithm over shard specs; `make_model` builds the Keras model on frames `float32[B, steps, sensors]`, seeded."""
    settings = spec.settings
    frame = tf.TensorSpec((None, spec.steps, spec.sensors), tf.float32)
    model = tff.learning.models.functional_model_from_keras(make_model, loss_fn, (frame, frame))
    initial, untrained = model.initial_weights
    if untrained:
        raise TypeError(f"a model with {len(untrained)} weights that are not trained cannot be averaged")
    algorithm = named_algorithm(settings)
    local = LocalTraining(
        predict=lambda weights, frames: model.predict_on_batch((tuple(weights), ()), frames, training=True),
        loss=lambda frames, prediction: model.loss(output=prediction, label=frames),
        frames=Frames(spec.steps, spec.sensors, settings.stride, settings.batch),
        amount=Amount(settings.local_epochs, spec.max_steps, settings.local_steps),
        algorithm=algorithm,
        # MimeLite's moments are in its direction: what remains is a plain step along it.
        optimizer=optimizer(
            "sgd" if algorithm.needs_full_gradient else settings.client_optimizer, settings.weight_decay
        ),
        weighting=Weighting(
            settings.equal_sites, float(settings.weight_cap) if settings.weighting == "capped" else None
        ),
        clip_gradients=settings.clip_gradients,
        frozen=settings.frozen,
    )
    schedule = Schedule(
        settings.schedule,
        settings.client_learning_rate,
        settings.rounds,
        settings.warmup_rounds,
        settings.learning_rate_decay,
    )
    weight_specs = [tf.TensorSpec(weight.shape, tf.float32) for weight in initial]
    process = _compose(
        [np.asarray(weight, np.float32) for weight in initial],
        local,
        algorithm,
        schedule,
        aggregation(settings, weight_specs, spec.population),
        spec.population,
    )
    return replace(process, bounds_updates=unbounded(settings))


def for_architecture(architecture: ArchitectureSpec, spec: ProcessSpec) -> Process:
    """Build the process of a named architecture with the settings' seed for its initial weights."""
    return build_process(lambda: build(architecture, spec.steps, spec.sensors, spec.settings.seed), spec)


def named_algorithm(settings: TrainingSettings) -> Algorithm:
    """Give the configured algorithm with its parameters."""
    parameters: dict[str, Any] = {}
    if settings.server_learning_rate is not None:
        parameters["server_learning_rate"] = settings.server_learning_rate
    if settings.algorithm == "fedprox":
        parameters["proximal_strength"] = settings.proximal_strength
    if settings.algorithm == "fedavgm":
        parameters["momentum"] = settings.server_momentum
    if settings.algorithm == "mimelite":
        parameters["base"] = settings.client_optimizer
    return ALGORITHMS[settings.algorithm](**parameters)


def _compose(
    initial: list[np.ndarray],
    local: LocalTraining,
    algorithm: Algorithm,
    schedule: Schedule,
    factory: Any,
    population: int,
) -> Process:
    """Put the parts together as TFF's composer does, but over strings, and with a second message beside the update."""
    leaves = len(initial)
    server = algorithm.initial(initial)

    @tff.tensorflow.computation
    def initial_weights() -> Any:
        return tff.learning.models.ModelWeights(tuple(tf.constant(weight) for weight in initial), ())

    @tff.tensorflow.computation
    def initial_server() -> Any:
        return tf.constant(0, tf.int32), tuple(tf.constant(value) for value in server)

    server_type = initial_server.type_signature.result

    @tff.tensorflow.computation(initial_weights.type_signature.result, server_type)
    def message(weights: Any, state: Any) -> Any:
        number, held = state
        received = algorithm.for_sites([tf.identity(value) for value in held])
        return tuple(weights.trainable), tuple(received), schedule.at(number + 1)

    @tff.tensorflow.computation(message.type_signature.result, np.str_)
    def work(sent: Any, spec: Any) -> Any:
        # A function graph orders what is done to the resources; the computation's own graph would not.
        @tf.function(autograph=False)
        def train(weights: Any, received: Any, rate: Any, where: Any) -> Any:
            return local.train(list(weights), list(received), rate, where)

        return train(tuple(sent[0]), tuple(sent[1]), sent[2], spec)

    sent_back = work.type_signature.result
    is_weighted = isinstance(factory, tff.aggregators.WeightedAggregationFactory)
    types = (sent_back.update, sent_back.weight) if is_weighted else (sent_back.update,)
    aggregator = factory.create(*types)

    @tff.tensorflow.computation(
        initial_weights.type_signature.result,
        server_type,
        sent_back.update,
        sent_back.contribution,
        sent_back.metrics.sites,
    )
    def finish(weights: Any, state: Any, update: Any, contribution: Any, sites: Any) -> Any:
        number, held = state
        held, new = algorithm.step(
            list(held), list(weights.trainable), list(update), list(contribution), sites / population
        )
        return tff.learning.models.ModelWeights(tuple(new), ()), (number + 1, tuple(held))

    @tff.tensorflow.computation(sent_back.metrics)
    def measure(total: Any) -> Any:
        frames = tf.cast(total["frames"], tf.float64)
        return collections.OrderedDict(
            loss=tf.math.divide_no_nan(total["loss_sum"], frames), frames=total["frames"]
        )

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_zip(
            _State(
                tff.federated_eval(initial_weights, tff.SERVER),
                tff.federated_value((), tff.SERVER),
                tff.federated_eval(initial_server, tff.SERVER),
                aggregator.initialize(),
                tff.federated_value((), tff.SERVER),
            )
        )

    @tff.federated_computation(initialize.type_signature.result, tff.FederatedType(np.str_, tff.CLIENTS))
    def next_round(state: Any, paths: Any) -> Any:
        sent = tff.federated_map(message, (state.global_model_weights, state.client_work))
        done = tff.federated_map(work, (tff.federated_broadcast(sent), paths))
        total = tff.federated_sum(done.metrics)
        parts = (done.update, done.weight) if is_weighted else (done.update,)
        aggregated = aggregator.next(state.aggregator, *parts)
        if algorithm.contributes:
            contribution = tff.federated_mean(done.contribution, done.weight)
        else:
            contribution = tff.federated_value((), tff.SERVER)
        weights, server_state = tff.federated_map(
            finish,
            (
                state.global_model_weights,
                state.client_work,
                aggregated.result,
                contribution,
                total.sites,
            ),
        )
        new = tff.federated_zip(
            _State(weights, state.distributor, server_state, aggregated.state, state.finalizer)
        )
        return tff.learning.templates.LearningProcessOutput(new, tff.federated_map(measure, total))

    state_type = initialize.type_signature.result.member

    @tff.tensorflow.computation(state_type)
    def get_weights(state: Any) -> Any:
        return state.global_model_weights

    @tff.tensorflow.computation(state_type, initial_weights.type_signature.result)
    def set_weights(state: Any, weights: Any) -> Any:
        return _State(weights, state.distributor, state.client_work, state.aggregator, state.finalizer)

    @tff.tensorflow.computation(initial_weights.type_signature.result, np.str_)
    def evaluate_shard(weights: Any, path: Any) -> Any:
        return local.evaluate(list(weights.trainable), path)

    learning = tff.learning.templates.LearningProcess(initialize, next_round, get_weights, set_weights)
    return Process(learning, evaluate_shard, leaves)
