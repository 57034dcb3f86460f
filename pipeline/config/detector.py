"""What the detector looks at, and how residuals become alarms: the `[detector]` table."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.durations import Seconds
from pipeline.config.section import Section


class DetectorConfig(Section):
    """What the detector looks at, and how residuals become alarms."""

    sources: list[Literal["ridge", "stiff_ridge", "pca", "excursion", "network", "zscore"]] = Field(
        ["ridge", "stiff_ridge", "pca", "excursion", "network"],
        min_length=1,
        description="Residual sources. `ridge`: each sensor from all others and all pasts, `stiff_ridge` the same with a stronger "
        "penalty; `pca`: what the strongest components leave over; `excursion`: values beyond those of training; `network`: the "
        "federated network of `[model]`; `zscore`: how far a sensor is from its mean. Without `network` there are no training rounds: one federated sum is the training.",
    )
    logarithms: list[str] = Field(
        default_factory=list,
        description="Sensors whose natural logarithm is looked at instead of the reading, as patterns (`vibration_*`; `*`, `?`, `[ab]`; "
        "capitals matter): for what varies by factors, such as vibration velocity and particle counts. Readings that are not positive "
        "count as the smallest positive one that the site learned from. A pattern that matches no sensor is refused.",
    )
    threshold: Literal["quantile", "tail", "alarms_per_week"] = Field(
        "quantile",
        description="`quantile` of the training scores, `tail`: peaks over threshold, or wanted `alarms_per_week`.",
    )
    false_alarm_rate: float = Field(
        0.005, gt=0, lt=0.5, description="Share of normal steps that may score above the threshold."
    )
    alarms_per_week: float = Field(
        1.0,
        gt=0,
        lt=10_000,
        description="Alarms that a normal week may bring, for `threshold = 'alarms_per_week'`; flagged steps at most `scoring.hold_off` "
        "apart are one alarm.",
    )
    threshold_follows: bool = Field(
        True,
        description="While scoring, the threshold follows what the score usually is, up to twice what training set and down to "
        "four fifths of it: fewer false alarms on a machine that changes, some faults of many days noticed later. `false`: it stays.",
    )
    averages: list[Seconds] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="Durations over which the score is averaged, each more than 0, in steps of the sampling period (the nearest, at "
        "least one); default: 3, 10 and 30 steps, whatever the period.",
    )
    follow_from: Seconds | None = Field(
        None,
        gt=0,
        description="Length of training from which slow changes are followed; gains and the threshold look back four times as long at "
        "least. Default: 1,000 steps. Younger sites are followed too where sites with a history advise it.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> DetectorConfig:
        if self.averages is not None and min(self.averages) <= 0:
            raise ValueError("averages hold 0; give durations such as '10min'")
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("sources name one twice")
        if len(set(self.logarithms)) != len(self.logarithms) or not all(p.strip() for p in self.logarithms):
            raise ValueError("logarithms hold a pattern twice or an empty one")
        return self
