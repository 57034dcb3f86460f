"""The scoring arithmetic in TensorFlow: one place for the pipeline, every signature of the exported model and the tests.

Everything is causal with bounded memory, and works on B stretches of N steps that go on from a state; one long stretch, the
same in pieces and step by step give the same numbers. Slow changes are followed by exponential averages with a memory of
half the training: a baseline of each residual, and a gain for residuals that have become larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from models import waking
from models.averages import Decays, decays, exponential, last, rate_of, step_before
from models.filling import fill_tensor
from models.logarithms import logged_tensor
from models.ordinary import discounted_tensor
from models.regimes import membership_tensor
from models.scaling import CLIP
from models.sensors import trailing
from models.slow_changes import growth_tensor
from models.state import STATE, no_sensor_memory
from models.switching import movement_tensor

if TYPE_CHECKING:
    import tensorflow as tf

    from models.detector import Detector

CHUNK = 2048
LARGEST_GAIN = 3.0
CLIPPED_AT = 3.0
"""Residuals beyond three typical ones, and magnitudes beyond three times the 99 % quantile, do not move what follows slowly."""
BASELINE_SHARE = 0.2
"""Memory of the baseline, as a share of the memory of the gain."""

RECOVERED = 2.0
"""A score is at most so many times its shortest average: once a machine runs well again, the longer ones still remember."""
LOUDEST = 50
"""Sensors that a score sums over, those that say most at a step: a fault touches a few, and in a mean over hundreds it is lost."""
LARGEST_LIFT = 2.0
"""Most that the threshold rises by as the usual score does; a score beyond always raises an alarm."""
LARGEST_FALL = 1.25
"""Most that it falls by where the usual score is lower than in training: after a calm time a machine may be as lively as it was again."""
LARGEST_MARGIN = 20.0
"""A score so many times below the threshold is followed as if it were no lower, one above it as if it were no higher."""


class Scored(NamedTuple):
    """`score` and `threshold` float32[B, N], `contribution` float32[B, N, F], and the state after the last step."""

    score: Any
    threshold: Any
    contribution: Any
    state: dict[str, Any]


def tables(detector: Detector) -> dict[str, Any]:
    """Everything per row of the detector as constants of the current graph."""
    import tensorflow as tf

    return {name: tf.constant(value) for name, value in detector.table_arrays().items()}


def start(detector: Detector, table: Mapping[str, Any], rows: tf.Tensor) -> dict[str, tf.Tensor]:
    """State of stretches at sites `rows` int32[B] of which no step has been seen; slow memory is that of the training's end."""
    import tensorflow as tf

    shape = detector.state_shape
    batch = tf.shape(rows)[0]
    rest = tf.gather(table["rest"], rows)
    return {
        "recent": tf.fill((batch, shape.context, shape.sensors), np.float32(np.nan)),
        "seen": tf.zeros((batch,), tf.int32),
        "baseline": tf.gather(table["last_baseline"], rows),
        "level": tf.gather(table["last_level"], rows),
        "margin": tf.gather(table["margin"], rows),
        "average": tf.repeat(rest[:, None], shape.averages, axis=1),
        **{
            name: tf.tile(tf.constant(value)[None], (batch, 1))
            for name, value in no_sensor_memory(shape.sensors).items()
        },
    }


