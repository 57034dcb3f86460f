"""What the configuration means for one training."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np

from pipeline.artefacts import BASELINES, CENTRALISED, FEDERATED, LOCAL
from pipeline.config.leaveout import StretchConfig
from pipeline.config.schema import Config
from pipeline.config.sensors import SensorConfig, sensors_of
from pipeline.datasets.leaveout import ALL, LeftOut, Period
from pipeline.datasets.snapshot import DatasetSettings
from pipeline.datasets.sources import WindowReadings
from pipeline.datasets.valid import Valid

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MOST_US = 9_000_000_000_000_000
"""Microseconds from 1970 that are a count of int64 nanoseconds: until 2255."""


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
        valid=valid_ranges(config),
        leave_out=tuple(LeftOut(*_period(each)) for each in data.leave_out),
        counters=data.counters,
    )


def looked_at(config: Config) -> tuple[Period, ...]:
    """Where what stands out of a training was looked at before."""
    return tuple(Period(*_period(each)) for each in config.dataset.looked_at)


def window_readings(config: Config) -> WindowReadings:
    """What was ingested of the configured sites, within the configured ranges."""
    sites = [site.name for site in config.sites]
    return WindowReadings(config.project.data_dir, sites, valid_ranges(config))


def valid_ranges(config: Config) -> tuple[Valid, ...]:
    """The ranges of all sensors that have one, by site and name. Of several that become one sensor the widest holds."""
    found = []
    for site in config.sites:
        ranges: dict[str, list[SensorConfig]] = {}
        for sent, rule in sensors_of(config, site.name).items():
            ranges.setdefault(rule.name or sent, []).append(rule)
        for sensor, rules in sorted(ranges.items()):
            lows, highs = [rule.min for rule in rules], [rule.max for rule in rules]
            low = None if None in lows else min(low for low in lows if low is not None)
            high = None if None in highs else max(high for high in highs if high is not None)
            if low is not None or high is not None:
                found.append(Valid(site.name, sensor, low, high))
    return tuple(found)


def modes_of(config: Config) -> tuple[str, ...]:
    """The ways of training that a job compares."""
    return (FEDERATED, LOCAL, CENTRALISED, *BASELINES) if config.training.compare else (FEDERATED,)


def _period(of: StretchConfig) -> tuple[int, int, tuple[str, ...], tuple[str, ...]]:
    begin, end = (
        int(np.clip((moment - _EPOCH) // timedelta(microseconds=1), -_MOST_US, _MOST_US)) * 1000
        for moment in (of.begin, of.to)
    )
    return begin, end, tuple(of.sites or ALL), tuple(of.assets or ALL)


def _ns(seconds: float | str) -> int | None:
    return None if isinstance(seconds, str) else round(seconds * 1e9)
