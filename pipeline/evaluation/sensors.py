"""Sensors that a reader of the figures should know of: not ordinary in training, or not to be relied on at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from models.detector import Detector
from models.sensors import NEVER_SEEN
from models.state import follow_sensors, no_sensor_memory
from pipeline.evaluation.judging import Judged
from pipeline.remarks import listed


def sensor_notes(detector: Detector, runs: Mapping[str, Sequence[Judged]]) -> Iterator[tuple[str, str]]:
    """Site and remark: what sensors were in training, and which are stuck, saturated, dead or woken up where each run ends.

    Sensors that were never seen are left to the data set's own remarks.
    """
    for row, site in enumerate(detector.sites):
        history = detector.history.row(row)
        states = history.in_training(detector.sensors)
        trained = {sensor: state for sensor, state in states.items() if state != NEVER_SEEN}
        if trained:
            yield site, f"in training {_named(trained)}"
        for part in runs.get(site, ()):
            nothing = no_sensor_memory(len(detector.sensors))
            memory = follow_sensors(history, nothing, part.run.values, detector.told_after)
            now = history.suspects(detector.sensors, memory)
            if now:
                yield site, f"where the readings of {part.run.asset} end, {_named(now)}"


def _named(states: Mapping[str, str]) -> str:
    by_state: dict[str, list[str]] = {}
    for sensor, state in states.items():
        by_state.setdefault(state, []).append(sensor)
    return "; ".join(f"{state}: {listed(names)}" for state, names in sorted(by_state.items()))
