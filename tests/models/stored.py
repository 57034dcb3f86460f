"""Detectors on disk: what is read back, and what an altered file comes to."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.detector import Detector
from models.errors import DetectorUnreadable


def same_when_stored(detector: Detector, site: str, values: np.ndarray, path: Path) -> Detector:
    """The detector read from `path`, where it was stored; it has to score as before, to the last digit."""
    detector.save(path)
    kept = Detector.load(path)
    np.testing.assert_array_equal(kept.score(site, values).score, detector.score(site, values).score)
    return kept


def of_before(detector: Detector, **calibration: np.ndarray) -> Detector:
    """The detector as releases before would have made it, whose gains are moved by what lies far out too; with other arrays of its calibration."""
    changed = {"redescent": 0 * detector.calibration.redescent, **calibration}
    return dataclasses.replace(detector, calibration=dataclasses.replace(detector.calibration, **changed))


def arrays_in(path: Path) -> dict[str, Any]:
    """All arrays of a stored detector by name."""
    with np.load(path) as found:
        return dict(found)


def refused_with(path: Path, name: str, wrong: np.ndarray) -> None:
    """A copy of the detector stored at `path` with another array of that name, which has to be refused by it."""
    altered = path.with_name("altered.npz")
    np.savez(altered, **{**arrays_in(path), name: wrong})
    with pytest.raises(DetectorUnreadable, match=name):
        Detector.load(altered)
