"""Finds stretches of a training whose scores do not belong to the tail that the bulk of its scores shows.

The threshold cannot say it: such stretches lifted it. Scores of machines have heavy tails, so the bulk is continued by a power law (Pareto), and the
stretches beyond it are chosen so that of those that are named at most `FALSE` in a hundred are to be expected by chance (Benjamini and Hochberg 1995,
"Controlling the false discovery rate"): where nothing stands out, hardly ever one is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from pipeline.datasets.prepared import Prepared
from pipeline.datasets.run import Run
from pipeline.evaluation.alarms import stretches
from pipeline.evaluation.candidate import Candidate, instant
from pipeline.watch import Step

FALSE = 0.02
"""Share of the named stretches that may be there by chance."""
BULKS = ((0.5, 0.8), (0.5, 0.95))
"""Quantiles between which the tail's slope is taken; the steeper tail holds. The second keeps what a machine does in a twentieth of its time from standing out."""
LEAST_STEPS = 300
"""Scored steps below which a bulk says nothing of a tail."""
_LEAST_SLOPE = 0.05
"""Scores that hardly vary have a tail that anything is beyond."""
_LEAST_SCORE = 1e-6
_SENSORS = 3


@dataclass(frozen=True)
class Stretch:
    """Steps `begin` to before `end` of run number `run`, whose largest score is `times` the one that the bulk lets expect once."""

    run: int
    begin: int
    end: int
    times: float


def standing_out(scores: Sequence[NDArray[np.float64]], apart: int) -> list[Stretch]:
    """What stands out of a site's scores float64[N_i], one array a run, NaN where there is none; strongest first.

    A stretch goes as far as the score stays above what the bulk lets expect once. `apart`: steps after which scores share nothing any more.
    """
    known = np.concatenate([score[np.isfinite(score)] for score in scores]) if scores else np.zeros(0)
    if len(known) < LEAST_STEPS:
        return []
    tails = [_Tail.of(known, *bulk, looks=len(known) / apart) for bulk in BULKS]
    once = max(tail.expecting_once() for tail in tails)
    found: list[Stretch] = []
    for number, score in enumerate(scores):
        with np.errstate(invalid="ignore"):
            above = score > once
        found += [
            Stretch(number, begin, end, float(score[begin:end].max() / once))
            for begin, end in stretches(above)
        ]
    found.sort(key=lambda each: -each.times)
    chance = np.array([max(tail.expected(each.times * once) for tail in tails) for each in found])
    named = np.flatnonzero(chance <= FALSE * np.arange(1, len(found) + 1))
    return found[: named[-1] + 1] if len(named) else []


@dataclass(frozen=True)
class _Tail:
    """A power law from the score `foot` on: of independent looks `above` lie beyond it, and e times fewer beyond e^`slope` times it."""

    foot: float
    above: float
    slope: float

    @classmethod
    def of(cls, known: NDArray[np.float64], low: float, high: float, looks: float) -> _Tail:
        first, last = np.maximum(np.quantile(known, [low, high]), _LEAST_SCORE)
        slope = float(np.log(last / first) / np.log((1 - low) / (1 - high)))
        return cls(float(last), (1 - high) * looks, max(slope, _LEAST_SLOPE))

    def expected(self, score: float) -> float:
        """How many independent looks lie beyond a score."""
        return float(self.above * (score / self.foot) ** (-1.0 / self.slope))

    def expecting_once(self) -> float:
        return float(self.foot * self.above**self.slope)


def candidates(
    prepared: Prepared, detector: Detector, step: Step | None = None
) -> dict[str, tuple[Candidate, ...]]:
    """By site what stands out of the rows that it learned from, scored by its own detector; sites where nothing does are not in it.

    Without its operating regimes, and without what is ordinary: an incident of a training is part of both, and would excuse itself.
    """
    detector = replace(detector, calibration=detector.calibration.without_excuses())
    found: dict[str, tuple[Candidate, ...]] = {}
    sites = sorted(prepared.dataset.shards)
    for done, site in enumerate(sites, 1):
        runs = prepared.seen(site)
        scores = [detector.score(site, run.values).score for run in runs]
        named = standing_out(scores, max(detector.options.spans))
        # What each sensor says is as large as the readings: it is asked for where something is named, one run after the other.
        loudest: dict[Stretch, tuple[str, ...]] = {}
        for number in sorted({each.run for each in named}):
            contribution = detector.score(site, runs[number].values).contribution
            own = (each for each in named if each.run == number)
            loudest.update({each: _loudest(detector, contribution[each.begin : each.end]) for each in own})
        if named:
            found[site] = tuple(_candidate(runs[each.run], each, loudest[each]) for each in named)
        if step is not None:
            step.update(done, len(sites), site)
    return found


def _candidate(run: Run, of: Stretch, sensors: tuple[str, ...]) -> Candidate:
    # A step stands for the readings since the one before it.
    begin, end = (run.start_ns + step * run.step_ns for step in (of.begin - 1, of.end))
    return Candidate(run.asset, instant(begin), instant(end), round(of.times, 2), sensors)


def _loudest(detector: Detector, contribution: NDArray[np.float32]) -> tuple[str, ...]:
    """The sensors that say most over the steps of float32[N, F]."""
    total = contribution.sum(axis=0)
    order = np.argsort(-total, kind="stable")[:_SENSORS]
    return tuple(detector.sensors[at] for at in order if total[at] > 0)
