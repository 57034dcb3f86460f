"""A snapshot names the exact data that one training used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pipeline.datasets.leaveout import LeftOut
from pipeline.datasets.valid import Valid
from pipeline.errors import ConfigError

FORMAT_VERSION = 4
_LATER = ("logarithms", "valid", "leave_out", "counters")
"""Settings that came with later releases: at their defaults they are not part of a data set's name."""


@dataclass(frozen=True)
class DatasetSettings:
    """How readings become frames; everything here changes the snapshot's id.

    Attributes:
      steps: T, rows of a frame; a site whose training part has no frame is excluded.
      step_ns: grid spacing in ns; None takes the median spacing of the readings of a sensor.
      max_gap_ns: longest silence of a machine within a run, ns; None is five steps.
      hold_ns: how long a sensor's last value counts while its machine reports, ns, at least `max_gap_ns`; None is five times the
        spacing that is usual for the sensor.
      validation: last share of each site's rows that is kept for validation, in (0, 1).
      until_ns: only readings before this event time (ns since 1970 UTC).
      sensors: sensors to use; None is all that any site sends.
      exclude: sensors to leave out.
      counters: whether sensors that only count are left out as well, or kept (`pipeline.datasets.parts`).
      valid: ranges of sensors that are narrower than anything.
      leave_out: stretches of time that are not learned from.
      logarithms: shell-style patterns of the sensors whose logarithm is scaled (`models.logarithms`).
      share_scale: sites with little history are scaled with help of what the others' sensors are like (`models.fleet_scaling`).
    """

    steps: int
    step_ns: int | None = None
    max_gap_ns: int | None = None
    hold_ns: int | None = None
    validation: float = 0.2
    until_ns: int | None = None
    sensors: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    share_scale: bool = True
    logarithms: tuple[str, ...] = ()
    valid: tuple[Valid, ...] = ()
    leave_out: tuple[LeftOut, ...] = ()
    counters: Literal["leave_out", "keep"] = "leave_out"

    def __post_init__(self) -> None:
        """Refuse settings that give no data."""
        if self.steps < 1:
            raise ConfigError(f"steps = {self.steps}: expected at least 1")
        if not 0 < self.validation < 1:
            raise ConfigError(f"validation = {self.validation}: expected a share between 0 and 1")

    def to_json(self) -> dict[str, Any]:
        """Plain form; where later settings are at their defaults that of releases that had no such key, so that their data sets are found again."""
        usual = {each.name: each.default for each in fields(self) if each.name in _LATER}
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in usual or getattr(self, name) != usual[name]
        }


@dataclass(frozen=True)
class Source:
    """One file that a site's data came from: its name below the data folder and its rows."""

    name: str
    rows: int


@dataclass(frozen=True)
class Snapshot:
    """The files of every site and the settings, named by a hash of both."""

    id: str
    sources: Mapping[str, tuple[Source, ...]]
    settings: DatasetSettings

    def to_json(self) -> dict[str, Any]:
        """Plain form for `manifest.json`."""
        return {
            "id": self.id,
            "settings": self.settings.to_json(),
            "sources": {site: [asdict(s) for s in files] for site, files in self.sources.items()},
        }


def take_snapshot(sources: Mapping[str, Sequence[Source]], settings: DatasetSettings) -> Snapshot:
    """Name the data: 16 hex digits of SHA-256 over sorted sites, file names, row counts and the settings."""
    ordered = {site: tuple(sorted(sources[site], key=lambda s: s.name)) for site in sorted(sources)}
    content = {
        "format": FORMAT_VERSION,
        "settings": settings.to_json(),
        "sources": {site: [[s.name, s.rows] for s in files] for site, files in ordered.items()},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Snapshot(digest[:16], ordered, settings)
