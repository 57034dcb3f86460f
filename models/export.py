"""One SavedModel per version: raw sensor units in, score out, with TensorFlow alone."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from models.detector import Detector
from models.errors import DetectorExists


def export_detector(detector: Detector, root: Path, version: int | None = None) -> Path:
    """Write `<root>/<version>/` (default: one above the highest there) by rename; give its path.

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
        tf.saved_model.save(module, str(temporary), signatures={"serving_default": module.serve})
        extra = temporary / "assets.extra"
        extra.mkdir()
        (extra / "detector.json").write_text(json.dumps(describe(detector, root.name, number), indent=1))
        os.chmod(temporary, 0o755)  # noqa: PTH101
        try:
            temporary.rename(target)
        except OSError as error:
            raise DetectorExists(f"{target}: version {number} is already there ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def describe(detector: Detector, name: str, version: int) -> dict[str, Any]:
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
        "sites": {site: float(detector.threshold[i]) for i, site in enumerate(detector.sites)},
        "fleet_threshold": float(detector.threshold[-1]),
        "sources": [source.name for source in detector.sources],
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }


def _module(detector: Detector) -> Any:
    import tensorflow as tf

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
            ]
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
            score, contribution = detector.frames_score(frames, rows)
            threshold = tf.gather(tf.constant(detector.threshold), rows)
            return {
                "score": score,
                "threshold": threshold,
                "is_anomaly": score > threshold,
                "contribution": contribution,
                "known_site": rows < len(detector.sites),
            }

    return Served()
