"""Synthetic faults of known kinds, put into recordings that have none, and how well a detector finds them.

The same for the same seed. A detector that finds them best need not be best on real incidents: these are subtle breaks, real ones
are often large (docs/decisions/0004-detector.md).

Magnitudes are in standard deviations of the training data, drawn evenly from 1 to 3; one to three sensors are affected, for 5 to
39 steps (a spike: 1 to 3). Nothing here was tuned on what a detector makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.ranking import average_precision

_ROWS_A_FAULT, _LEAST_ROWS = 100, 200


class Scoring(Protocol):
    """What comes of scoring a run."""

    @property
    def score(self) -> NDArray[np.float64]:
        """By step; NaN where there is none."""


class Scores(Protocol):
    """A detector."""

    def score(self, site: str, values: NDArray[np.float64]) -> Scoring:
        """Of raw values float64[N, F]."""


KINDS = ("spike", "level", "drift", "variance", "stuck", "correlation", "swap")


def inject(
    values: NDArray[np.float64],
    deviation: NDArray[np.float64],
    count: int,
    seed: int,
    kinds: tuple[str, ...] = KINDS,
    lengths: tuple[int, int] = (5, 40),
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """`count` faults spread over float64[N, F], their labels bool[N], and the kind of each.

    `deviation` float64[F] gives the scale; a fault lasts from the first of `lengths` to less than the second, at most half of
    its share of the rows, a spike always one to three steps.
    """
    random = np.random.default_rng(seed)
    faulty, label, names = values.copy(), np.zeros(len(values), bool), []
    rows, sensors = values.shape
    slots = np.linspace(0, rows, count + 1).astype(int)
    for i, (begin, end) in enumerate(pairwise(slots)):
        kind = kinds[i % len(kinds)]
        if kind == "swap" and sensors < 2:
            kind = "correlation"
        length = int(random.integers(1, 4) if kind == "spike" else random.integers(*lengths))
        length = min(length, max(1, (end - begin) // 2))
        first = int(random.integers(begin + (end - begin) // 8, end - length))
        rows_of = slice(first, first + length)
        most = min(3, sensors)
        chosen = random.choice(
            sensors, int(random.integers(2 if kind == "swap" else 1, most + 1)), replace=False
        )
        if kind == "swap":
            faulty[rows_of, chosen] = faulty[rows_of, np.roll(chosen, 1)]
        else:
            for sensor in chosen:
                faulty[rows_of, sensor] = _one(
                    kind, values[:, sensor], first, length, deviation[sensor], random
                )
        label[rows_of] = True
        names.append(kind)
    return faulty, label, names


def showing(
    faulty: NDArray[np.floating], normal: NDArray[np.floating], label: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Of labelled stretches bool[N] the steps from the first to the last at which a known value is not what it would have been."""
    seen = label & ((faulty != normal) & np.isfinite(faulty)).any(axis=1)
    edges = np.flatnonzero(np.diff(np.r_[False, label, False]))
    for start, stop in edges.reshape(-1, 2):
        at = np.flatnonzero(seen[start:stop])
        if len(at):
            seen[start + at[0] : start + at[-1] + 1] = True
    return np.asarray(seen)


def found_faults(
    detector: Scores,
    site: str,
    held_out: Sequence[NDArray[np.floating]],
    deviation: NDArray[np.float64],
    seed: int,
) -> float | None:
    """AUC-PR of a detector on a site's held-out raw runs float[N_i, F] with a fault in every hundred rows; None if they are too short for it."""
    scores, labels = [], []
    for number, run in enumerate(held_out):
        if len(run) < _LEAST_ROWS:
            continue
        normal = np.asarray(run, np.float64)
        faulty, label, _ = inject(normal, deviation, len(run) // _ROWS_A_FAULT, seed + number)
        scores.append(np.asarray(detector.score(site, faulty).score, np.float64))
        labels.append(showing(faulty, normal, label))
    if not scores:
        return None
    score, label = np.concatenate(scores), np.concatenate(labels)
    known = np.isfinite(score)
    return average_precision(score[known], label[known])


def _one(
    kind: str,
    sensor: NDArray[np.float64],
    first: int,
    length: int,
    deviation: float,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """What one sensor shows during one fault."""
    good = sensor[first : first + length]
    size = float(random.uniform(1, 3) * deviation * random.choice([-1, 1]))
    if kind == "spike":
        return good + 1.5 * size
    if kind == "level":
        return good + size
    if kind == "drift":
        return good + 1.5 * size * np.linspace(0, 1, length)
    if kind == "variance":
        return good + random.normal(0, abs(size) / 1.5, length)
    if kind == "stuck":
        return np.full(length, sensor[first])
    # Correlation break: what the sensor showed at another time, plausible by itself.
    other = int(random.integers(0, len(sensor) - length + 1))
    return sensor[other : other + length]