def scale(table: Mapping[str, Any], raw: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Scaled float32[B, N, F] of raw float[B, N, F]; NaN where nothing was measured.

    In float64: a sensor near 1e6 that moves by 1e-2 loses its movement in float32.
    """
    import tensorflow as tf

    wide = tf.cast(raw, tf.float64)
    wide = tf.where(tf.math.is_finite(wide), wide, tf.constant(np.nan, tf.float64))
    if "floor" in table:
        wide = logged_tensor(wide, tf.gather(table["floor"], rows)[:, None])
    mean = tf.gather(table["mean"], rows)[:, None]
    spread = tf.gather(table["scale"], rows)[:, None]
    return tf.cast(tf.clip_by_value((wide - mean) / spread, -CLIP, CLIP), tf.float32)


def advance(
    detector: Detector,
    table: Mapping[str, Any],
    rows: tf.Tensor,
    raw: tf.Tensor,
    state: Mapping[str, tf.Tensor],
) -> Scored:
    """Score raw float32[B, N, F] behind `state`.

    The score is NaN for a step without any value and for the first `state_shape.context` steps of a stretch. Memory grows
    with B x N; `series` works through long stretches in pieces.
    """
    import tensorflow as tf

    context = detector.state_shape.context
    read = _read(detector, table, rows, raw, state)
    said, slow = _said(detector, table, rows, read, state)
    scored = tf.logical_and(read.spoke, read.before >= context)
    rest = tf.gather(table["rest"], rows)[:, None]
    said = tf.where(scored[:, :, None], said, rest)
    averages = [
        exponential(said, decays(rate_of(span), tf.shape(said)[1]), state["average"][:, i])
        for i, span in enumerate(detector.options.spans)
    ]
    score, contribution = _score(detector, table, rows, averages, read.muted, scored)
    threshold, margin = _threshold(table, rows, score, state["margin"])
    steps = read.joined
    after = {
        "recent": tf.ensure_shape(steps[:, tf.shape(steps)[1] - context :], (None, context, steps.shape[2])),
        "seen": tf.minimum(state["seen"] + tf.shape(raw)[1], context),
        **slow,
        "margin": margin,
        **trailing(state, raw),
        **read.woken,
        "average": tf.stack([last(each, state["average"][:, i]) for i, each in enumerate(averages)], axis=1),
    }
    return Scored(score, threshold, contribution, after)


def series(
    detector: Detector,
    table: Mapping[str, Any],
    rows: tf.Tensor,
    raw: tf.Tensor,
    state: Mapping[str, tf.Tensor],
) -> Scored:
    """As `advance`, in pieces of `CHUNK` steps, so that memory does not grow with the network's width times N."""
    import tensorflow as tf

    sensors, shape = len(detector.sensors), detector.state_shape
    pieces = tf.maximum(-(-tf.shape(raw)[1] // CHUNK), 1)
    scores = tf.TensorArray(tf.float32, pieces, element_shape=(None, None), infer_shape=False)
    limits = tf.TensorArray(tf.float32, pieces, element_shape=(None, None), infer_shape=False)
    shares = tf.TensorArray(tf.float32, pieces, element_shape=(None, None, sensors), infer_shape=False)

    def step(index: Any, scores: Any, limits: Any, shares: Any, *held: Any) -> Any:
        piece = raw[:, index * CHUNK : (index + 1) * CHUNK]
        found = advance(detector, table, rows, piece, dict(zip(STATE, held, strict=True)))
        # Steps first: pieces of different length are then joined along them.
        scores = scores.write(index, tf.transpose(found.score))
        limits = limits.write(index, tf.transpose(found.threshold))
        shares = shares.write(index, tf.transpose(found.contribution, (1, 0, 2)))
        return (index + 1, scores, limits, shares, *(found.state[name] for name in STATE))

    held = tuple(state[name] for name in STATE)
    invariants = tuple(tf.TensorShape((None, *shape.of(name))) for name in STATE)
    scalar, any_shape = tf.TensorShape(()), tf.TensorShape(None)
    _, scores, limits, shares, *held = tf.while_loop(
        lambda index, *_: index < pieces,
        step,
        (0, scores, limits, shares, *held),
        shape_invariants=(scalar, any_shape, any_shape, any_shape, *invariants),
        parallel_iterations=1,
    )
    return Scored(
        tf.transpose(scores.concat()),
        tf.transpose(limits.concat()),
        tf.transpose(shares.concat(), (1, 0, 2)),
        dict(zip(STATE, held, strict=True)),
    )


class _Read(NamedTuple):
    """Steps as sources look at them.

    `joined` float32[B, context + N, F], scaled and behind the steps before them, NaN where nothing is known; `known` bool[B, N, F], of the N; `muted` bool[B, N, F], what is not heard;
    `spoke` bool[B, N], whether anything is; `before` int32[B, N], steps of the stretch before each; `woken`, what is remembered of sensors that wake up.
    """

    joined: Any
    known: Any
    muted: Any
    spoke: Any
    before: Any
    woken: dict[str, Any]


def _read(
    detector: Detector,
    table: Mapping[str, Any],
    rows: tf.Tensor,
    raw: tf.Tensor,
    state: Mapping[str, tf.Tensor],
) -> _Read:
    import tensorflow as tf

    low, high = (tf.gather(table[name], rows) for name in ("resting_low", "resting_high"))
    muted, woken = waking.wake(low, high, raw, state, waking.told_after(detector.options.spans))
    scaled = scale(table, raw, rows)
    heard = tf.logical_not(tf.logical_or(tf.math.is_nan(scaled), muted))
    # As if it still rested, so that the others are judged as in training; one that training never saw is unknown.
    asleep = tf.where(low > high, np.float32(np.nan), 0.0)[:, None]
    scaled = tf.where(tf.logical_and(muted, tf.math.is_finite(scaled)), asleep, scaled)
    return _Read(
        tf.concat([state["recent"], scaled], axis=1),
        tf.logical_not(tf.math.is_nan(scaled)),
        muted,
        tf.reduce_any(heard, axis=2),
        state["seen"][:, None] + tf.range(tf.shape(scaled)[1])[None],
        woken,
    )


def _said(
    detector: Detector,
    table: Mapping[str, Any],
    rows: tf.Tensor,
    read: _Read,
    state: Mapping[str, tf.Tensor],
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """What each sensor says by all sources, float32[B, N, F], and their baselines and levels after the last step, float32[B, S, F] each."""
    import tensorflow as tf

    context = detector.state_shape.context
    if "descent" in table:
        filled = fill_tensor(read.joined, tf.gather(table["descent"], rows))
    else:
        filled = tf.where(tf.math.is_nan(read.joined), 0.0, read.joined)
    pace = _pace(table, rows, tf.shape(read.known)[1])
    moved = movement_tensor(read.joined, context) if "restless" in table else None
    regime = (
        membership_tensor(filled[:, context:], tf.gather(table["regime_centre"], rows))
        if "regime_centre" in table
        else None
    )
    said = tf.zeros_like(filled[:, context:])
    baselines, levels = [], []
    for index, source in enumerate(detector.sources):
        arrays = {name: table[f"{index}.{name}"] for name in source.tables()}
        residual = source.residuals(arrays, filled[:, context - source.context :], rows)
        if regime is not None and not source.excursion:
            shift, size = (tf.gather(table[f"regime_{name}"], rows)[:, index] for name in ("shift", "size"))
            residual = (residual - tf.matmul(regime, shift)) / tf.matmul(regime, size)
        if moved is not None:
            residual /= tf.sqrt(1.0 + tf.gather(table["restless"], rows)[:, None, index] * moved**2)
        usable = tf.logical_and(read.known, (read.before >= source.context)[:, :, None])
        energy, baseline, level = _energy(
            source.excursion, table, index, rows, residual, usable, pace, state["baseline"], state["level"]
        )
        baselines.append(baseline)
        levels.append(level)
        weight = tf.where(usable, tf.gather(table["sensor_weight"], rows)[:, None, index], 0.0)
        present = tf.maximum(tf.reduce_sum(weight, axis=2, keepdims=True), 1e-6)
        said += energy * weight / present * tf.gather(table["source_weight"], rows)[:, None, index, None]
    return said, {"baseline": tf.stack(baselines, axis=1), "level": tf.stack(levels, axis=1)}


def _score(
    detector: Detector,
    table: Mapping[str, Any],
    rows: tf.Tensor,
    averages: Sequence[tf.Tensor],
    muted: tf.Tensor,
    scored: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Score float32[B, N], NaN for steps that are not `scored`, and what of it is each sensor's, float32[B, N, F], of the averages float32[B, N, F] of what they say."""
    import tensorflow as tf

    # What the averages still remember of a sensor that is no longer heard would be held against the others.
    # Not `add_n`: it adds into whichever average no other operation still reads and begins with that one, so that the last bit of a
    # sum of three depends on which thread was quicker; of a chain of sums TensorFlow may make an `add_n` of its own.
    heard = [
        tf.where(muted, 0.0, each)
        for each in (
            averages[int(np.argmin(detector.options.spans))],
            tf.reduce_sum(tf.stack(averages), axis=0) / np.float32(len(averages)),
        )
    ]
    if "ordinary" in table:
        usual = tf.gather(table["ordinary"], rows)[:, None]
        heard = [discounted_tensor(each, usual) for each in heard]
    quickest, mean = map(_loudest, heard)
    contribution = tf.where(scored[:, :, None], mean, 0.0)
    total = tf.reduce_sum(contribution, axis=2)
    limited = tf.minimum(total, RECOVERED * tf.reduce_sum(quickest, axis=2))
    contribution *= tf.math.divide_no_nan(limited, total)[:, :, None]
    return tf.where(scored, limited, np.float32(np.nan)), contribution


def _loudest(values: tf.Tensor) -> tf.Tensor:
    """The `LOUDEST` largest over the sensors of float32[B, N, F], 0 for the others."""
    import tensorflow as tf

    if values.shape[2] <= LOUDEST:
        return values
    least = tf.math.top_k(values, LOUDEST).values[:, :, -1:]
    above, equal = values > least, values == least
    # Of equal ones the first, as many as fit: all together must not count for more than fifty.
    room = LOUDEST - tf.reduce_sum(tf.cast(above, tf.int32), axis=2, keepdims=True)
    fits = tf.logical_and(equal, tf.cumsum(tf.cast(equal, tf.int32), axis=2) <= room)
    return tf.where(tf.logical_or(above, fits), values, 0.0)


def _threshold(
    table: Mapping[str, Any], rows: tf.Tensor, score: tf.Tensor, margin: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Threshold float32[B, N] of each step and the margin float32[B] after the last.

    The threshold keeps its distance to what the score usually is, as in conformal prediction under a shift (Gibbs and Candes,
    NeurIPS 2021), but by the mean of logarithms clipped at the threshold, which a short incident moves little, and further up than down.
    A step without a score counts as a usual one.
    """
    import tensorflow as tf

    first = tf.gather(table["threshold"], rows)[:, None]
    usual = tf.gather(table["margin"], rows)[:, None]
    below = tf.math.log(first / tf.clip_by_value(score, first / LARGEST_MARGIN, first))
    below = tf.where(tf.math.is_nan(score), usual, below)
    slow = decays(tf.gather(table["margin_rate"], rows), tf.shape(score)[1])
    followed = exponential(below[:, :, None], slow, margin[:, None])[:, :, 0]
    before = step_before(followed[:, :, None], margin[:, None])[:, :, 0]
    lift = tf.clip_by_value(
        usual - before, -np.float32(np.log(LARGEST_FALL)), np.float32(np.log(LARGEST_LIFT))
    )
    return first * tf.exp(lift), last(followed[:, :, None], margin[:, None])[:, 0]


class _Pace(NamedTuple):
    """How fast each stretch's slow changes are followed: whether at all, bool[B, 1, 1], and the decays of baseline and gain."""

    followed: Any
    baseline: Decays
    level: Decays


def _pace(table: Mapping[str, Any], rows: tf.Tensor, count: tf.Tensor) -> _Pace:
    """For stretches of `count` steps at sites `rows`, the same for all sources."""
    import tensorflow as tf

    rate = tf.gather(table["follow_rate"], rows)
    faster = tf.minimum(rate / BASELINE_SHARE, 1.0)
    return _Pace((rate > 0)[:, None, None], decays(faster, count), decays(rate, count))


def _energy(
    excursion: bool,
    table: Mapping[str, Any],
    index: int,
    rows: tf.Tensor,
    residual: tf.Tensor,
    usable: tf.Tensor,
    pace: _Pace,
    baselines: tf.Tensor,
    levels: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Energy float32[B, N, F] of one source, and its baseline and level after the last step, each float32[B, F].

    A step that cannot be used moves neither: it counts as an ordinary one.
    """
    import tensorflow as tf

    def row(name: str) -> tf.Tensor:
        return tf.gather(table[name], rows)[:, None, index]

    limit = row("limit")
    clipped = tf.where(usable, tf.clip_by_value(residual, -limit, limit), row("centre"))
    baseline = exponential(clipped, pace.baseline, baselines[:, index])
    centred = tf.where(pace.followed, residual - step_before(baseline, baselines[:, index]), residual)
    size = tf.abs(centred) / row("spread")
    usual = row("usual")
    most = CLIPPED_AT * row("tail")
    if "redescent" in table:
        held = growth_tensor(size, most, usual, tf.gather(table["redescent"], rows)[:, None, None])
    else:
        held = tf.minimum(size, most)
    held = tf.where(usable, held, usual)
    level = exponential(held, pace.level, levels[:, index])
    gain = tf.clip_by_value(step_before(level, levels[:, index]) / usual, 1.0, LARGEST_GAIN)
    size = tf.where(pace.followed, size / gain, size)
    if excursion:
        energy = tf.math.log1p(tf.maximum(size / row("tail") - 1.0, 0.0))
    else:
        energy = tf.minimum(size * size, table["cap"])
    return (
        tf.where(usable, energy, 0.0),
        last(baseline, baselines[:, index]),
        last(level, levels[:, index]),
    )
