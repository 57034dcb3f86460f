"""Whether slow changes of young sites are followed from their first hours on: sites with a history play young and say.

A training of some hundred rows cannot tell a slow change from a fault: to follow costs some machines what it brings others
(docs/decisions/0017-short-trainings-followed.md). Which of both it is for machines like these, those tell that have later rows: whether a detector of so few would have kept its promise there, and whether faults
injected there stand out more by one that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.architectures import TcnSpec
from models.detector import Detector
from models.errors import NotEnoughData
from models.fitting import fit_detector
from models.options import DetectorOptions
from models.scaling import SensorScaling, moments
from models.sharing import asked
from models.sources.experience import LONGER, age, cut
from pipeline.evaluation.injection import found_faults

LOUD = 2.0
"""So many times what is promised is a promise broken."""
_WORTH = 0.01
"""AUC-PR of injected faults that following has to bring: who does not follow sees a fault of hundreds of steps to its end."""
_FEWEST_SITES = 2
_STRETCHES, _MOST_STRETCHES = 12, 4
"""Stretches that are played in all, and of one site at most."""
_UP_TO = 0.8
"""Part of a history in which they begin: some of it has to lie behind."""
_BEHIND = 4000
"""Rows behind a stretch that are looked at, at most."""
_SEED = 1

Rows = NDArray[np.floating]


@dataclass(frozen=True)
class Playing:
    """What a site that plays young is fitted with.

    Attributes:
      sensors: names of the F columns. `step_seconds`: their sampling period. `steps`: of a frame.
      options: the configured ones.
      scaling: of a site's raw runs float[N_i, F], if no more were known of it.
    """

    sensors: Sequence[str]
    step_seconds: float
    steps: int
    options: DetectorOptions
    scaling: Callable[[str, Sequence[Rows]], SensorScaling]

    def asks(self, rows: int) -> bool:
        """Whether a site with so many rows asks others: it can be calibrated, and is not followed by their number."""
        options = self.options.resolved(self.step_seconds)
        return rows >= options.min_steps and not options.follows(rows) and options.follow > 0

    def advise(self, elders: Mapping[str, Sequence[Rows]], rows: int) -> bool:
        """Whether sites advise to follow slow changes of one that has `rows` rows, from their raw runs float[N_i, F], each of one machine.

        They do if detectors of so few of their own rows flag more than `LOUD` times what is promised of the rows behind (mean), and following brings more of the faults injected there (median
        over sites: one that is wrong or lies does not decide). By their own rows alone: what others know raises both areas and hardly changes their difference. Who is too short to
        tell has no say; one alone has none either.
        """
        linear = tuple(name for name in self.options.sources if name != "network")
        if not linear:
            return False
        alone = replace(self.options, sources=linear, prior_rows=0.0)
        still, following = replace(alone, follow=0.0), replace(alone, early=True)
        stretches = min(_MOST_STRETCHES, max(1, _STRETCHES // max(1, len(elders))))
        played = [
            (stretch, detector)
            for site, runs in elders.items()
            for stretch in _stretches(site, runs, rows, stretches)
            if (detector := self._fitted(stretch, still)) is not None
        ]
        if len({stretch.site for stretch, _ in played}) < _FEWEST_SITES:
            return False
        if np.mean([stretch.flagged(detector) for stretch, detector in played]) <= (
            LOUD * self.options.false_alarm_rate
        ):
            return False
        gains: dict[str, list[float]] = {}
        for stretch, detector in played:
            other = self._fitted(stretch, following)
            found = [None if each is None else stretch.found(each) for each in (other, detector)]
            if found[0] is not None and found[1] is not None:
                gains.setdefault(stretch.site, []).append(found[0] - found[1])
        return bool(gains) and float(np.median([np.mean(of_site) for of_site in gains.values()])) > _WORTH

    def _fitted(self, stretch: _Stretch, options: DetectorOptions) -> Detector | None:
        """The detector of a stretch's own rows; None where no frame fits into them."""
        site, learned = stretch.site, stretch.learned
        try:
            return fit_detector(
                TcnSpec(),
                None,
                self.sensors,
                self.step_seconds,
                self.steps,
                {site: self.scaling(site, learned)},
                {site: learned},
                options,
                fleet=False,
            )
        except NotEnoughData:
            return None


@dataclass(frozen=True)
class _Stretch:
    """A part of a site's history that stands for a training, raw runs float[N_i, F], and the rows behind it."""

    site: str
    learned: Sequence[Rows]
    behind: Sequence[Rows]

    def flagged(self, detector: Detector) -> float:
        """Share of the rows behind that the training threshold flags."""
        score = np.concatenate([detector.score(self.site, run).score for run in self.behind])
        known = np.isfinite(score)
        return float((score[known] > detector.training_threshold(self.site)).mean()) if known.any() else 0.0

    def found(self, detector: Detector) -> float | None:
        """AUC-PR of faults injected behind; None where there is no room for any."""
        raw = moments(self.learned, self.learned[0].shape[1])
        deviation = np.where(raw.moves, np.sqrt(raw.variance), 0.0)
        return found_faults(detector, self.site, self.behind, deviation, _SEED)


def _stretches(site: str, runs: Sequence[Rows], rows: int, count: int) -> Iterator[_Stretch]:
    """So many stretches of `rows` rows, spread over a history; none where it is not `LONGER` times as long."""
    total = sum(len(run) for run in runs)
    if total < LONGER * rows:
        return
    for place in _UP_TO * (np.arange(count) + 0.5) / count:
        first = int(place * (total - rows))
        learned, behind = cut(runs, first, first + rows), cut(runs, first + rows, first + rows + _BEHIND)
        yield _Stretch(site, learned, behind)


def followed_early(playing: Playing, watched: Mapping[str, Sequence[Rows]]) -> frozenset[str]:
    """Sites too young to be followed by the length of their training that are followed all the same, as sites with a history advise.

    `watched`: each site's raw runs float[N_i, F] of one machine, the one watched longest.
    """
    histories = {site: sum(len(run) for run in runs) for site, runs in watched.items()}
    ages = {site: age(rows) for site, rows in histories.items() if playing.asks(rows)}
    advised = {
        rows: playing.advise({site: watched[site] for site in asked(histories, rows)}, rows)
        for rows in set(ages.values())
    }
    return frozenset(site for site, rows in ages.items() if advised[rows])
