"""Sensors that a reader of the figures should know of: not ordinary in training, or not to be relied on at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from models.detector import Detector
from models.sensors import follow, no_memory
from pipeline.evaluation.judging import Judged

_MOST_NAMES = 5


def sensor_notes(detector: Detector, runs: Mapping[str, Sequence[Judged]]) -> Iterator[str]:
    """One line a site and time: what sensors were in training, and which are stuck, saturated or dead where each run ends."""
    for row, site in enumerate(detector.sites):
        history = detector.history.row(row)
        trained = history.in_training(detector.sensors)
        if trained:
            yield f"{site}: in training {_named(trained)}"
        for part in runs.get(site, ()):
            now = history.suspects(
                detector.sensors, follow(no_memory(len(detector.sensors)), part.run.values)
            )
            if now:
                yield f"{site}: where the readings of {part.run.asset} end, {_named(now)}"


def _named(states: Mapping[str, str]) -> str:
    by_state: dict[str, list[str]] = {}
    for sensor, state in states.items():
        by_state.setdefault(state, []).append(sensor)
    return "; ".join(f"{state}: {_listed(names)}" for state, names in sorted(by_state.items()))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
