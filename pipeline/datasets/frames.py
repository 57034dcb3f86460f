"""Frames cut inside the tf.data graph from the path of one shard.

Everything is TensorFlow graph code without `py_function`, so the same code runs eagerly, in TFF's native runtime and
in the compiled plan of a remote site. A *spec* is the path of a shard, optionally followed by `?shuffle=<n>`: the number
seeds the order of the frames, so that a training whose only input is a string still has a different, reproducible order
every round; behind it may stand how long the site's update may be (`limited`) and the files of the site's memory (`shard_spec`). Several paths joined by a line break are read as one shard: that is how all sites become one client.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

_ALL_RECORDS = 1 << 31
_SHUFFLE = "?shuffle="


def shard_spec(
    path: str | Sequence[str], *, seed: int, round_number: int, recall: str = "", remember: str = ""
) -> str:
    """Gives the spec of a shard whose frame order is fixed by `seed` and `round_number` (both non-negative).

    `remember` is the file in which the site keeps what it needs in a later round, `recall` the one it kept before.
    """
    # Two numbers become one so that the string needs one number only; the multiplier keeps rounds of seeds apart.
    joined = path if isinstance(path, str) else "\n".join(path)
    memory = f"&recall={recall}&remember={remember}" if remember else ""
    return f"{joined}{_SHUFFLE}{seed * 1_000_003 + round_number}{memory}"


def limited(spec: str, longest: float) -> str:
    """The same spec for a site whose update may have at most the Euclidean length `longest`."""
    path, _, rest = spec.rpartition(_SHUFFLE) if _SHUFFLE in spec else (spec, "", "-1")
    number, ampersand, memory = rest.partition("&")
    return f"{path}{_SHUFFLE}{number}&longest={longest:.9g}{ampersand}{memory}"


def longest_update(spec: tf.Tensor) -> tf.Tensor:
    """Gives the length that `limited` put into a spec, float64, infinite without."""
    found = tf.strings.regex_replace(spec, r"(?s)^.*?(?:\?shuffle=-?\d+&longest=([-+.\de]+)(&.*)?)?$", r"\1")
    return tf.strings.to_number(tf.where(tf.equal(found, ""), "inf", found), tf.float64)


def spec_paths(spec: str) -> list[str]:
    """Gives the shards that a spec names."""
    return spec.rsplit(_SHUFFLE, 1)[0].split("\n")


def _split_spec(spec: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    path = tf.strings.regex_replace(spec, r"(?s)\?shuffle=-?\d+(&.*)?$", "")
    number = tf.strings.regex_replace(spec, r"(?s)^.*?(?:\?shuffle=(-?\d+)(&.*)?)?$", r"\1")
    number = tf.where(tf.equal(number, ""), "-1", number)
    return path, tf.strings.to_number(number, tf.int64)


def memory_files(spec: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the files `recall` and `remember` of a spec, empty where it names none."""
    recall = tf.strings.regex_replace(spec, r"(?s)^.*?(?:&recall=(.*)&remember=.*)?$", r"\1")
    remember = tf.strings.regex_replace(spec, r"(?s)^.*?(?:&remember=(.*))?$", r"\1")
    return recall, remember


def read_runs(path: tf.Tensor, sensors: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads a shard: all runs' rows one after the other, `float32[N, sensors]`, and the rows of each run, `int64[R]`."""
    records = tf.data.TFRecordDataset(tf.strings.split(path, "\n")).map(
        lambda record: tf.reshape(tf.io.decode_raw(record, tf.float32), [-1, sensors])
    )
    # A run without rows in front: `get_single_element` refuses an empty data set, a site without data must not fail.
    nothing = tf.data.Dataset.from_tensors(tf.zeros([0, sensors], tf.float32))
    runs = nothing.concatenate(records).ragged_batch(_ALL_RECORDS).get_single_element()
    return tf.ensure_shape(runs.values, [None, sensors]), runs.row_lengths()


def frame_starts(lengths: tf.Tensor, *, steps: int, stride: int) -> tf.Tensor:
    """Gives the first row of each frame, `int64[M]`; a frame never crosses from one run into the next.

    The last frame of a run ends on its last row; from there frames go back by `stride`. A run shorter than `steps`
    gives none. `lengths` is `int64[R]`, rows per run, runs lying one after the other.
    """
    ends = tf.cumsum(lengths)
    first_rows = ends - lengths
    counts = tf.maximum(lengths - steps, -stride) // stride + 1
    first_starts = first_rows + tf.maximum(lengths - steps, 0) % stride
    return tf.ragged.range(first_starts, first_starts + counts * stride, stride).values


def open_shard(
    spec: tf.Tensor | str, *, sensors: int, steps: int, stride: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads a shard: its rows `float32[N, F]`, the first row of each frame `int64[M]`, and the seed of their order, -1 for time order."""
    path, shuffle = _split_spec(tf.convert_to_tensor(spec))
    rows, lengths = read_runs(path, sensors)
    return rows, frame_starts(lengths, steps=steps, stride=stride), shuffle


def frame_order(starts: tf.Tensor, shuffle: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
    """Gives the frames' first rows in the order of an epoch."""
    return tf.cond(
        shuffle >= 0,
        lambda: tf.random.experimental.stateless_shuffle(starts, seed=tf.stack([shuffle, epoch])),
        lambda: starts,
    )


def cut_frames(rows: tf.Tensor, chosen: tf.Tensor, steps: int) -> tf.Tensor:
    """Gives the frames `float32[B, T, F]` that begin at the rows `chosen`, `int64[B]`."""
    return tf.gather(rows, chosen[:, tf.newaxis] + tf.range(steps, dtype=tf.int64))


def frames(
    spec: tf.Tensor | str,
    *,
    sensors: int,
    steps: int,
    stride: int = 1,
    batch: int = 64,
    epochs: int = 1,
    limit: int | None = None,
) -> tf.data.Dataset:
    """Cuts the frames of one shard.

    Args:
      spec: string scalar, path of a shard, `?shuffle=<n>` behind it to shuffle all frames with that seed; without it
        frames come in time order.
      sensors: F, number of sensors in the shard.
      steps: T, rows of one frame.
      stride: rows between the ends of neighbouring frames.
      batch: frames in one batch; the last batch of an epoch may hold fewer.
      epochs: passes over the shard, each in an order of its own.
      limit: at most this many batches over all epochs.

    Returns:
      Data set of `float32[B, T, F]`, NaN kept. Without a frame it is empty.
    """
    rows, starts, shuffle = open_shard(spec, sensors=sensors, steps=steps, stride=stride)
    batches_per_epoch = (tf.size(starts, tf.int64) + batch - 1) // batch

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = frame_order(starts, shuffle, epoch)

        def one_batch(number: tf.Tensor) -> tf.Tensor:
            return cut_frames(rows, order[number * batch : (number + 1) * batch], steps)

        return tf.data.Dataset.range(batches_per_epoch).map(one_batch)

    if epochs == 1:
        dataset = one_epoch(tf.constant(0, tf.int64))
    else:
        dataset = tf.data.Dataset.range(epochs).flat_map(one_epoch)
    dataset = dataset if limit is None else dataset.take(limit)
    # A few dozen batches are read once: rewriting and tuning the pipeline would cost more than it saves.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)
