"""Labelled incidents of which no step can be scored: no figure counts them, so that somebody has to say that they were there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.detector import Detector
from pipeline.datasets.prepared import Prepared
from pipeline.evaluation.judging import Judged
from pipeline.evaluation.truth import UNKNOWN, known_stretches, reach
from pipeline.learning.learned import Scorer
from pipeline.remarks import listed, together


def unscored_notes(
    prepared: Prepared,
    detector: Scorer | None,
    judged: Mapping[str, Sequence[Judged]],
    labels: Mapping[str, pd.DataFrame],
) -> list[str]:
    """Lines on labelled incidents, and machines of labelled sites, that no figure counts.

    Args:
      prepared: says from which instant on a site was judged.
      detector: the federated one, which scores no step before its context is filled; None if there is none, and every step counts as scored.
      judged: by site what was scored.
      labels: by site a frame in time order with `timestamp` (UTC), `asset`, `label` (0, 1 or NaN for not known).
    """
    context = detector.context if isinstance(detector, Detector) else 0
    return together(
        (site, what)
        for site, parts in sorted(judged.items())
        if parts and site in labels
        for what in _of_site(parts, labels[site], prepared.learned_until(site), context)
    )


def _of_site(parts: Sequence[Judged], labels: pd.DataFrame, from_ns: int, context: int) -> Iterator[str]:
    machines = sorted({part.run.asset for part in parts})
    bare = [
        asset for asset in machines if not any(_labelled(part) for part in parts if part.run.asset == asset)
    ]
    missed = total = 0
    for asset, own in labels.groupby("asset"):
        scored = [_scored_ns(part, context) for part in parts if part.run.asset == asset]
        found = _incidents(own, from_ns)
        total += len(found)
        missed += _outside(found, np.sort(np.concatenate([_NONE, *scored])), parts[0].run.step_ns)
    if missed:
        yield (
            f"{missed} of {total} labelled incidents after training cannot be scored (no readings, or too few since a gap), "
            "and no figure counts that they were missed"
        )
    # Where no machine has a label, that is told of the site.
    if 0 < len(bare) < len(machines):
        yield f"no label after training, so that no figure counts them, nor their alarms: {listed(bare)}"


def _labelled(part: Judged) -> bool:
    return bool((part.label[part.lead :] != UNKNOWN).any())


def _outside(incidents: Sequence[tuple[int, int]], scored: NDArray[np.int64], step_ns: int) -> int:
    """How many incidents hold none of the grid times int64[N], ascending; a grid time stands for the readings since the one before it."""
    first, last = (-(-np.array(incidents, np.int64).reshape(-1, 2) // step_ns) * step_ns).T
    return int((np.searchsorted(scored, first) == np.searchsorted(scored, last, "right")).sum())


_NONE = np.zeros(0, np.int64)


def _incidents(frame: pd.DataFrame, from_ns: int) -> list[tuple[int, int]]:
    """First and last labelled instant, ns since 1970 UTC, of one machine's incidents from an instant on."""
    time = frame["timestamp"].to_numpy(dtype="datetime64[ns]").astype(np.int64)
    label = frame["label"].to_numpy(np.float64)
    later = time >= from_ns
    time, known = time[later], ~np.isnan(label[later])
    told = np.where(known, label[later] > 0, UNKNOWN).astype(np.int8)
    # Counted in readings, as `pipeline.jobs.labelled` does: an incident goes on over a silence of its machine.
    reading = np.arange(len(time))
    stretches = known_stretches(reading, told, reach([reading[known]]))
    return [(int(time[begin]), int(time[end - 1])) for begin, end, value in stretches if value == 1]


def _scored_ns(part: Judged, context: int) -> NDArray[np.int64]:
    """Grid times of a run that get a score, int64[N], ns since 1970 UTC."""
    rows = np.arange(len(part.run.values))
    spoke = np.isfinite(part.run.values).any(axis=1)
    return part.run.times_ns[(rows >= max(part.lead, context)) & spoke]
