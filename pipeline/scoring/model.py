"""The exported detector as the scorer calls it: plain TensorFlow on the SavedModel, so live scores are the model's own."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.sensors import SensorHistory
from models.state import follow_sensors, no_sensor_memory
from models.store import FORMAT_VERSION, check_format
from pipeline.scoring.asset import AssetState, Job
from pipeline.scoring.memory import ModelState
from pipeline.scoring.settings import ScoringFailed

_MACHINES_PER_CALL = 256


@dataclass(frozen=True)
class JobScores:
    """Scores of a job's K steps: `score` float64[K] (NaN while the detector lacks context) and `threshold` float64[K],
    `contribution` float32[K, F].

    `state` is the detector's memory of the machine after the last of them.
    """

    score: NDArray[np.float64]
    threshold: NDArray[np.float64]
    contribution: NDArray[np.float32]
    state: ModelState


@dataclass(frozen=True)
class ServingModel:
    """A loaded version folder.

    `steps` is the frame length T, `sites` those it was calibrated for; others get the fleet-wide calibration. `state_shapes`
    are the dimensions of what it remembers, by name, the batch first; `slow_state` names what a gap does not end; `history` says by
    site what sensors were in training, `told_after` when one that woke up is no longer heard (None: by this detector always).
    """

    name: str
    version: int
    sensors: tuple[str, ...]
    step_ns: int
    steps: int
    sites: frozenset[str]
    max_gap_ns: int | None
    hold_ns: tuple[int, ...] | None
    state_shapes: Mapping[str, tuple[int | None, ...]]
    slow_state: frozenset[str]
    history: Mapping[str, SensorHistory]
    told_after: int | None
    begin: Callable[..., Mapping[str, Any]]
    stream: Callable[..., Mapping[str, Any]]

    @classmethod
    def load(cls, folder: Path) -> "ServingModel":
        """Load `<data>/detectors/<name>/<version>/`.

        Raises:
            ScoringFailed: the folder is not an exported detector.
        """
        import tensorflow as tf

        try:
            described = json.loads((folder / "assets.extra" / "detector.json").read_text(encoding="utf-8"))
            check_format(described.get("format_version", FORMAT_VERSION))
            loaded = tf.saved_model.load(str(folder))
            signatures = loaded.signatures
            sites = described.get("sites") or ()
            gap, hold = described.get("max_gap_ns"), described.get("hold_ns")
            if hold is not None and len(hold) != len(described["sensors"]):
                raise ValueError("hold_ns is not one a sensor")
            return cls(
                name=str(described.get("name") or folder.parent.name),
                version=int(described.get("version") or folder.name),
                sensors=tuple(described["sensors"]),
                step_ns=int(described["step_ns"]),
                steps=int(described["steps"]),
                sites=frozenset(str(site) for site in sites),
                max_gap_ns=None if gap is None else int(gap),
                hold_ns=None if hold is None else tuple(int(each) for each in hold),
                state_shapes={name: tuple(shape) for name, shape in described["state"].items()},
                slow_state=frozenset(described["slow_state"]),
                history=_history(described),
                told_after=None if described.get("told_after") is None else int(described["told_after"]),
                begin=_bound(signatures["start"], loaded),
                stream=_bound(signatures["stream"], loaded),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScoringFailed(
                f"{folder}: not an exported detector ({type(error).__name__}: {error}); name a version folder that"
                " `fedplant run` wrote"
            ) from error

    def suspects(
        self, site: str, before: ModelState | None, rows: NDArray[np.floating]
    ) -> tuple[tuple[str, str], ...]:
        """Sensors that cannot be relied on at the last of raw `rows` float[N, F] behind the state `before`, and why."""
        history = self.history.get(site)
        if history is None:
            return ()
        memory = no_sensor_memory(len(self.sensors)) if before is None else before
        after = follow_sensors(history, memory, rows, self.told_after)
        return tuple(history.suspects(self.sensors, after).items())

    def score(self, jobs: Sequence[Job]) -> list[JobScores]:
        """Score all jobs, those of one machine in their order; machines with as many new steps share a call."""
        found: dict[int, JobScores] = {}
        states: dict[AssetState, ModelState] = {}
        for wave in _waves(jobs):
            by_length: dict[int, list[int]] = {}
            for i in wave:
                by_length.setdefault(len(jobs[i].time_ns), []).append(i)
            for same in by_length.values():
                for first in range(0, len(same), _MACHINES_PER_CALL):
                    part = same[first : first + _MACHINES_PER_CALL]
                    for i, scores in zip(part, self._call([jobs[i] for i in part], states), strict=True):
                        found[i] = scores
                        states[jobs[i].asset] = scores.state
        return [found[i] for i in range(len(jobs))]

    def _call(self, jobs: Sequence[Job], states: Mapping[AssetState, ModelState]) -> list[JobScores]:
        site = np.array([job.site for job in jobs])
        held = self._held(jobs, states, site)
        found = self.stream(site=site, values=np.stack([job.rows for job in jobs]), **held)
        arrays = {name: np.asarray(value) for name, value in found.items()}
        return [
            JobScores(
                arrays["score"][i].astype(np.float64),
                arrays["threshold"][i].astype(np.float64),
                np.nan_to_num(arrays["contribution"][i]),
                {name: arrays[name][i] for name in self.state_shapes},
            )
            for i in range(len(jobs))
        ]

    def _held(
        self, jobs: Sequence[Job], states: Mapping[AssetState, ModelState], site: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """States before the jobs, stacked. Behind a gap only the slow memory goes on."""
        known = [states.get(job.asset, job.asset.model_state) for job in jobs]
        if any(state is None or job.fresh for state, job in zip(known, jobs, strict=True)):
            new = {name: np.asarray(value) for name, value in self.begin(site=site).items()}
            for i, (state, job) in enumerate(zip(known, jobs, strict=True)):
                begun = {name: new[name][i] for name in self.state_shapes}
                if state is None:
                    known[i] = begun
                elif job.fresh:
                    known[i] = {
                        name: value if name in self.slow_state else begun[name]
                        for name, value in state.items()
                    }
        return {
            name: np.stack([state[name] for state in known if state is not None])
            for name in self.state_shapes
        }


def _history(described: Mapping[str, Any]) -> dict[str, SensorHistory]:
    """What is known of sensors, by site; a site that nothing was learned from has none."""
    rows = described["sensor_history"]
    return {
        str(site): SensorHistory(**{name: np.asarray(value, np.float32) for name, value in row.items()})
        for site, row in zip(described.get("sites") or (), rows, strict=False)
    }


def _waves(jobs: Sequence[Job]) -> Iterator[list[int]]:
    """Indices of jobs in groups that hold each machine once, each machine's in order."""
    before: dict[AssetState, int] = {}
    waves: list[list[int]] = []
    for i, job in enumerate(jobs):
        number = before.get(job.asset, 0)
        before[job.asset] = number + 1
        if number == len(waves):
            waves.append([])
        waves[number].append(i)
    yield from waves


def _bound(signature: Any, loaded: Any) -> Callable[..., Mapping[str, Any]]:
    """The signature as a function of arrays; it keeps `loaded` alive, whose variables the signature reads."""
    import tensorflow as tf

    def call(**arguments: NDArray[Any]) -> Mapping[str, Any]:
        tensors = {
            name: tf.constant(value.tolist() if name == "site" else value)
            for name, value in arguments.items()
        }
        found: Mapping[str, Any] = signature(**tensors)
        return found

    call.model = loaded  # type: ignore[attr-defined]
    return call
