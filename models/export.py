"""One SavedModel per version: raw sensor units in, score out, with TensorFlow alone."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from models.detector import Detector
from models.errors import DetectorExists
from models.graphnames import settle_names
from models.state import SLOW, STATE
from models.store import format_version
from models.stream import Scored, advance, series, start, tables


def export_detector(
    detector: Detector,
    root: Path,
    version: int | None = None,
    *,
    max_gap_ns: int | None = None,
    hold_ns: Sequence[int] | None = None,
) -> Path:
    """Write `<root>/<version>/` (default: one above the highest there) by rename; give its path.

    `max_gap_ns`, the longest silence within a run of the training data, and `hold_ns`, by sensor how long its last value counted there, are
    told to whoever scores; None leaves it to them.

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
                module,
                str(temporary),
                signatures={"serving_default": module.serve, "stream": module.stream, "start": module.start},
            )
            settle_names(temporary)
        extra = temporary / "assets.extra"
        extra.mkdir()
        (extra / "detector.json").write_text(
            json.dumps(describe(detector, root.name, number, max_gap_ns, hold_ns), indent=1)
        )
        os.chmod(temporary, 0o755)  # noqa: PTH101
        try:
            temporary.rename(target)
        except OSError as error:
            raise DetectorExists(f"{target}: version {number} is already there ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def describe(
    detector: Detector,
    name: str,
    version: int,
    max_gap_ns: int | None = None,
    hold_ns: Sequence[int] | None = None,
) -> dict[str, Any]:
    """What `detector.json` holds: names, sensors in order and what they were in training, frame length, step, sites with thresholds,
    versions. `sensor_history` has one entry a site, in their order, and the fleet's. Sensors whose `logarithms` the model takes (of the raw
    values that it is given) and sites whose machines are `switching` between states are named where there are any."""
    import tensorflow as tf

    return {
        "format_version": format_version(detector),
        "name": name,
        "version": version,
        "sensors": list(detector.sensors),
        "steps": detector.steps,
        "step_seconds": detector.step_seconds,
        "step_ns": round(detector.step_seconds * 1e9),
        "max_gap_ns": max_gap_ns,
        "hold_ns": None if hold_ns is None else list(hold_ns),
        "sites": {site: float(detector.calibration.threshold[i]) for i, site in enumerate(detector.sites)},
        "fleet_threshold": float(detector.calibration.threshold[-1]),
        "sources": [source.name for source in detector.sources],
        **({"logarithms": list(detector.logarithms)} if detector.floor is not None else {}),
        **({"switching": list(detector.switching)} if detector.switching else {}),
        "context": detector.context,
        "state": {name: [None, *detector.state_shape.of(name)] for name in STATE},
        "slow_state": list(SLOW),
        "told_after": detector.told_after,
        "sensor_history": [
            {name: value.tolist() for name, value in detector.history.row(row).arrays().items()}
            for row in range(len(detector.sites) + 1)
        ],
        "not_ordinary_in_training": {
            site: detector.history.row(row).in_training(detector.sensors)
            for row, site in enumerate(detector.sites)
        },
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

    sensors = len(detector.sensors)
    state_specs = list(detector.state_shape.specs().values())
    site_spec = tf.TensorSpec((None,), tf.string, "site")

    def answer(rows: tf.Tensor, found: Scored, threshold: tf.Tensor, steps: Any) -> dict[str, tf.Tensor]:
        score = found.score[:, steps]
        return {
            "score": score,
            "threshold": threshold,
            "is_anomaly": score > threshold,
            "contribution": found.contribution[:, steps],
            "known_site": rows < len(detector.sites),
        }

    class Served(tf.Module):
        """Owns plain variables and no Keras object, so that loading it needs no Keras class."""

        def __init__(self) -> None:
            super().__init__()
            networks = [each for source in detector.sources for each in getattr(source, "networks", ())]
            self.weights = [variable for network in networks for variable in network.model().variables]
            self.sites = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    tf.constant([*detector.sites, ""]),
                    tf.constant([*range(len(detector.sites)), len(detector.sites)], tf.int32),
                ),
                default_value=len(detector.sites),
            )

        @tf.function(
            input_signature=[site_spec, tf.TensorSpec((None, None, sensors), tf.float32, "window")],
            autograph=False,
        )
        def serve(self, site: tf.Tensor, window: tf.Tensor) -> dict[str, tf.Tensor]:
            """Score the last row of each window, with the slow memory and the threshold of the training's end."""
            enough = tf.debugging.assert_greater(
                tf.shape(window)[1], detector.context, f"window needs at least {detector.context + 1} steps"
            )
            with tf.control_dependencies([enough]):
                rows = self.sites.lookup(site)
            table = tables(detector)
            found = advance(detector, table, rows, window, start(detector, table, rows))
            return answer(rows, found, tf.gather(table["threshold"], rows), -1)

        @tf.function(
            input_signature=[
                site_spec,
                tf.TensorSpec((None, None, sensors), tf.float32, "values"),
                *state_specs,
            ],
            autograph=False,
        )
        def stream(self, site: tf.Tensor, values: tf.Tensor, *state: tf.Tensor) -> dict[str, tf.Tensor]:
            """Score every step of gap-free stretches that go on from a state, and give the state after them."""
            rows = self.sites.lookup(site)
            held = dict(zip(STATE, state, strict=True))
            found = series(detector, tables(detector), rows, values, held)
            return {**answer(rows, found, found.threshold, slice(None)), **found.state}

        @tf.function(input_signature=[site_spec], autograph=False)
        def start(self, site: tf.Tensor) -> dict[str, tf.Tensor]:
            """The state of a machine of which no step has been seen."""
            return start(detector, tables(detector), self.sites.lookup(site))

    return Served()
