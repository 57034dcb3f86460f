"""Sensors that are scaled by their logarithm: one arithmetic everywhere, raw values outside."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, example, given
from hypothesis import strategies as st

from models import store
from models.baselines import fit_baseline
from models.detector import Detector
from models.errors import DetectorUnreadable, InvalidModel
from models.export import export_detector
from models.fitting import fit_detector
from models.logarithms import floor_of, logged, logged_tensor, named_sensors
from models.options import DetectorOptions
from models.scaling import SensorScaling, moments
from tests.models.pieces import same_in_pieces
from tests.models.stored import arrays_in, refused_with, same_when_stored
from tests.models.test_detector import SENSORS, STEPS, plant

LINEAR = ("ridge", "stiff_ridge", "pca", "excursion")
NAMED = np.array([True, False, True, False, False])
FEW = np.array([True, True, False])
READINGS = st.floats(width=32, allow_nan=True, allow_infinity=True)
FLOORS = st.sampled_from([0.0, np.nan, 0.25, 1e-30])


def loads(rows: int, seed: int) -> np.ndarray:
    """Flow and speed vary by factors of each other's and by themselves, the others are as they were."""
    values = plant(rows, seed)
    values[:, NAMED] = np.exp((values[:, NAMED] - 100) * 1.5)
    return values


def scaled_by(runs: dict[str, list[np.ndarray]], named: np.ndarray | None) -> dict[str, SensorScaling]:
    found = {}
    for site, of in runs.items():
        found[site] = moments(of, of[0].shape[1], None if named is None else floor_of(of, named)).scaling()
    return found


def with_logarithms(named: np.ndarray | None = NAMED, **runs: np.ndarray) -> Detector:
    given_runs = {site: [values] for site, values in runs.items()} or {
        "north": [loads(500, 1)],
        "south": [loads(500, 2) * 2],
    }
    scaling = scaled_by(given_runs, named)
    options = DetectorOptions(sources=LINEAR, follow_from=100)
    return fit_detector(None, None, SENSORS, 60.0, STEPS, scaling, given_runs, options)


def test_patterns_name_whole_sensors_as_a_shell_would():
    sensors = ["vibration_x", "vibration_y", "Vibration_z", "speed", "p[0]"]
    assert named_sensors(sensors, ["vibration_*", "spee?"]).tolist() == [True, True, False, True, False]
    assert named_sensors(sensors, ["p", "ibration_x", "[vV]ibration_[yz]"]).tolist() == [0, 1, 1, 0, 0]
    assert not named_sensors(sensors, []).any()


