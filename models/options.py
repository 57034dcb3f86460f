"""How residuals become a score and a threshold; nothing here may be chosen with labels of the data it is judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from models.errors import InvalidModel

SOURCES: Mapping[str, float] = MappingProxyType(
    {"ridge": 1.5, "stiff_ridge": 1.0, "pca": 1.5, "excursion": 0.375, "network": 0.25, "zscore": 0.25}
)
"""Every residual source and its weight in the score of a detector that has them all."""
USUAL = ("ridge", "stiff_ridge", "pca", "excursion", "network")
"""Those that a detector has unless told otherwise."""

HOLD_OFF = 600.0
"""Seconds, the live scorer's default (`scoring.hold_off`)."""
_LEAST_MEMORY = 4
"""Times `follow_from`: the baseline's memory, a fifth of a gain's, is then a little shorter than the shortest training that is followed."""

THRESHOLD_RULES = ("quantile", "tail", "alarms_per_week")


@dataclass(frozen=True)
class DetectorOptions:
    """What a detector looks at and when it raises an alarm.

    Attributes:
      sources: names of `SOURCES`; each alone is valid.
      rule: `quantile`, `tail` (peaks over threshold) or `alarms_per_week`.
      false_alarm_rate: share of normal steps that may score above the threshold, for the first two rules.
      alarms_per_week: alarms that the third rule allows in a normal week. `hold_off_seconds`: flagged steps at most so far apart are one of them, as
        the live scorer counts; neighbours always are.
      threshold_follows: whether the threshold follows, while scoring, what the score usually is.
      ridge, stiff_ridge: ridge strengths, shares of the number of rows, a tenth of them where a machine switches. `pca`: share of variance the components explain.
      cap: largest squared normalised residual of a sensor.
      spans: steps of the exponential averages of the score. `average_seconds`: the same as durations, which `resolved` turns into steps
        of the sampling period; None keeps the steps.
      min_steps: scored training steps a site needs for a calibration of its own.
      prior_rows: rows of an average other site that the linear sources are fitted with beside a site's own, at most; `trusting`: in any
        case so many, also where with them the site's own rows are predicted worse.
      follow: the memory for slow changes as a share of the training's length, but at least `least_memory`; 0 to follow nothing. `follow_from`: rows of
        training from which slow changes are followed; with fewer, sensors that wander in training weigh less instead if `weigh_sensors`.
        `follow_from_seconds`: the same as a duration. `early`: they are followed however short the training is.
      regimes: whether residuals are judged by what the machine is doing.
      ordinary: whether what is ordinary for a sensor counts less (`models.ordinary`).
      sharpen: whether the stiff ridge gives its say to the other where relations are sharp (`models.sharpness`).
      redescending: whether what lies far out moves a gain less the further it does, where the training knows how far that is (`models.slow_changes`).
      fill: whether what the others tell takes the place of a missing reading (`models.filling`).
    """

    sources: tuple[str, ...] = USUAL
    rule: str = "quantile"
    false_alarm_rate: float = 0.005
    alarms_per_week: float = 1.0
    hold_off_seconds: float = HOLD_OFF
    threshold_follows: bool = True
    ridge: float = 0.1
    stiff_ridge: float = 1.0
    pca: float = 0.9
    cap: float = 100.0
    spans: tuple[int, ...] = (3, 10, 30)
    min_steps: int = 100
    prior_rows: float = 2000.0
    trusting: bool = False
    follow: float = 0.5
    follow_from: int = 1000
    average_seconds: tuple[float, ...] | None = None
    follow_from_seconds: float | None = None
    early: bool = False
    weigh_sensors: bool = True
    regimes: bool = True
    ordinary: bool = True
    sharpen: bool = True
    redescending: bool = True
    fill: bool = True
    weights: Mapping[str, float] = field(default_factory=lambda: dict(SOURCES))

    @property
    def least_memory(self) -> int:
        """Steps that a gain and a threshold look back at least: a training that can only just be followed does not know how long its machine's changes last."""
        return _LEAST_MEMORY * self.follow_from

    def of_several(self) -> DetectorOptions:
        """These options for the rows of several machines together, without what only one machine's own training tells."""
        return replace(self, regimes=False, ordinary=False, fill=False, sharpen=False)

    def follows(self, rows: int) -> bool:
        """Whether slow changes are followed after a training of `rows` rows of one machine."""
        return self.follow > 0 and (self.early or rows >= self.follow_from)

    def resolved(self, step_seconds: float) -> DetectorOptions:
        """These options with durations in steps of `step_seconds`: the nearest whole number, at least one."""

        def steps(seconds: float) -> int:
            return max(1, round(seconds / step_seconds))

        found = self
        if self.average_seconds is not None:
            found = replace(found, spans=tuple(steps(each) for each in self.average_seconds))
        if self.follow_from_seconds is not None:
            found = replace(found, follow_from=steps(self.follow_from_seconds))
        return found

    def __post_init__(self) -> None:
        """Refuse what no detector can be built from.

        Raises:
          InvalidModel: an option is out of its range.
        """
        unknown = sorted(set(self.sources) - set(SOURCES))
        if unknown or not self.sources or len(set(self.sources)) != len(self.sources):
            raise InvalidModel(
                f"sources {', '.join(self.sources) or 'none'}: expected one or more different of {', '.join(SOURCES)}"
            )
        if self.rule not in THRESHOLD_RULES:
            raise InvalidModel(
                f"threshold rule {self.rule!r} is unknown; choose one of {', '.join(THRESHOLD_RULES)}"
            )
        if not 0 < self.false_alarm_rate < 1:
            raise InvalidModel(
                f"false_alarm_rate is {self.false_alarm_rate}; expected a share between 0 and 1"
            )
        if not 0 < self.alarms_per_week < 10_000:
            raise InvalidModel(f"alarms_per_week is {self.alarms_per_week}; expected between 0 and 10,000")
        if not self.hold_off_seconds >= 0:
            raise InvalidModel(f"hold_off_seconds is {self.hold_off_seconds}; expected 0 or more")
        if not self.spans or min(self.spans) < 1:
            raise InvalidModel(f"spans are {self.spans}; expected numbers of steps from 1 on")
        durations = (*(self.average_seconds or (1.0,)), self.follow_from_seconds or 1.0)
        if self.average_seconds == () or min(durations) <= 0:
            raise InvalidModel(
                f"average_seconds {self.average_seconds} and follow_from_seconds {self.follow_from_seconds}: expected more than 0"
            )
