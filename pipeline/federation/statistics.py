"""The statistics family: one federated sum of Gram matrices gives every linear source its exact centralised solution.

Each site sends what an average row of its design is like, `X'X / rows`; the fleet's sum is all that is shared. It is one
round of the same kind as those of the gradient family: a TFF computation over shard paths, compiled to `MapReduceForm`.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models.scaling import CLIP
from models.sources.gram import GramStatistics
from models.sources.ridge import LAGS
from pipeline.datasets.frames import frame_starts, read_runs
from pipeline.datasets.shards import ShardPaths
from pipeline.errors import ConfigError, TrainingFailed
from pipeline.federation.checkpoints import Checkpoint, CheckpointStore
from pipeline.federation.form import CompiledForm
from pipeline.federation.privacy import Budget, StatisticsNoise, noisy_sum

_CHUNK = 16_384


@dataclass(frozen=True)
class Design:
    """Rows `[z_t | z_{t-1} | .. | z_{t-lags} | 1]` of scaled sensors; NaN reads as 0 and values are clipped to +-`clip`.

    A row needs `lags` rows before it in the same run. `largest_norm` bounds the Euclidean norm of a row, constant included;
    longer ones are shortened to it, which is what bounds a site's influence when noise is added.
    """

    sensors: int
    lags: int = LAGS
    clip: float = CLIP
    largest_norm: float | None = None

    def __post_init__(self) -> None:
        """Refuse a design without columns or bounds that leave nothing."""
        if self.sensors < 1 or self.lags < 0:
            raise ConfigError(
                f"a design of {self.sensors} sensors and {self.lags} lags: expected at least 1 and 0"
            )
        if not self.clip > 0 or (self.largest_norm is not None and not self.largest_norm > 0):
            raise ConfigError(
                f"clip {self.clip} and largest_norm {self.largest_norm}: expected positive numbers"
            )

    @property
    def width(self) -> int:
        """Columns of a row."""
        return (self.lags + 1) * self.sensors + 1


@dataclass(frozen=True, eq=False)
class FleetStatistics:
    """What the sites share, and what each keeps.

    Attributes:
      total: sum over sites of their statistics per row; `total.rows` is the number of sites.
      own: by site, its statistics per row. Each stays with its site, which takes itself out of the sum with it.
      excluded: sites without a row, whose shard could not be read or whose statistics are impossible, with the reason.
      budget: what the noise promises; None without noise.
    """

    total: GramStatistics
    own: Mapping[str, GramStatistics]
    excluded: Mapping[str, str] = field(default_factory=dict)
    budget: Budget | None = None

    def prior(self, without: str | None = None) -> GramStatistics | None:
        """Statistics of one row of an average site, as `models.sources.gram.federated_prior` gives them.

        `without` leaves one site out; None if no other site has a row.
        """
        left = self.total
        if without is not None and without in self.own:
            left = left.plus(self.own[without], -1.0)
        if left.rows < 0.5:
            return None
        gram = left.gram / left.rows
        return GramStatistics(_positive(gram) if self.budget is not None else gram, 1.0)


def federated_statistics(
    shards: Mapping[str, ShardPaths],
    design: Design,
    *,
    workdir: Path | None = None,
    noise: StatisticsNoise | None = None,
) -> FleetStatistics:
    """Sum what all sites' rows are like, in one round, those of the validation too; the cut between the two is the end of a run.

    Args:
      shards: by site.
      design: which rows.
      workdir: folder for the checkpoint, this sum's alone. Called again with the same arguments, the sum is read back: noise
        that was drawn once is not drawn again, or it could be averaged out.
      noise: makes the shared sum differentially private.

    Raises:
      TrainingFailed: no site has a row.
      ConfigError: noise without `design.largest_norm`.
    """
    if noise is not None and design.largest_norm is None:
        raise ConfigError("noise on statistics needs a bound on the rows: set largest_norm")
    form = _compiled(design)
    state = form.initialize()
    own, results, excluded, rows = {}, [], {}, {}
    for site, paths in sorted(shards.items()):
        spec = f"{paths.train}\n{paths.validation}" if paths.validation_frames > 0 else paths.train
        try:
            result = form.work(spec, form.prepare(state))
        except tf.errors.OpError as error:
            excluded[site] = f"its shard cannot be read ({type(error).__name__})"
            continue
        gram = np.asarray(result[form.place("gram")])
        count = float(result[form.place("rows")])
        reason = f"it has no run of {design.lags + 1} rows" if count == 0 else impossible(gram, design)
        if reason is not None:
            excluded[site] = reason
        else:
            own[site] = GramStatistics(gram, 1.0)
            rows[site] = count
            results.append(result)
    if not own:
        reasons = "; ".join(f"{site}: {reason}" for site, reason in excluded.items())
        raise TrainingFailed(f"no site has rows for statistics ({reasons or 'no site is given'})")
    (gram, _, sites), _ = form.combine(state, results)
    total = GramStatistics(np.asarray(gram), float(sites))
    budget = None
    if noise is not None:
        assert design.largest_norm is not None
        total, budget = _with_noise(
            total, noise, design.largest_norm, min(rows.values()), workdir, own, design
        )
    return FleetStatistics(total, own, excluded, budget)


def impossible(gram: np.ndarray, design: Design) -> str | None:
    """Why a matrix float64[D, D] cannot be the mean of x x' over rows of the design; None if it can.

    A sum has no median: what a lying site may do to it is bounded by what an honest one could send.
    """
    slack = 1e-6
    if not np.isfinite(gram).all():
        return "its statistics are not finite"
    if np.abs(gram - gram.T).max() > slack * max(1.0, float(np.abs(gram).max())):
        return "its statistics are not symmetric"
    diagonal = np.diag(gram)
    if diagonal[:-1].max() > design.clip**2 * (1 + slack):
        return f"its statistics hold a mean square of {diagonal[:-1].max():.3g}; scaled values are clipped to {design.clip:g}"
    constant = 1.0 if design.largest_norm is None else min(1.0, design.largest_norm**2)
    if diagonal[-1] > constant * (1 + slack) or (design.largest_norm is None and diagonal[-1] < 1 - slack):
        return f"its statistics are of {diagonal[-1]:.3g} rows a row"
    if design.largest_norm is not None and np.trace(gram) > design.largest_norm**2 * (1 + slack):
        return f"its statistics are of rows longer than {design.largest_norm:g}"
    least = float(np.linalg.eigvalsh(gram).min())
    if least < -slack * float(np.trace(gram)):
        return f"its statistics have a negative direction ({least:.3g}), which no rows have"
    return None


def statistics_process(design: Design) -> tff.templates.IterativeProcess:
    """Build the sum as a TFF process.

    `next` is `(<gram=float64[D,D], rows=float64, sites=float64>@SERVER, {string}@CLIENTS) -> (the same, <>)@SERVER`: the state
    is replaced by the sum over the clients of `X'X / rows`, of the number of rows and of the clients that have any.
    """
    width = design.width

    @tff.tensorflow.computation
    def nothing() -> Any:
        return collections.OrderedDict(
            gram=tf.zeros((width, width), tf.float64),
            rows=tf.constant(0.0, tf.float64),
            sites=tf.constant(0.0, tf.float64),
        )

    @tff.tensorflow.computation(np.str_)
    def summarise(spec: Any) -> Any:
        gram, rows = _gram(spec, design)
        return collections.OrderedDict(
            gram=tf.math.divide_no_nan(gram, rows), rows=rows, sites=tf.cast(rows > 0, tf.float64)
        )

    @tff.federated_computation
    def initialize() -> Any:
        return tff.federated_eval(nothing, tff.SERVER)

    @tff.federated_computation(initialize.type_signature.result, tff.FederatedType(np.str_, tff.CLIENTS))
    def add(_: Any, specs: Any) -> Any:
        return tff.federated_sum(tff.federated_map(summarise, specs)), tff.federated_value((), tff.SERVER)

    return tff.templates.IterativeProcess(initialize, add)


@functools.lru_cache(maxsize=4)
def _compiled(design: Design) -> CompiledForm:
    process = statistics_process(design)
    return CompiledForm(process.initialize, process.next)


def _gram(spec: Any, design: Design) -> tuple[Any, Any]:
    """Sum of x x' over a shard's rows, float64[D, D], and their number; in chunks, so that memory does not grow with the shard."""
    rows, lengths = read_runs(spec, design.sensors)
    known = tf.clip_by_value(tf.where(tf.math.is_nan(rows), 0.0, rows), -design.clip, design.clip)
    starts = frame_starts(lengths, steps=design.lags + 1, stride=1)
    count = tf.size(starts, tf.int64)

    def add_chunk(first: Any, total: Any) -> Any:
        chosen = starts[first : first + _CHUNK]
        lagged = [tf.gather(known, chosen + design.lags - lag) for lag in range(design.lags + 1)]
        design_rows = tf.cast(tf.concat([*lagged, tf.ones([tf.size(chosen), 1])], axis=1), tf.float64)
        if design.largest_norm is not None:
            design_rows = tf.clip_by_norm(design_rows, tf.constant(design.largest_norm, tf.float64), axes=[1])
        return first + _CHUNK, total + tf.matmul(design_rows, design_rows, transpose_a=True)

    zero = tf.zeros((design.width, design.width), tf.float64)
    _, gram = tf.while_loop(
        lambda first, _: first < count,
        add_chunk,
        (tf.constant(0, tf.int64), zero),
        parallel_iterations=1,
    )
    return gram, tf.cast(count, tf.float64)


def _with_noise(
    total: GramStatistics,
    noise: StatisticsNoise,
    largest_norm: float,
    fewest_rows: float,
    workdir: Path | None,
    own: Mapping[str, GramStatistics],
    design: Design,
) -> tuple[GramStatistics, Budget]:
    content = {
        "design": asdict(design),
        "noise": asdict(noise),
        "own": [hashlib.sha256(each.gram.tobytes()).hexdigest() for each in own.values()],
    }
    store = None
    if workdir is not None:
        fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        store = CheckpointStore(workdir, fingerprint, keep=1)
        found = store.latest()
        if found is not None:
            return GramStatistics(found.state[0], total.rows), Budget(**found.progress["budget"])
    gram, budget = noisy_sum(total.gram, noise, largest_norm, lags=design.lags, fewest_rows=fewest_rows)
    if store is not None:
        store.save(Checkpoint(1, [gram], [], {"budget": asdict(budget)}))
    return GramStatistics(gram, total.rows), budget


def _positive(gram: np.ndarray) -> np.ndarray:
    """The nearest matrix without negative directions, with a little of the mean diagonal in every one."""
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    least = 1e-6 * max(float(np.trace(gram)) / len(gram), 1e-12)
    return np.asarray((vectors * np.maximum(values, least)) @ vectors.T)