def test_what_each_reading_counts_as():
    runs = [
        np.array([[-2.0, 0.0, 5.0], [4.0, -1.0, 0.0]]),
        np.array([[0.5, np.nan, -3.0], [1e39, np.inf, 1.0]]),
    ]
    floor = floor_of(runs, FEW)
    np.testing.assert_array_equal(floor, [0.5, 0.0, np.nan])
    found = logged(
        np.array([[0.0, 0.0, 0.0], [-7, -7, -7], [0.25, 3, 3], [np.nan] * 3, [np.inf] * 3, [-np.inf] * 3]),
        floor,
    )
    half = np.log(0.5)
    np.testing.assert_allclose(found[:, 0], [half, half, np.log(0.25), np.nan, np.nan, np.nan])
    np.testing.assert_allclose(found[:, 1], [np.nan, np.nan, np.log(3), np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(found[:, 2], [0, -7, 3, np.nan, np.inf, -np.inf])
    values = np.array([[1.0, -1.0]])
    np.testing.assert_array_equal(logged(values, None), values)


@given(
    st.lists(st.tuples(READINGS, READINGS, READINGS), min_size=1, max_size=8),
    st.tuples(FLOORS, FLOORS, FLOORS),
)
@example([(1e-40, -1e-40, 0.0)], (0.25, 0.0, np.nan))
def test_the_graph_takes_the_same_logarithms(rows, floor):
    values = np.array(rows, np.float32)
    limits = np.array(floor)
    finite = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    graph = logged_tensor(tf.constant(finite[None]), tf.constant(limits[None, None]))[0].numpy()
    np.testing.assert_allclose(graph, logged(finite, limits), rtol=1e-12)
    assert (
        np.isfinite(logged(values, limits)[:, ~np.isnan(limits) & (limits > 0)]).sum()
        == np.isfinite(values[:, ~np.isnan(limits) & (limits > 0)]).sum()
    )


@given(st.lists(st.floats(1e-6, 1e3) | st.floats(-1e3, 0.0), min_size=2, max_size=30), st.floats(1e-3, 1e3))
def test_another_unit_changes_no_scaled_value(column, unit):
    """The reason to take them: a factor is a distance. Readings that are not positive are carried along by their floor."""
    values, named = np.array(column)[:, None], np.array([True])
    one, other = (moments([each], 1, floor_of([each], named)).scaling() for each in (values, values * unit))
    # Rounding decides of a spread as small as rounding.
    assume(one.scale[0] > 1e-3)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-6)
    np.testing.assert_allclose(one.apply(values), other.apply(values * unit), atol=1e-3)


def test_moments_are_those_of_logarithms_and_a_constant_sensor_has_the_scale_of_a_factor():
    values = np.exp(np.random.default_rng(1).normal(2.0, 0.7, (400, 3)))
    values[:, 1], values[7, 0] = 1.001, 1e26
    named = np.array([True, True, False])
    found = moments([values[:150], values[150:]], 3, floor_of([values], named)).scaling()
    kept = np.delete(np.log(values[:, 0]), 7)
    # A reading out of all proportion is none of the scale's, as without logarithms.
    assert (found.mean[0], found.scale[0]) == (pytest.approx(kept.mean()), pytest.approx(kept.std()))
    assert (found.mean[1], found.scale[1]) == (pytest.approx(np.log(1.001)), 1.0)
    assert found.mean[2] == pytest.approx(values[:, 2].mean())
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    np.testing.assert_array_equal(SensorScaling.from_dict(told).apply(values), found.apply(values))
    assert set(dataclasses.replace(found, floor=None).to_dict()) == {"mean", "scale"}


@pytest.mark.parametrize("site", ["north", "nobody"])
def test_a_detector_of_logarithms_is_the_detector_that_is_given_logarithms(site):
    """Every array that is fitted, and every score, of raw values with the option and of logarithms without."""
    raw = {"north": loads(500, 1), "south": loads(500, 2) * 2}

    def by_hand(values):
        return np.where(NAMED, np.log(np.where(NAMED, values, 1.0)), values)

    ours = with_logarithms(**raw)
    theirs = with_logarithms(None, **{name: by_hand(values) for name, values in raw.items()})
    assert ours.logarithms == ("flow", "speed") and theirs.logarithms == ()
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-6)
    np.testing.assert_allclose(ours.calibration.threshold, theirs.calibration.threshold, rtol=1e-3)
    values = loads(200, 9)
    values[100:120, 0] *= 8
    one, other = ours.score(site, values), theirs.score(site, by_hand(values))
    np.testing.assert_allclose(one.score, other.score, rtol=2e-3)
    np.testing.assert_allclose(one.contribution, other.contribution, rtol=2e-3, atol=1e-4)


def hard_values() -> np.ndarray:
    """Zeros, negative readings, silence, infinities and a burst."""
    values = loads(200, 9)
    values[50:58, 0], values[70:76, 2], values[90, 0] = 0.0, -3.0, 1e-30
    values[100:130, 1], values[120:126], values[150:160, 2] = np.nan, np.inf, 500.0
    return values


def test_step_by_step_in_pieces_and_at_once_give_the_same_numbers():
    detector, values = with_logarithms(), hard_values()
    whole = same_in_pieces(detector, "south", values, [3, 0, 64, 1, 40, 92])
    assert np.isfinite(whole.score[detector.context :]).sum() > 180


def test_the_served_model_takes_raw_values_and_its_description_names_the_logarithms(tmp_path):
    detector, values = with_logarithms(), hard_values().astype(np.float32)
    folder = export_detector(detector, tmp_path / "fleet")
    signatures = tf.saved_model.load(str(folder)).signatures
    for site in ("south", "nobody"):
        state = signatures["start"](site=tf.constant([site]))
        names, scores = list(state), []
        for first in range(0, 200, 37):
            piece = tf.constant(values[None, first : first + 37])
            found = signatures["stream"](site=tf.constant([site]), values=piece, **state)
            state = {name: found[name] for name in names}
            scores.append(found["score"].numpy()[0])
        np.testing.assert_allclose(np.concatenate(scores), detector.score(site, values).score, rtol=1e-5)
        windows = np.stack([values[at - STEPS : at] for at in (60, 80, 140, 170)])
        served = signatures["serving_default"](site=tf.fill([4], site), window=tf.constant(windows))
        alone = [detector.score(site, window).score[-1] for window in windows]
        np.testing.assert_allclose(served["score"].numpy(), alone, rtol=1e-5)
    described = json.loads((folder / "assets.extra" / "detector.json").read_text())
    assert (described["format_version"], described["logarithms"]) == (9, ["flow", "speed"])
    plain = export_detector(with_logarithms(None, north=plant(500, 1)), tmp_path / "plain")
    told = json.loads((plain / "assets.extra" / "detector.json").read_text())
    assert told["format_version"] == 8 and "logarithms" not in told


