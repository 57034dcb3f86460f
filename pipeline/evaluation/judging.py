"""Scores held against labels: every way of training, on the same rows after training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.artefacts import FEDERATED, Evaluation
from pipeline.datasets.prepared import Prepared
from pipeline.datasets.run import Run
from pipeline.evaluation.metrics import Metrics, evaluate
from pipeline.evaluation.truth import UNKNOWN, Truth, reach
from pipeline.learning.learned import Scorer
from pipeline.remarks import together
from pipeline.watch import Step

_TELLS = 0.5
"""AUC-PR above which incidents score highest: most of what would be flagged first is of one."""


@dataclass(frozen=True)
class Judged:
    """One run with its truth: `label` int8[N], 1 in an incident, 0 normal, -1 not known.

    The first `lead` rows lie before the time that is judged: they only fill the detector's memory.
    """

    run: Run
    label: NDArray[np.int8]
    lead: int = 0


def label_run(run: Run, frame: pd.DataFrame | None) -> NDArray[np.int8]:
    """Labels on the grid of a run: a step is anomalous if any of its readings is; steps without a reading keep the last.

    Args:
      run: the run; a grid time stands for the readings since the grid time before it.
      frame: columns `timestamp` (UTC), `asset`, `label` (0, 1 or NaN for not known); None if there are no labels.
    """
    labels = np.full(len(run.values), UNKNOWN, np.int8)
    if frame is None:
        return labels
    own = frame[frame["asset"] == run.asset]
    nanoseconds = own["timestamp"].to_numpy(dtype="datetime64[ns]").astype(np.int64)
    row = -(-nanoseconds // run.step_ns) - run.start_ns // run.step_ns
    inside = (row >= 0) & (row < len(labels))
    values = own["label"].to_numpy(np.float64)[inside]
    row = row[inside]
    known = ~np.isnan(values)
    np.maximum.at(labels, row[known], (values[known] > 0).astype(np.int8))
    # A step that has readings but no label stays unknown; one without readings is held, as its values are.
    heard = np.zeros(len(labels), bool)
    heard[row] = True
    last = np.maximum.accumulate(np.where(heard, np.arange(len(labels)), -1))
    return np.where(last >= 0, labels[np.maximum(last, 0)], UNKNOWN).astype(np.int8)


def held_out(
    prepared: Prepared,
    memory: int,
    labels: Mapping[str, pd.DataFrame] | None = None,
    *,
    or_validation: bool = False,
) -> dict[str, list[Judged]]:
    """By site that learned, the rows nobody learned from, with up to `memory` rows before them.

    Args:
      prepared: the data set and its runs.
      memory: rows that fill a detector before it scores.
      labels: by site a frame with `timestamp`, `asset`, `label`.
      or_validation: a site without a reading since learning ended is judged on its validation part instead.
    """
    found: dict[str, list[Judged]] = {}
    for site in prepared.dataset.shards:
        runs = prepared.runs(site)
        from_ns = prepared.learned_until(site)
        last = max(run.end_ns for run in runs)
        if or_validation and from_ns > last:
            from_ns = last - (prepared.dataset.outcomes[site].validation_rows - 1) * prepared.dataset.step_ns
        parts = (cut_from(run, label_run(run, (labels or {}).get(site)), from_ns, memory) for run in runs)
        found[site] = [part for part in parts if part is not None]
    return found


def cut_from(run: Run, label: NDArray[np.int8], from_ns: int, memory: int) -> Judged | None:
    """The part of a run that is judged: from `from_ns` on, with up to `memory` rows before it to fill the detector."""
    first = run.steps_before(from_ns)
    if first >= len(run.values):
        return None
    start = max(0, first - memory)
    part = Run(run.site, run.asset, run.start_ns + start * run.step_ns, run.step_ns, run.values[start:])
    return Judged(part, label[start:], first - start)


def judge(
    scorers: Mapping[str, Mapping[str, Scorer]],
    runs: Mapping[str, Sequence[Judged]],
    step_seconds: float,
    hold_off: float,
    step: Step | None = None,
) -> Evaluation:
    """Metrics of every mode at every site; where some steps are labelled, only time between labels is counted (`pipeline.evaluation.truth`).

    `hold_off` is in seconds, as the live scorer's: alarms are counted as an operator would be called.
    """
    sites: dict[str, dict[str, Metrics]] = {}
    total = sum(len(by_site) for by_site in scorers.values())
    done = 0
    for mode, by_site in scorers.items():
        for site, scorer in by_site.items():
            judged = runs.get(site, ())
            if judged:
                sites.setdefault(site, {})[mode] = _metrics(scorer, site, judged, step_seconds, hold_off)
            done += 1
            if step is not None:
                step.update(done, total, f"{mode} {site}")
    return Evaluation.of_sites(dict(sorted(sites.items())), tuple(together(_notes(sites, runs))))


def _metrics(
    scorer: Scorer, site: str, judged: Sequence[Judged], step_seconds: float, hold_off: float
) -> Metrics:
    """Figures of one mode at one site; a blank step between runs keeps alarms and incidents from joining over a gap."""
    most = _reach(judged)
    scores: list[NDArray[np.float64]] = []
    thresholds: list[NDArray[np.float64]] = []
    truths: list[Truth] = []
    for part in judged:
        found = scorer.score(site, part.run.values)
        scores += [np.asarray(found.score, np.float64)[part.lead :], np.array([np.nan])]
        thresholds += [found.threshold[part.lead :], found.threshold[-1:]]
        label = np.r_[part.label[part.lead :], np.int8(UNKNOWN)]
        truths.append(Truth.of(label, most[part.run.asset]))
    score = np.concatenate(scores)
    labelled = np.concatenate([truth.labelled for truth in truths])
    if labelled.any():
        score = np.where(np.concatenate([truth.judged for truth in truths]), score, np.nan)
    return evaluate(
        score,
        np.concatenate([truth.label for truth in truths]) if labelled.any() else None,
        np.concatenate(thresholds),
        step_seconds,
        labelled=labelled,
        training_threshold=scorer.training_threshold(site),
        hold_off=hold_off,
    )


def _reach(judged: Sequence[Judged]) -> dict[str, float]:
    """By machine the most steps from one label to the next that are bridged."""
    times: dict[str, list[NDArray[np.int64]]] = {}
    for part in judged:
        labelled = np.flatnonzero(part.label[part.lead :] != UNKNOWN)
        times.setdefault(part.run.asset, []).append(labelled)
    return {asset: reach(of) for asset, of in times.items()}


def _notes(
    sites: Mapping[str, Mapping[str, Metrics]], runs: Mapping[str, Sequence[Judged]]
) -> Iterable[tuple[str, str]]:
    for site in sorted(set(runs) | set(sites)):
        judged = runs.get(site, ())
        if not judged:
            yield site, "no readings after training, so it was not judged"
        elif not any((part.label[part.lead :] == 1).any() for part in judged):
            yield site, "no incident is labelled after training, so only alarms could be counted"
        elif not any((part.label[part.lead :] == 0).any() for part in judged):
            yield (
                site,
                "every labelled step after training is of an incident, so no figure can tell good from bad",
            )
        elif FEDERATED in sites.get(site, {}) and _below_the_threshold(sites[site][FEDERATED]):
            yield (
                site,
                "incidents score highest, but all of it lies below the threshold, so none was flagged: a short or restless training sets it so high; "
                "learn from more, or allow more false alarms (detector.false_alarm_rate or detector.alarms_per_week)",
            )


def _below_the_threshold(figures: Metrics) -> bool:
    """Whether scores tell incidents from normal steps, and the threshold flags not one of them."""
    return figures.event_recall == 0 and figures.auc_pr is not None and figures.auc_pr > _TELLS
