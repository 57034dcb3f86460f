"""Traced scoring functions, shared by all detectors of the same build: tracing costs a second, scoring a day milliseconds.

What differs between two detectors of one build are arrays; they are arguments of the traced functions. A network's weights live in
variables, which are set to those of the detector that is about to score.
"""

from __future__ import annotations

import atexit
import dataclasses
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from models.sources.grouped import GroupedNetwork
from models.sources.network import NetworkSource
from models.state import STATE
from models.stream import Scored, series, start

if TYPE_CHECKING:
    from models.detector import Detector, State

_KEPT = 8


class Traced:
    """`start` and `series` for detectors of one build."""

    def __init__(self, first: Detector) -> None:
        """Trace nothing yet. The pattern is a copy: its network takes on the weights of one detector after the other."""
        import tensorflow as tf

        copies = tuple(
            source.copy() if isinstance(source, NetworkSource | GroupedNetwork) else source
            for source in first.sources
        )
        pattern = self._pattern = dataclasses.replace(first, sources=copies)
        self._loaded: tuple[Any, ...] = ()
        rows = tf.TensorSpec((1,), tf.int32)
        held = dict(pattern.state_shape.specs(1))
        # Rows, one a site, are the first dimension of everything but the cap.
        table = {
            name: tf.TensorSpec((None, *value.shape[1:]) if value.ndim else (), value.dtype)
            for name, value in pattern.table_arrays().items()
        }
        values = tf.TensorSpec((1, None, len(pattern.sensors)), tf.float32)

        @tf.function(input_signature=[rows, table], autograph=False)
        def begin(rows: Any, table: Any) -> Any:
            return start(pattern, table, rows)

        @tf.function(input_signature=[rows, values, table, held], autograph=False)
        def go_on(rows: Any, values: Any, table: Any, state: Any) -> Any:
            return series(pattern, table, rows, values, state)

        self._begin, self._go_on = begin, go_on

    def __call__(self, detector: Detector, row: int, raw: np.ndarray, state: State | None) -> Scored:
        """Score raw float32[1, N, F], given as float32[N, F], at a row of `detector`."""
        import tensorflow as tf

        self._load(detector)
        rows, table = tf.constant([row]), detector.table_tensors
        held = (
            self._begin(rows, table) if state is None else {name: tf.constant(state[name]) for name in STATE}
        )
        found: Scored = self._go_on(rows, tf.constant(raw[None]), table, held)
        return found

    def _load(self, detector: Detector) -> None:
        if detector.sources is self._loaded:
            return
        for ours, theirs in zip(self._pattern.sources, detector.sources, strict=True):
            pairs = zip(getattr(ours, "networks", ()), getattr(theirs, "networks", ()), strict=True)
            for mine, other in pairs:
                mine.model().set_weights(list(other.weights))
        self._loaded = detector.sources


_FOUND: OrderedDict[Any, Traced] = OrderedDict()
# Functions that outlive TensorFlow's own modules complain on the screen when the interpreter ends.
atexit.register(_FOUND.clear)


def traced(detector: Detector) -> Traced:
    """The functions for a detector's build; the last few builds are kept."""
    sources = tuple(source.build for source in detector.sources)
    key = (
        len(detector.sensors),
        detector.options.spans,
        detector.floor is None,
        tuple(detector.calibration.arrays()),
        sources,
    )
    found = _FOUND.pop(key, None) or Traced(detector)
    _FOUND[key] = found
    while len(_FOUND) > _KEPT:
        _FOUND.popitem(last=False)
    return found
