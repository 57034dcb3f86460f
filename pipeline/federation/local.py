"""What one site does in a round, as one TensorFlow graph: read the shard, take the steps, give back the change."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from pipeline.datasets.frames import cut_frames, frame_order, longest_update, memory_files, open_shard
from pipeline.federation.algorithms import Algorithm
from pipeline.federation.algorithms.base import Site, Tensors, Worked
from pipeline.federation.optimizers import InPlace, Optimizer, Step

Predict = Callable[[Tensors, Any], Any]
Loss = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Frames:
    """How a shard is cut: frames of `steps` x `sensors`, `stride` rows apart, in batches of `batch`."""

    steps: int
    sensors: int
    stride: int
    batch: int


@dataclass(frozen=True)
class Amount:
    """How much a site works in a round: `epochs` over its frames, at most `most_steps`; or exactly `exact_steps`."""

    epochs: int
    most_steps: int | None = None
    exact_steps: int | None = None


@dataclass(frozen=True)
class Weighting:
    """What a site's update weighs: its frames, at most `cap` of them; the same as every other's if `equal`."""

    equal: bool = False
    cap: float | None = None


@dataclass(frozen=True)
class LocalTraining:
    """Everything a site's graph is made from. `predict(weights, frames)` and `loss(frames, prediction)` are of TensorFlow.

    `frozen` weights, by index, do not move.
    """

    predict: Predict
    loss: Loss
    frames: Frames
    amount: Amount
    algorithm: Algorithm
    optimizer: Optimizer
    weighting: Weighting
    clip_gradients: float | None = None
    frozen: tuple[int, ...] = ()

    def train(self, weights: Tensors, received: Tensors, learning_rate: Any, spec: Any) -> Any:
        """Give what the site sends, and what the round is measured by.

        Args:
          weights: the common weights.
          received: what the algorithm sends to sites.
          learning_rate: float32 scalar.
          spec: string scalar, see `pipeline.datasets.frames`.

        Returns:
          `update` and `contribution` as tuples, zeros if one of them is not finite; `weight` float32, 0 then; and `metrics`:
          `loss_sum` float64, `frames`, `steps` int64, `squared_norm` of the update float64, `sites` float32, 1 or 0.
        """
        cut = self.frames
        rows, starts, shuffle = open_shard(spec, sensors=cut.sensors, steps=cut.steps, stride=cut.stride)
        recall, remember = memory_files(spec)
        site = Site(weights, received, _recall(recall, weights) if self.algorithm.remembers else [])
        after, loss_sum, frames, steps = self._steps(site, rows, starts, shuffle, learning_rate)
        full = self._full_gradient(weights, rows, starts) if self.algorithm.needs_full_gradient else []
        update = [new - old for new, old in zip(after, weights, strict=True)]
        worked = Worked(update, tf.cast(steps, tf.float32), learning_rate, full)
        memory = self.algorithm.remember(worked, site)
        contribution = self.algorithm.contribution(worked, site, memory)
        finite = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(part)) for part in (*update, *contribution, loss_sum)]
        )
        taken = tf.logical_and(finite, frames > 0)
        if self.algorithm.remembers:
            _remember(remember, memory, taken)
        update, contribution = (
            [tf.where(taken, part, tf.zeros_like(part)) for part in parts] for parts in (update, contribution)
        )
        update, squared_norm = _shortened(update, longest_update(spec))
        sites = tf.cast(taken, tf.float32)
        return collections.OrderedDict(
            update=tuple(update),
            contribution=tuple(contribution),
            weight=sites * self._weight(frames),
            metrics=collections.OrderedDict(
                loss_sum=tf.where(taken, loss_sum, tf.zeros_like(loss_sum)),
                frames=tf.where(taken, frames, tf.zeros_like(frames)),
                steps=steps,
                squared_norm=squared_norm,
                sites=sites,
            ),
        )

    def evaluate(self, weights: Tensors, spec: Any) -> Any:
        """Give `loss_sum` float32 over all frames of a shard and their number, `frames` int64."""
        cut = self.frames
        rows, starts, _ = open_shard(spec, sensors=cut.sensors, steps=cut.steps, stride=cut.stride)

        def add(first: Any, total: Any) -> Any:
            frames = cut_frames(rows, starts[first : first + cut.batch], cut.steps)
            count = tf.cast(tf.shape(frames)[0], tf.float32)
            return first + cut.batch, total + self.loss(frames, self.predict(weights, frames)) * count

        number = tf.size(starts, tf.int64)
        _, loss_sum = tf.while_loop(
            lambda first, _: first < number,
            add,
            (tf.constant(0, tf.int64), tf.constant(0.0)),
            parallel_iterations=1,
        )
        return collections.OrderedDict(loss_sum=loss_sum, frames=number)

    def _steps(self, site: Site, rows: Any, starts: Any, shuffle: Any, learning_rate: Any) -> Any:
        cut, amount = self.frames, self.amount
        number = tf.size(starts, tf.int64)
        an_epoch = (number + cut.batch - 1) // cut.batch
        if amount.exact_steps is not None:
            last = tf.where(number > 0, tf.constant(amount.exact_steps, tf.int64), 0)
        else:
            last = an_epoch * amount.epochs
            if amount.most_steps is not None:
                last = tf.minimum(last, amount.most_steps)
        moving = [place for place in range(len(site.start)) if place not in self.frozen]
        weights = InPlace([site.start[place] for place in moving])
        moments = self.optimizer.begin([site.start[place] for place in moving])

        def step(done: Any, order: Any, loss_sum: Any, frames: Any) -> Any:
            within = done % an_epoch
            order = tf.cond(
                tf.equal(within, 0), lambda: frame_order(starts, shuffle, done // an_epoch), lambda: order
            )
            batch = cut_frames(rows, order[within * cut.batch : (within + 1) * cut.batch], cut.steps)
            values = list(site.start)
            for place, value in zip(moving, weights.read(), strict=True):
                values[place] = value
            loss, gradients = self._gradients(values, batch)
            if self.clip_gradients is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, self.clip_gradients)
            gradients = self.algorithm.direction(gradients, values, site)
            self.optimizer.step(
                weights,
                moments,
                Step(
                    [values[place] for place in moving],
                    [gradients[place] for place in moving],
                    learning_rate,
                    tf.cast(done + 1, tf.float32),
                ),
            )
            count = tf.shape(batch, tf.int64)[0]
            loss_sum += tf.cast(loss, tf.float64) * tf.cast(count, tf.float64)
            return done + 1, order, loss_sum, frames + count

        zero = tf.constant(0, tf.int64)
        steps, _, loss_sum, frames = tf.while_loop(
            lambda done, *_: done < last,
            step,
            (zero, starts, tf.constant(0.0, tf.float64), zero),
            shape_invariants=(zero.shape, tf.TensorShape([None]), tf.TensorShape([]), zero.shape),
            parallel_iterations=1,
        )
        after = list(site.start)
        for place, value in zip(moving, weights.read(), strict=True):
            after[place] = value
        return after, loss_sum, frames, steps

    def _gradients(self, weights: Tensors, batch: Any) -> tuple[Any, Tensors]:
        with tf.GradientTape() as tape:
            for weight in weights:
                tape.watch(weight)
            loss = self.loss(batch, self.predict(weights, batch))
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return loss, list(gradients)

    def _full_gradient(self, weights: Tensors, rows: Any, starts: Any) -> Tensors:
        cut = self.frames
        number = tf.size(starts, tf.int64)

        def add(first: Any, *total: Any) -> Any:
            batch = cut_frames(rows, starts[first : first + cut.batch], cut.steps)
            _, gradients = self._gradients(weights, batch)
            count = tf.cast(tf.shape(batch)[0], tf.float32)
            return first + cut.batch, *(t + g * count for t, g in zip(total, gradients, strict=True))

        _, *total = tf.while_loop(
            lambda first, *_: first < number,
            add,
            (tf.constant(0, tf.int64), *(tf.zeros_like(weight) for weight in weights)),
            parallel_iterations=1,
        )
        return [tf.math.divide_no_nan(part, tf.cast(number, tf.float32)) for part in total]

    def _weight(self, frames: Any) -> Any:
        if self.weighting.equal:
            return tf.constant(1.0)
        weight = tf.cast(frames, tf.float32)
        return weight if self.weighting.cap is None else tf.minimum(weight, self.weighting.cap)


def _shortened(update: Tensors, longest: Any) -> tuple[Tensors, Any]:
    """The update, no longer than `longest`, and its squared length, float64."""
    squared = tf.add_n([tf.reduce_sum(tf.square(tf.cast(part, tf.float64))) for part in update])
    factor = tf.minimum(tf.constant(1.0, tf.float64), tf.math.divide_no_nan(longest, tf.sqrt(squared)))
    # Of a length of 0 nothing can be left; a factor of 1 changes no bit.
    factor = tf.where(squared > 0, factor, tf.ones_like(factor))
    return [part * tf.cast(factor, part.dtype) for part in update], squared * tf.square(factor)


def _recall(path: Any, weights: Tensors) -> Tensors:
    """What was remembered in the file; zeros if there is none."""
    sizes = [int(weight.shape.num_elements()) for weight in weights]

    def stored() -> Any:
        return tf.ensure_shape(tf.io.parse_tensor(tf.io.read_file(path), tf.float32), [sum(sizes)])

    flat = tf.cond(tf.equal(path, ""), lambda: tf.zeros([sum(sizes)]), stored)
    return [
        tf.reshape(part, weight.shape) for part, weight in zip(tf.split(flat, sizes), weights, strict=True)
    ]


def _remember(path: Any, memory: Tensors, taken: Any) -> None:
    flat = tf.concat([tf.reshape(part, [-1]) for part in memory], axis=0)

    def write() -> Any:
        tf.io.write_file(path, tf.io.serialize_tensor(flat))
        return tf.constant(True)

    tf.cond(tf.logical_and(taken, tf.not_equal(path, "")), write, lambda: tf.constant(False))
