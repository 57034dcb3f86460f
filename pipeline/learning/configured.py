"""What the configuration asks of a model."""

from __future__ import annotations

from models.architectures import ArchitectureSpec, from_name
from models.options import DetectorOptions
from pipeline.config.schema import Config


def architecture(config: Config) -> ArchitectureSpec:
    """The configured network."""
    model = config.model
    if model.architecture == "tcn":
        return from_name("tcn", channels=model.channels, dilations=tuple(model.dilations))
    return from_name("autoencoder", widths=tuple(model.hidden))


def calibration(config: Config) -> DetectorOptions:
    """The configured sources and way from residuals to alarms."""
    asked = config.detector
    return DetectorOptions(
        sources=tuple(asked.sources),
        rule=asked.threshold,
        false_alarm_rate=asked.false_alarm_rate,
        alarms_per_week=asked.alarms_per_week,
        hold_off_seconds=config.scoring.hold_off,
        threshold_follows=asked.threshold_follows,
        average_seconds=None if asked.averages is None else tuple(asked.averages),
        follow_from_seconds=asked.follow_from,
    )
