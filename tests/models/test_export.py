"""What an exported detector says of itself, and where it is put."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from models.errors import DetectorExists
from models.export import describe, export_detector
from models.state import SENSOR_MEMORY, STATE
from tests.models.test_detector import SENSORS, plant
from tests.models.test_fitting import RUNS, linear


@pytest.fixture(scope="module")
def detector():
    dead = [run.copy() for run in RUNS["north"]]
    for run in dead:
        run[:, 3] = np.nan
    return linear({**RUNS, "north": dead})


def test_a_description_names_what_each_site_and_the_fleet_is_judged_by(detector):
    found = describe(dataclasses.replace(detector, step_seconds=0.25), "line", 7, 90, (1, 2, 3, 4, 5))
    assert (found["name"], found["version"], found["sensors"]) == ("line", 7, SENSORS)
    assert (found["step_seconds"], found["step_ns"]) == (0.25, 250_000_000)
    assert (found["max_gap_ns"], found["hold_ns"]) == (90, [1, 2, 3, 4, 5])
    thresholds = [*found["sites"].values(), found["fleet_threshold"]]
    assert list(found["sites"]) == ["east", "new", "north"]
    assert thresholds == detector.calibration.threshold.tolist() and len(set(thresholds)) == 3
    assert found["state"] == {name: [None, *detector.state_shape.of(name)] for name in STATE}
    assert found["slow_state"] == ["baseline", "level", "margin", *SENSOR_MEMORY]
    # Three of the longest averages.
    assert found["told_after"] == 90 and found["context"] == 3
    for row, history in enumerate(found["sensor_history"]):
        for name, value in detector.history.row(row).arrays().items():
            np.testing.assert_array_equal(history[name], value)
    assert len(found["sensor_history"]) == 4
    unusual = [
        detector.history.row(row).in_training(SENSORS)
        for row, _ in enumerate(found["not_ordinary_in_training"])
    ]
    assert found["not_ordinary_in_training"] == dict(zip(detector.sites, unusual, strict=True))
    assert "heat" in unusual[2] and "heat" not in unusual[0]
    assert found["switching"] == ["east"] and "logarithms" not in found
    json.dumps(found)


def test_a_new_version_is_one_above_the_highest_and_one_that_is_there_is_left_alone(
    detector, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError("no space left")

    root = tmp_path / "line"
    for name in ("2", "5", "notes"):
        (root / name).mkdir(parents=True)
    folder = export_detector(detector, root)
    assert folder == root / "6" and folder.stat().st_mode & 0o777 == 0o755
    described = (folder / "assets.extra" / "detector.json").read_text()
    for version in (5, 6):
        with pytest.raises(DetectorExists, match=f"version {version} is already there"):
            export_detector(detector, root, version)
    assert (folder / "assets.extra" / "detector.json").read_text() == described
    assert {path.name for path in root.iterdir()} == {"2", "5", "6", "notes"} and not list(
        (root / "5").iterdir()
    )
    with monkeypatch.context() as broken, pytest.raises(OSError, match="no space left"):
        broken.setattr(tf.saved_model, "save", full)
        export_detector(detector, root)
    assert not [path for path in root.iterdir() if path.name.startswith(".")]
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    machines = ["north", "east", "", "unheard"]
    window = np.repeat(plant(48, 9)[None], len(machines), 0).astype(np.float32)
    answer = serve(site=tf.constant(machines), window=tf.constant(window))
    assert answer["known_site"].numpy().tolist() == [True, True, False, False]
    expected = [detector.training_threshold(site) for site in machines]
    np.testing.assert_allclose(answer["threshold"].numpy(), expected, rtol=1e-6)


def test_two_exports_of_one_process_are_the_same_files_and_share_nothing_once_they_are_loaded(
    detector, tmp_path
):
    first, second = (export_detector(detector, tmp_path / name / "line", 1) for name in ("one", "two"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 5
    for name in files:
        assert (second / name).read_bytes() == (first / name).read_bytes(), name
    # Both name their table of sites alike.
    other = export_detector(linear({site: RUNS[site] for site in ("north", "new")}), tmp_path / "other")
    window = tf.constant(plant(48, 9)[None], tf.float32)
    loaded = [(folder, tf.saved_model.load(str(folder))) for folder in (first, other)]
    for folder, model in loaded:
        sites = json.loads((folder / "assets.extra" / "detector.json").read_text())["sites"]
        for site, threshold in sites.items():
            answer = model.signatures["serving_default"](site=tf.constant([site]), window=window)
            assert answer["known_site"].numpy().all()
            np.testing.assert_allclose(answer["threshold"].numpy(), [threshold], rtol=1e-6)
