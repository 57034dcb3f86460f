"""The scoring arithmetic in TensorFlow: one place for the pipeline, both signatures of the exported model and the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.scaling import CLIP
from models.sources.base import Source

if TYPE_CHECKING:
    import tensorflow as tf

    from models.detector import Detector

_CHUNK = 4096
_FRAMES = 256
_BLOCK = 64


def scale(detector: Detector, raw: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Scaled frames float32[B, T, F] of raw float32[B, T, F] at sites `rows` int32[B]; NaN where nothing was measured."""
    import tensorflow as tf

    # In float64: a sensor near 1e6 that moves by 1e-2 loses its movement in float32.
    wide = tf.cast(raw, tf.float64)
    wide = tf.where(tf.math.is_finite(wide), wide, tf.constant(np.nan, tf.float64))
    mean = tf.gather(tf.constant(detector.mean), rows)[:, None]
    spread = tf.gather(tf.constant(detector.scale), rows)[:, None]
    return tf.cast(tf.clip_by_value((wide - mean) / spread, -CLIP, CLIP), tf.float32)


def frames_score(detector: Detector, window: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Score float32[B] and contribution float32[B, F] of raw frames float32[B, steps, F] at sites `rows` int32[B]."""
    import tensorflow as tf

    frames = scale(detector, window, rows)
    contribution = tf.zeros_like(frames[:, 0])
    for index, source in enumerate(detector.sources):
        kernel = tf.gather(tf.constant(detector.kernel[index]), rows)
        contribution += tf.einsum("btf,bt->bf", _energy(detector, index, source, frames, rows), kernel)
    blank = tf.reduce_all(tf.math.is_nan(frames), axis=(1, 2))
    return tf.where(blank, np.float32(np.nan), tf.reduce_sum(contribution, axis=1)), contribution


def series_score(detector: Detector, values: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Score float32[N] and contribution float32[N, F] of a raw stretch float32[N, F] at site `row` int32[].

    Each step scores as `frames_score` does on the frame that ends there, but what frames share is computed once. NaN and 0
    before the first full frame. Works through blocks, so that memory does not grow with the network's width times N.
    """
    import tensorflow as tf

    count, lead = tf.shape(values)[0], detector.steps - 1
    ready = tf.maximum(count - lead, 0)
    blocks = -(-ready // _CHUNK)
    early = tf.zeros_like(values[:lead])
    found = tf.TensorArray(
        tf.float32, blocks + 1, element_shape=(None, len(detector.sensors)), infer_shape=False
    )
    blank = tf.TensorArray(tf.bool, blocks + 1, element_shape=(None,), infer_shape=False)

    def step(
        index: tf.Tensor, found: tf.TensorArray, blank: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
        part = values[index * _CHUNK : (index + 1) * _CHUNK + lead]
        contribution, empty = _block(detector, part, row)
        return index + 1, found.write(index + 1, contribution), blank.write(index + 1, empty)

    _, found, blank = tf.while_loop(
        lambda index, *_: index < blocks,
        step,
        (0, found.write(0, early), blank.write(0, tf.ones_like(early[:, 0], tf.bool))),
        parallel_iterations=1,
    )
    contribution = found.concat()
    return tf.where(blank.concat(), np.float32(np.nan), tf.reduce_sum(contribution, axis=1)), contribution


def _block(detector: Detector, part: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Contribution float32[M - steps + 1, F] of raw float32[M, F], and whether a step's whole frame is blank."""
    import tensorflow as tf

    scaled = scale(detector, part[None], row[None])
    blank = tf.cast(tf.reduce_all(tf.math.is_nan(scaled[0]), axis=1), tf.int32)
    before = tf.concat([[0], tf.cumsum(blank)], axis=0)
    empty = before[detector.steps :] - before[: -detector.steps] == detector.steps
    contribution = tf.zeros_like(scaled[0, detector.steps - 1 :])
    for index, source in enumerate(detector.sources):
        kernel = tf.gather(tf.constant(detector.kernel[index]), row)
        if source.shift_invariant:
            energy = _energy(detector, index, source, scaled, row[None])[0]
            contribution += _convolve(energy, kernel, detector.kernel[index].shape[1])
        else:
            contribution += _every_frame(detector, index, source, scaled[0], row, kernel)
    return contribution, empty


def _every_frame(
    detector: Detector, index: int, source: Source, scaled: tf.Tensor, row: tf.Tensor, kernel: tf.Tensor
) -> tf.Tensor:
    """Weighted energy float32[M - steps + 1, F] of a source whose residuals depend on where a frame starts."""
    import tensorflow as tf

    count = tf.shape(scaled)[0] - detector.steps + 1
    groups = -(-count // _FRAMES)

    def step(group: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        starts = tf.range(group * _FRAMES, tf.minimum(count, (group + 1) * _FRAMES))
        frames = tf.gather(scaled, starts[:, None] + tf.range(detector.steps)[None])
        energy = _energy(detector, index, source, frames, tf.fill(tf.shape(starts), row))
        return group + 1, found.write(group, tf.einsum("btf,t->bf", energy, kernel))

    found = tf.TensorArray(tf.float32, groups, element_shape=(None, scaled.shape[1]), infer_shape=False)
    return tf.while_loop(lambda group, _: group < groups, step, (0, found), parallel_iterations=1)[1].concat()


def _energy(detector: Detector, index: int, source: Source, frames: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Capped squared normalised residuals over the number of known sensors, float32[B, T - context, F]; 0 where unknown."""
    import tensorflow as tf

    known = tf.logical_not(tf.math.is_nan(frames))
    arrays = {name: tf.constant(value) for name, value in source.arrays().items()}
    residual = source.residuals(arrays, tf.where(known, frames, 0.0), rows)
    ratio = residual / tf.gather(tf.constant(detector.residual_scale[index]), rows)[:, None]
    seen = known[:, source.context :]
    energy = tf.where(seen, tf.minimum(ratio * ratio, detector.options.cap), 0.0)
    present = tf.reduce_sum(tf.cast(seen, tf.float32), axis=2, keepdims=True)
    return energy / tf.maximum(present, 1.0)


def _convolve(energy: tf.Tensor, kernel: tf.Tensor, length: int) -> tf.Tensor:
    """Valid sliding sums float32[M - length + 1, F] of float32[M, F] under `kernel` float32[length], oldest step first.

    As products with a banded matrix over blocks of rows: several times faster here than a depthwise convolution.
    """
    import tensorflow as tf

    sensors = energy.shape[1]
    reach = -(-(length - 1) // _BLOCK)
    columns = np.arange((reach + 1) * _BLOCK)[None] - np.arange(_BLOCK)[:, None]
    inside = (columns >= 0) & (columns < length)
    band = tf.gather(tf.concat([kernel, [0.0]], axis=0), np.where(inside, columns, length))
    wanted = tf.shape(energy)[0] - length + 1
    blocks = -(-wanted // _BLOCK)
    padded = tf.pad(energy, [[0, (blocks + reach) * _BLOCK - tf.shape(energy)[0]], [0, 0]])
    parts = tf.reshape(padded, (-1, _BLOCK, sensors))
    wide = tf.concat([parts[shift : shift + blocks] for shift in range(reach + 1)], axis=1)
    return tf.reshape(tf.matmul(band[None], wide), (-1, sensors))[:wanted]
