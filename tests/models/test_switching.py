import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from models import switching
from models.architectures import TcnSpec
from models.detector import Detector
from models.errors import DetectorUnreadable
from models.export import export_detector
from models.fitting import fit_detector
from models.options import DetectorOptions
from models.scaling import moments
from models.sources.base import Traits
from models.sources.ridge import LAGS, RidgeFit, RidgeSource
from models.switching import damping, movement, movement_tensor, restlessness, switches
from tests.models.linear import fit_linear
from tests.models.pieces import same_in_pieces
from tests.models.stored import arrays_in

SENSORS = ["speed", "power", "flow", "heat", "noise", "vibration"]
GAIN = np.array([60.0, 4.0, 0.5, -8.0, 2.0, 0.3])
NOISE = np.array([0.5, 0.05, 0.008, 0.1, 0.03, 0.004])
STEPS = 32


def machine(rows: int, seed: int, lasts: int = 150) -> np.ndarray:
    """On and off in turn for about `lasts` steps, all sensors at once; always on with 0."""
    random = np.random.default_rng(seed)
    phases = random.uniform(0.5, 1.5, rows // max(lasts // 2, 1) + 1) * lasts
    at = np.searchsorted(np.cumsum(phases), np.arange(rows), side="right")
    on = np.ones(rows) if lasts == 0 else at % 2
    return np.asarray(100.0 + on[:, None] * GAIN + random.normal(size=(rows, 6)) * NOISE)


def fitted(runs, **options) -> Detector:
    return fit_linear(SENSORS, 30.0, STEPS, runs, **options)


@pytest.fixture(scope="module")
def mixed() -> Detector:
    """Two machines that switch, a young one that has not been seen to yet, and, in the other half, two that do not."""
    return fitted({"east": [machine(3000, 1)], "north": [machine(3000, 2, 0)], "west": [machine(3000, 3)]})


def test_the_residual_of_a_machine_that_switches_is_the_smaller_one_of_both_regressions():
    scaled = (machine(600, 1) - 100.0).astype(np.float32) / GAIN.astype(np.float32)
    design, past = scaled[LAGS:].astype(np.float64), [scaled[LAGS - lag : 600 - lag] for lag in (1, 2, 3)]
    both = [Traits(np.ones(6, bool), True), Traits(np.ones(6, bool))]
    (source,) = RidgeFit(6, ridges=(0.1,)).solve([RidgeFit(6).summarise(scaled, 0, 600)] * 2, both)
    arrays = {name: tf.constant(value) for name, value in source.arrays().items()}
    found = [
        source.residuals(arrays, tf.constant(scaled[None]), tf.constant([row])).numpy()[0] for row in (0, 1)
    ]
    for sensor in range(6):
        left = []
        for ridge, columns in ((0.1, (design, *past)), (0.01, (design, *past)), (0.01, (design,))):
            others = np.delete(np.hstack(columns), sensor, axis=1)
            told = Ridge(alpha=ridge * 597).fit(others, design[:, sensor])
            left.append(design[:, sensor] - told.predict(others))
        smaller = np.where(np.abs(left[2]) < np.abs(left[1]), left[2], left[1])
        np.testing.assert_allclose(found[0][:, sensor], smaller, atol=2e-4)
        np.testing.assert_allclose(found[1][:, sensor], left[0], atol=2e-4)
    assert np.abs(found[1]).max() > 0.3 and np.abs(found[0]).max() < 0.1


def test_a_machine_switches_that_stands_still_and_then_moves_together(monkeypatch):
    random = np.random.default_rng(3)
    assert not switches([]) and not switches([np.zeros((500, 4))]) and not switches([np.zeros((2, 4))])
    still = random.normal(size=(3000, 6)) * 0.05
    assert not switches([still])
    jumps = still + (np.arange(3000) // 400 % 2)[:, None]
    assert switches([jumps]) and switches([jumps[:1500], jumps[1500:]])
    # One sensor of six is a fault, one jump an incident, and a gap says nothing of what lies between.
    assert not switches([np.where(np.arange(6) == 2, jumps, still)])
    with monkeypatch.context() as smaller:
        smaller.setattr(switching, "_ROWS", 100)
        assert switches([jumps]) and not switches([still])
    assert not switches([still + (np.arange(3000) > 1500)[:, None]])
    assert not switches([still[:1000], still[1000:2000] + 1.0, still[2000:]])
    # Twice may be an incident and its end; three times is what the machine does.
    twice, thrice = (still + (np.arange(3000) // rows % 2)[:, None] for rows in (1000, 750))
    assert not switches([twice]) and switches([thrice])
    # Random walks and bursts of ten times the usual size that last.
    assert not switches([random.normal(size=(3000, 6)).cumsum(axis=0) / 50])
    holes = np.where(random.random(jumps.shape) < 0.5, jumps, np.nan)
    assert switches([holes]) and not switches([np.where(np.isnan(holes), np.nan, still)])


@given(st.integers(1, 5), st.integers(0, 40), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_movement_is_that_of_the_others_and_the_graph_has_the_same(sensors, rows, seed):
    random = np.random.default_rng(seed)
    run = random.normal(size=(rows + 5, sensors)).astype(np.float32)
    run[random.random(run.shape) < 0.2] = np.nan
    found = movement(run[2:])
    assert found.shape == (rows, sensors) and (found >= 0).all() and (found <= 1).all()
    change = np.minimum(np.nan_to_num(np.abs(np.diff(run, axis=0))), 1.0)
    for step in range(rows):
        largest = change[step + 2 : step + 5].max(axis=0)
        for sensor in range(sensors):
            others = np.delete(largest, sensor)
            assert found[step, sensor] == pytest.approx(others.mean() if len(others) else 0.0, abs=1e-6)
    graph = movement_tensor(tf.constant(run[None]), 5).numpy()[0]
    np.testing.assert_allclose(graph, found, atol=1e-6)


def test_restlessness_makes_residuals_of_one_size_whether_others_move_or_not():
    random = np.random.default_rng(4)
    moved = np.where(random.random((20_000, 3)) < 0.02, 0.8, 0.05)
    truth = np.array([0.0, 100.0, 10_000.0])
    residual = random.normal(size=moved.shape) * 0.1 * np.sqrt(1 + truth * moved**2)
    residual[random.random(moved.shape) < 0.1] = np.nan
    found = restlessness(residual, moved, 0.0)
    assert found[0] <= 0.1
    assert np.log10(found[1]) == pytest.approx(2.0, abs=0.3)
    size = np.abs(residual / damping(found, moved))
    quiet, busy = (np.nanmean(np.where(which, size, np.nan), axis=0) for which in (moved < 0.1, moved > 0.5))
    np.testing.assert_allclose(busy / quiet, 1.0, atol=0.25)
    assert (restlessness(np.full((50, 2), np.nan), np.ones((50, 2)), 0.05) == 0).all()


def test_machines_that_switch_are_told_from_those_that_do_not(mixed):
    assert mixed.switching == ("east", "west")
    steady = fitted({"a": [machine(1500, 1, 0)], "b": [machine(1500, 2, 0)]})
    assert steady.switching == ()
    for source in steady.sources:
        assert getattr(source, "switches", None) is None


def test_a_switch_is_no_alarm_and_a_small_fault_behind_it_is(mixed):
    values = machine(1200, 5)
    score = mixed.score("east", values)
    assert score.is_anomaly.mean() < 0.01
    # Six deviations of what power does while the machine is on, of which a switch is eighty.
    values[700:740, 1] += 6 * NOISE[1]
    found = mixed.score("east", values)
    assert found.is_anomaly[705:740].mean() > 0.8 and found.is_anomaly[:690].mean() < 0.01
    assert found.contribution[720].argmax() == 1


def test_one_that_never_switched_in_training_is_told_of_its_first_switch(mixed):
    values = machine(600, 6, 0)
    values[300:] += GAIN * 0.5
    found = mixed.score("north", values)
    assert found.is_anomaly[300:330].mean() > 0.9 and found.is_anomaly[:300].mean() < 0.01


def test_a_sensor_that_does_not_follow_a_switch_is_an_anomaly(mixed):
    values = machine(1200, 5)
    edge = int(np.flatnonzero(np.diff(values[:, 0]) > 30)[2]) + 1
    values[edge : edge + 60, 3] += -GAIN[3]
    found = mixed.score("west", values)
    assert found.is_anomaly[edge + 3 : edge + 60].mean() > 0.9
    assert found.contribution[edge + 20].argmax() == 3


@pytest.mark.parametrize("lasts,expected", [(150, True), (0, False)])
def test_a_young_site_is_taken_for_what_most_sites_with_a_history_are(lasts, expected):
    old = {name: [machine(1500, seed, lasts)] for seed, name in enumerate(("east", "north", "west"))}
    found = fitted({**old, "young": [machine(140, 7, 0)], "newborn": [machine(60, 8, 0)]})
    assert ("young" in found.switching, "newborn" in found.switching) == (expected, expected)


def test_step_by_step_in_pieces_and_at_once_give_the_same_numbers(mixed):
    values = machine(400, 9)
    values[50:58, 0], values[120:126], values[200:260, 2], values[300] = np.nan, np.inf, 500.0, np.nan
    for site in ("east", "north", "nobody"):
        whole = same_in_pieces(mixed, site, values, [3, 0, 64, 1, 140, 192])
        assert np.isfinite(whole.score[mixed.context :]).sum() > 380


def test_it_is_stored_and_served_and_releases_before_refuse_it(mixed, tmp_path):
    values = machine(300, 4).astype(np.float32)
    mixed.save(tmp_path / "kept")
    kept = Detector.load(tmp_path / "kept")
    assert kept.switching == mixed.switching
    folder = export_detector(mixed, tmp_path / "fleet")
    signatures = tf.saved_model.load(str(folder)).signatures
    for site in ("east", "north", "nobody"):
        expected = mixed.score(site, values).score
        np.testing.assert_allclose(kept.score(site, values).score, expected, rtol=1e-6)
        state = signatures["start"](site=tf.constant([site]))
        served = signatures["stream"](site=tf.constant([site]), values=tf.constant(values[None]), **state)
        np.testing.assert_allclose(served["score"].numpy()[0], expected, rtol=1e-5)
    told = json.loads((folder / "assets.extra" / "detector.json").read_text())
    assert (told["format_version"], told["switching"]) == (9, ["east", "west"])
    steady = export_detector(fitted({"a": [machine(400, 1, 0)]}), tmp_path / "steady")
    told = json.loads((steady / "assets.extra" / "detector.json").read_text())
    assert told["format_version"] == 8 and "switching" not in told


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("1.source.at_once"),
        lambda arrays: arrays.update({"1.source.switches": arrays["1.source.switches"][:-1]}),
        lambda arrays: arrays.update({"1.source.at_once": arrays["1.source.at_once"] * np.nan}),
    ],
)
def test_a_damaged_file_is_refused(mixed, change, tmp_path):
    mixed.save(tmp_path / "kept")
    arrays = arrays_in(tmp_path / "kept")
    change(arrays)
    with (tmp_path / "bad").open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(DetectorUnreadable, match="not a saved detector"):
        Detector.load(tmp_path / "bad")


def test_a_detector_of_one_ridge_alone_switches_too():
    found = fitted({"east": [machine(1500, 1)]}, follow=0.0)
    alone = fit_detector(
        TcnSpec(), None, SENSORS, 30.0, STEPS, {"east": moments([machine(1500, 1)], 6).scaling()},
        {"east": [machine(1500, 1)]}, DetectorOptions(sources=("stiff_ridge",)),
    )  # fmt: skip
    assert found.switching == alone.switching == ("east",)
    (source,) = alone.sources
    assert isinstance(source, RidgeSource) and source.ridge == 1.0
