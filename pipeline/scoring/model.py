"""The exported detector as the scorer calls it: plain TensorFlow on the SavedModel, so live scores are the model's own."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.asset import Job
from pipeline.scoring.settings import ScoringFailed

_WINDOWS_PER_CALL = 1024
_LONG_STRETCH = 8


@dataclass(frozen=True)
class JobScores:
    """Scores of a job's K new steps: `score` float64[K] (NaN before the first full frame), `contribution` float32[K, F]."""

    score: NDArray[np.float64]
    threshold: float
    contribution: NDArray[np.float32]


@dataclass(frozen=True)
class ServingModel:
    """A loaded version folder.

    `steps` is the frame length T, `sites` those it was calibrated for; others get the fleet-wide calibration.
    """

    name: str
    version: int
    sensors: tuple[str, ...]
    step_ns: int
    steps: int
    sites: frozenset[str]
    max_gap_ns: int | None
    call: Callable[..., Mapping[str, Any]]
    call_series: Callable[..., Mapping[str, Any]] | None = None

    @classmethod
    def load(cls, folder: Path) -> "ServingModel":
        """Load `<data>/detectors/<name>/<version>/`.

        Raises:
            ScoringFailed: the folder is not an exported detector.
        """
        import tensorflow as tf

        try:
            described = json.loads((folder / "assets.extra" / "detector.json").read_text(encoding="utf-8"))
            loaded = tf.saved_model.load(str(folder))
            signature = loaded.signatures["serving_default"]
            sites = described.get("sites") or ()
            gap = described.get("max_gap_ns")
            return cls(
                name=str(described.get("name") or folder.parent.name),
                version=int(described.get("version") or folder.name),
                sensors=tuple(described["sensors"]),
                step_ns=int(described["step_ns"]),
                steps=int(described["steps"]),
                sites=frozenset(str(site) for site in sites),
                max_gap_ns=None if gap is None else int(gap),
                call=_bound(signature, loaded),
                call_series=_bound_series(loaded.signatures.get("series"), loaded),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScoringFailed(
                f"{folder}: not an exported detector ({type(error).__name__}: {error}); name a version folder that"
                " `fedplant run` wrote"
            ) from error

    def score(self, jobs: Sequence[Job]) -> list[JobScores]:
        """Score all jobs: long stretches by `series` if the model has it, the rest as frames of all machines mixed."""
        found: dict[int, JobScores] = {}
        if self.call_series is not None:
            found = {
                i: self._series(job) for i, job in enumerate(jobs) if job.windows(self.steps) >= _LONG_STRETCH
            }
        rest = [i for i in range(len(jobs)) if i not in found]
        found.update(zip(rest, self._frames([jobs[i] for i in rest]), strict=True))
        return [found[i] for i in range(len(jobs))]

    def _series(self, job: Job) -> JobScores:
        """One call for a stretch; a convolution over it costs a fraction of the same over each frame."""
        assert self.call_series is not None
        found = self.call_series(job.site, job.rows)
        new = len(job.time_ns)
        score = np.asarray(found["score"], np.float64)[-new:]
        contribution = np.nan_to_num(np.asarray(found["contribution"], np.float32)[-new:])
        return JobScores(score, float(np.asarray(found["threshold"]).reshape(-1)[-1]), contribution)

    def _frames(self, jobs: Sequence[Job]) -> list[JobScores]:
        counts = [job.windows(self.steps) for job in jobs]
        total = sum(counts)
        score = np.empty(total, np.float64)
        threshold = np.empty(total, np.float64)
        contribution = np.empty((total, len(self.sensors)), np.float32)
        frames = [_windows_of(job, self.steps, n) for job, n in zip(jobs, counts, strict=True)]
        sites = np.repeat([job.site for job in jobs], counts) if jobs else np.empty(0, str)
        edges = np.r_[0, np.cumsum(counts)]
        for start in range(0, total, _WINDOWS_PER_CALL):
            end = min(total, start + _WINDOWS_PER_CALL)
            parts = [
                frames[j][max(0, start - edges[j]) : end - edges[j]]
                for j in range(len(jobs))
                if edges[j] < end and edges[j + 1] > start
            ]
            window = np.ascontiguousarray(np.concatenate(parts), np.float32)
            found = self.call(sites[start:end], window)
            score[start:end] = np.asarray(found["score"])
            threshold[start:end] = np.asarray(found["threshold"])
            contribution[start:end] = np.asarray(found["contribution"])
        return [
            _job_scores(job, score[a:b], threshold[a:b], contribution[a:b])
            for job, a, b in zip(jobs, edges[:-1], edges[1:], strict=True)
        ]


def _bound(signature: Any, loaded: Any) -> Callable[..., Mapping[str, Any]]:
    """The signature as a function of arrays; it keeps `loaded` alive, whose variables the signature reads."""
    import tensorflow as tf

    def call(site: NDArray[Any], window: NDArray[np.float32]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = signature(site=tf.constant(site.tolist()), window=tf.constant(window))
        return found

    call.model = loaded  # type: ignore[attr-defined]
    return call


def _bound_series(signature: Any, loaded: Any) -> Callable[..., Mapping[str, Any]] | None:
    """The optional signature for long stretches, None if the model has none."""
    if signature is None:
        return None
    import tensorflow as tf

    def call(site: str, values: NDArray[np.float32]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = signature(site=tf.constant([site]), values=tf.constant(values))
        return found

    call.model = loaded  # type: ignore[attr-defined]
    return call


def _windows_of(job: Job, steps: int, count: int) -> NDArray[np.float32]:
    """The last `count` frames of a job as a view, float32[count, steps, F]."""
    if count == 0:
        return np.empty((0, steps, job.rows.shape[1]), np.float32)
    every = np.lib.stride_tricks.sliding_window_view(job.rows, steps, axis=0).transpose(0, 2, 1)
    return every[len(every) - count :]


def _job_scores(
    job: Job, score: NDArray[np.float64], threshold: NDArray[np.float64], contribution: NDArray[np.float32]
) -> JobScores:
    missing = len(job.time_ns) - len(score)
    if missing:
        score = np.r_[np.full(missing, np.nan), score]
        contribution = np.concatenate([np.zeros((missing, contribution.shape[1]), np.float32), contribution])
    return JobScores(score, float(threshold[-1]) if len(threshold) else float("nan"), contribution)
