"""What the configuration means for one training."""

from __future__ import annotations

from pipeline.artefacts import BASELINES, CENTRALISED, FEDERATED, LOCAL
from pipeline.config.schema import Config
from pipeline.datasets.snapshot import DatasetSettings


def dataset_settings(config: Config) -> DatasetSettings:
    """The configured way from readings to frames."""
    data = config.dataset
    return DatasetSettings(
        steps=config.model.steps,
        step_ns=_ns(data.step),
        max_gap_ns=_ns(data.max_gap),
        hold_ns=_ns(data.hold),
        validation=data.validation,
        until_ns=None if data.train_until is None else int(data.train_until.timestamp() * 1_000_000) * 1000,
        sensors=None if data.sensors is None else tuple(data.sensors),
        exclude=tuple(data.exclude),
        share_scale=data.share_scale,
        logarithms=tuple(config.detector.logarithms),
    )


def modes_of(config: Config) -> tuple[str, ...]:
    """The ways of training that a job compares."""
    return (FEDERATED, LOCAL, CENTRALISED, *BASELINES) if config.training.compare else (FEDERATED,)


def _ns(seconds: float | str) -> int | None:
    return None if isinstance(seconds, str) else round(seconds * 1e9)
