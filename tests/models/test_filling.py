import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baselines import fit_baseline
from models.detector import Detector
from models.filling import RIDGE, descent, fill, fill_tensor
from models.scaling import moments
from models.store import format_version
from tests.models.linear import fit_linear
from tests.models.pieces import same_in_pieces
from tests.models.stored import arrays_in, of_before, refused_with, same_when_stored

COUNT = 8
SENSORS = [f"s{number}" for number in range(COUNT)]


def machine(rows: int, seed: int) -> np.ndarray:
    """Two drivers that wander, which every sensor follows, and noise of its own."""
    random = np.random.default_rng(seed)
    drivers = np.sin(np.arange(rows)[:, None] / [40, 70] + seed) + random.normal(size=(rows, 2)) * 0.1
    gains = np.random.default_rng(0).normal(size=(2, COUNT))
    return drivers @ gains + random.normal(size=(rows, COUNT)) * 0.2 + 50.0


def silent(rows: int, seed: int, sensor: int) -> np.ndarray:
    values = machine(rows, seed)
    values[:, sensor] = np.nan
    return values


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fit_linear(SENSORS, 60.0, 32, {"east": [machine(3000, 1)], "young": [machine(60, 3)]})


def unfilled(detector: Detector) -> Detector:
    """As releases before told it: what is missing counts as average."""
    plain = dataclasses.replace(detector.calibration, descent=0 * detector.calibration.descent)
    return dataclasses.replace(detector, calibration=plain)


@given(st.integers(0, 1000), st.integers(2, 7), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_what_is_missing_comes_near_its_mean_given_what_is_known(seed, sensors, gone):
    """Beside the solution of the normal equations, which steps down the gradient approach from the mean."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(400, 2)) @ random.normal(size=(2, sensors)) + random.normal(
        size=(400, sensors)
    )
    rows = (rows / rows.std(axis=0)).astype(np.float32)
    gone = min(gone, sensors // 2)
    lost = random.choice(sensors, gone, replace=False)
    kept = np.setdiff1d(np.arange(sensors), lost)
    part = rows[:50].copy()
    part[:, lost] = np.nan
    found = fill(part, descent([rows]))
    wide = rows.astype(np.float64)
    second = wide.T @ wide / len(wide) + RIDGE * np.eye(sensors)
    expected = wide[:50][:, kept] @ np.linalg.solve(second[np.ix_(kept, kept)], second[np.ix_(kept, lost)])
    np.testing.assert_array_equal(found[:, kept], part[:, kept])
    assert np.abs(found[:, lost] - expected).max() < 0.1 * np.abs(expected).max() + 0.05
    graph = fill_tensor(tf.constant(part[None]), tf.constant(descent([rows])[None], tf.float32)).numpy()[0]
    np.testing.assert_allclose(graph, np.nan_to_num(found, nan=0.0), atol=1e-4)


def test_what_two_sensors_say_of_each_other_in_a_few_rows_fills_little():
    random = np.random.default_rng(0)
    rows = random.normal(size=(1000, 4)).astype(np.float32)
    rows[:500, 0], rows[510:, 1] = np.nan, np.nan
    rows[500:510, :2] = 8.0
    part = np.array([[1.0, np.nan, 0.0, 0.0]], np.float32)
    assert abs(fill(part, descent([rows]))[0, 1]) < 0.2
    rows[:, 1] = rows[:, 0] = random.normal(size=1000)
    assert fill(part, descent([rows]))[0, 1] > 0.8


def test_a_step_that_knows_fewer_than_half_of_the_sensors_that_move_is_not_filled():
    rows = machine(500, 1).astype(np.float32) - 50.0
    rows[:, 0], rows[:, 1] = 0.0, np.nan
    by = descent([rows])
    part = rows[:2].copy()
    part[0, 2:5], part[1, 2:6] = np.nan, np.nan
    found = fill(part, by)
    assert (found[0, 2:5] != 0).all() and np.isnan(found[1, 2:6]).all()
    assert (found[:, 0] == 0).all() and found[0, 1] == 0


def test_whole_readings_are_scored_as_if_nothing_were_filled(detector):
    values = machine(500, 5)
    np.testing.assert_array_equal(
        detector.score("east", values).score, unfilled(detector).score("east", values).score
    )


@pytest.mark.parametrize("sensor", [0, 7])
def test_a_sensor_that_fell_silent_does_not_make_its_machine_unusual(detector, sensor):
    whole, part = (
        detector.score("east", of).is_anomaly.mean() for of in (machine(3000, 5), silent(3000, 5, sensor))
    )
    before = unfilled(detector).score("east", silent(3000, 5, sensor)).is_anomaly.mean()
    assert part < whole + 0.02 < before


def test_a_fault_of_another_sensor_shows_while_one_is_silent(detector):
    values = silent(3000, 5, 3)
    values[1000:1040, 0] += 3.0 * machine(3000, 1)[:, 0].std()
    found = detector.score("east", values)
    assert found.is_anomaly[1005:1040].all() and found.contribution[1020].argmax() == 0


def test_sensors_that_are_silent_by_turns_while_learning_are_no_alarm_where_others_are_later():
    random = np.random.default_rng(0)
    values = machine(6000, 1)
    for sensors, first in (((0, 1, 2), 0), ((4, 5, 6), 3000)):
        for sensor in sensors:
            for start in range(first + int(random.integers(300)), first + 3000, 600):
                values[start : min(start + 250, first + 3000), sensor] = np.nan
    found = fit_linear(SENSORS, 60.0, 32, {"east": [values[:3000]]})
    flagged = found.score("east", values[3000:]).is_anomaly.mean()
    assert flagged < 0.02


def test_step_by_step_and_in_pieces_scores_are_those_of_the_whole(detector):
    values = machine(300, 9)
    values[50:158, 0], values[120:126], values[130:230, 2:5], values[250] = np.nan, np.inf, np.nan, np.nan
    for site in ("east", "young", "nobody"):
        whole = same_in_pieces(detector, site, values, [3, 0, 64, 1, 140, 92])
        assert np.isfinite(whole.score[40:120]).all()


def test_whose_readings_are_filled(detector):
    tables = detector.calibration
    assert (np.diagonal(tables.descent[0]) > 0).all()
    assert (tables.descent[1:] == 0).all()
    rows = machine(2000, 1)
    baseline = fit_baseline("pca", SENSORS, 60.0, 32, {"a": moments([rows], COUNT).scaling()}, {"a": [rows]})
    assert not baseline.calibration.fills


def test_what_was_stored_before_is_read_and_scores_as_it_did(detector, tmp_path):
    values, before = silent(200, 6, 2), of_before(detector, descent=0 * detector.calibration.descent)
    assert (format_version(detector), format_version(before)) == (8, 7)
    for each, name in ((detector, "new"), (before, "old")):
        same_when_stored(each, "east", values, tmp_path / name)
    assert "descent" not in arrays_in(tmp_path / "old")
    by = arrays_in(tmp_path / "new")["descent"]
    for wrong in (by[:, :-1], np.full_like(by, np.nan)):
        refused_with(tmp_path / "new", "descent", wrong)