def test_what_is_not_positive_counts_as_the_smallest_of_the_sites_training():
    detector = with_logarithms()
    floors = dict(zip(("north", "south", "nobody"), detector.floor[:, 0], strict=True))
    assert floors["nobody"] == pytest.approx(floors["north"]) and floors["south"] > 1.2 * floors["north"]
    for site, floor in floors.items():
        zero, negative, lowest = (loads(120, 3) for _ in range(3))
        zero[60:, 0], negative[60:, 0], lowest[60:, 0] = 0.0, -5.0, floor
        expected = detector.score(site, lowest).score
        np.testing.assert_allclose(detector.score(site, zero).score, expected, rtol=1e-4)
        np.testing.assert_allclose(detector.score(site, negative).score, expected, rtol=1e-4)
    lower = loads(120, 3)
    lower[60:, 0] = floors["north"] / 1000
    assert detector.score("north", lower).score[65] > 2 * detector.score("north", lowest).score[65]


def test_a_sensor_that_was_never_positive_at_a_site_says_nothing_there():
    never = loads(500, 2)
    never[:, 2] = 0.0
    detector = with_logarithms(north=loads(500, 1), south=never)
    assert detector.floor[1, 2] == 0 and detector.floor[2, 2] > 0
    zero, some = loads(120, 3), loads(120, 3)
    zero[:, 2] = 0.0
    quiet, woken = detector.score("south", zero), detector.score("south", some)
    np.testing.assert_allclose(quiet.contribution[:, 2], 0.0, atol=1e-6)
    np.testing.assert_allclose(woken.contribution[:, 2], 0.0, atol=1e-6)
    assert np.isfinite(woken.score[detector.context :]).all() and woken.is_anomaly.mean() < 0.05


def test_rules_on_sensors_speak_in_raw_values():
    detector = with_logarithms()
    np.testing.assert_allclose(detector.history.lowest[0, 0], loads(500, 1)[:, 0].min(), rtol=1e-6)
    values = loads(300, 3)
    values[200:, 0] = 0.0
    values[200:, 2] = 1.0
    _, state = detector.stream("north", values, None)
    assert state["last_value"][0, 0] == 0.0
    # Zero lies under what training showed, one inside of it.
    assert detector.suspects("north", state) == {"flow": "saturated", "speed": "stuck"}


def test_a_stored_detector_scores_as_before_and_an_older_release_refuses_it(tmp_path, monkeypatch):
    before = with_logarithms()
    after = same_when_stored(before, "south", hard_values(), tmp_path / "kept")
    assert after.logarithms == before.logarithms
    for floor in (-1.0, np.inf):
        wrong = arrays_in(tmp_path / "kept")["floor"]
        wrong[0, 0] = floor
        refused_with(tmp_path / "kept", "floor", wrong)
    with_logarithms(None, north=plant(500, 1)).save(tmp_path / "plain")
    assert Detector.load(tmp_path / "plain").floor is None
    monkeypatch.setattr(store, "READS", (3, 4, 5))
    with pytest.raises(DetectorUnreadable, match="format version 9, this release reads 3, 4, 5"):
        Detector.load(tmp_path / "kept")


def test_a_detector_without_logarithms_in_the_same_process_is_another_build():
    plain, values = with_logarithms(None), loads(100, 4)
    first = plain.score("north", values).score
    with_logarithms().score("north", values)
    np.testing.assert_array_equal(with_logarithms(None).score("north", values).score, first)


def test_baselines_take_them_too_and_sites_that_disagree_are_refused():
    runs = {"north": [loads(500, 1)]}
    values = loads(200, 5)
    values[100:110, 0] = 0.001
    areas = []
    for named in (None, NAMED):
        found = fit_baseline("zscore", SENSORS, 60.0, STEPS, scaled_by(runs, named), runs)
        areas.append(found.score("north", values).is_anomaly[102:110].mean())
    assert areas == [0.0, 1.0]
    mixed = {**scaled_by(runs, NAMED), **scaled_by({"south": runs["north"]}, None)}
    with pytest.raises(InvalidModel, match="name the same everywhere"):
        fit_detector(
            None,
            None,
            SENSORS,
            60.0,
            STEPS,
            mixed,
            dict.fromkeys(mixed, runs["north"]),
            DetectorOptions(sources=LINEAR),
        )
