"""One SavedModel per version: raw sensor units in, score out, with TensorFlow alone."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from models.detector import Detector
from models.errors import DetectorExists
from models.graph import frames_score, series_score


def export_detector(
    detector: Detector, root: Path, version: int | None = None, *, max_gap_ns: int | None = None
) -> Path:
    """Write `<root>/<version>/` (default: one above the highest there) by rename; give its path.

    `max_gap_ns` is how long the training data held a value; it is told to whoever scores, None leaves it to them.

    Raises:
      DetectorExists: that version is already there.
    """
    import tensorflow as tf

    root.mkdir(parents=True, exist_ok=True)
    present = [int(path.name) for path in root.iterdir() if path.name.isdigit()]
    number = max(present, default=0) + 1 if version is None else version
    target = root / str(number)
    if target.exists():
        raise DetectorExists(f"{target}: version {number} is already there; choose another or leave it out")
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
    try:
        module = _module(detector)
        with _quiet():
            tf.saved_model.save(
                module, str(temporary), signatures={"serving_default": module.serve, "series": module.series}
            )
        extra = temporary / "assets.extra"
        extra.mkdir()
        (extra / "detector.json").write_text(
            json.dumps(describe(detector, root.name, number, max_gap_ns), indent=1)
        )
        os.chmod(temporary, 0o755)  # noqa: PTH101
        try:
            temporary.rename(target)
        except OSError as error:
            raise DetectorExists(f"{target}: version {number} is already there ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def describe(detector: Detector, name: str, version: int, max_gap_ns: int | None = None) -> dict[str, Any]:
    """What `detector.json` holds: names, sensors in order, frame length, step, sites with thresholds, versions."""
    import tensorflow as tf

    return {
        "format_version": 1,
        "name": name,
        "version": version,
        "sensors": list(detector.sensors),
        "steps": detector.steps,
        "step_seconds": detector.step_seconds,
        "step_ns": round(detector.step_seconds * 1e9),
        "max_gap_ns": max_gap_ns,
        "sites": {site: float(detector.threshold[i]) for i, site in enumerate(detector.sites)},
        "fleet_threshold": float(detector.threshold[-1]),
        "sources": [source.name for source in detector.sources],
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow's notes on saving off the screen; its errors are raised, not logged."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _module(detector: Detector) -> Any:
    import tensorflow as tf

    def answer(rows: tf.Tensor, score: tf.Tensor, contribution: tf.Tensor) -> dict[str, tf.Tensor]:
        threshold = tf.gather(tf.constant(detector.threshold), rows)
        return {
            "score": score,
            "threshold": threshold,
            "is_anomaly": score > threshold,
            "contribution": contribution,
            "known_site": rows < len(detector.sites),
        }

    class Served(tf.Module):
        """Owns plain variables and no Keras object, so that loading it needs no Keras class."""

        def __init__(self) -> None:
            super().__init__()
            models = [source.model() for source in detector.sources if hasattr(source, "model")]
            self.weights = [variable for model in models for variable in model.variables]
            self.sites = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    tf.constant([*detector.sites, ""]),
                    tf.constant([*range(len(detector.sites)), len(detector.sites)], tf.int32),
                ),
                default_value=len(detector.sites),
            )

        @tf.function(
            input_signature=[
                tf.TensorSpec((None,), tf.string, "site"),
                tf.TensorSpec((None, None, len(detector.sensors)), tf.float32, "window"),
            ],
            autograph=False,
        )
        def serve(self, site: tf.Tensor, window: tf.Tensor) -> dict[str, tf.Tensor]:
            """Score the last `steps` rows of each window."""
            enough = tf.debugging.assert_greater_equal(
                tf.shape(window)[1], detector.steps, f"window needs at least {detector.steps} steps"
            )
            with tf.control_dependencies([enough]):
                rows = self.sites.lookup(site)
                frames = tf.ensure_shape(
                    window[:, -detector.steps :], (None, detector.steps, len(detector.sensors))
                )
            return answer(rows, *frames_score(detector, frames, rows))

        @tf.function(
            input_signature=[
                tf.TensorSpec((1,), tf.string, "site"),
                tf.TensorSpec((None, len(detector.sensors)), tf.float32, "values"),
            ],
            autograph=False,
        )
        def series(self, site: tf.Tensor, values: tf.Tensor) -> dict[str, tf.Tensor]:
            """Score every step of a gap-free stretch by the frame that ends there."""
            rows = self.sites.lookup(site)
            return answer(rows, *series_score(detector, values, rows[0]))

    return Served()
