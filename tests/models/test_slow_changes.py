"""What moves a gain, and what does not."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Detector
from models.slow_changes import growth, growth_tensor
from models.store import format_version
from tests.models.linear import fit_linear
from tests.models.pieces import same_in_pieces
from tests.models.stored import arrays_in, of_before, refused_with, same_when_stored

SENSORS = [f"s{number}" for number in range(6)]


@given(st.floats(0.1, 100.0), st.floats(0.0, 1.0), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_size_counts_whole_up_to_the_most_and_beyond_less_and_less_down_to_a_usual_one(most, share, seed):
    usual = share * most
    sizes = np.sort(np.random.default_rng(seed).exponential(size=(200, 1)) * most, axis=0)
    found = growth(sizes, np.array([most]), np.array([usual]), 1.0)
    near = sizes <= most
    np.testing.assert_array_equal(found[near], sizes[near])
    assert (np.diff(found[~near]) <= 0).all() and (found[~near] >= usual).all()
    np.testing.assert_allclose(found[sizes >= 2 * most], usual)
    np.testing.assert_array_equal(
        growth(sizes, np.array([most]), np.array([usual]), 0.0), np.minimum(sizes, most)
    )
    graph = growth_tensor(
        *(tf.constant(np.asarray(x)[None], tf.float32) for x in (sizes, [[most]], [[usual]], [[1.0]]))
    )
    np.testing.assert_allclose(graph[0].numpy(), found, rtol=1e-5, atol=1e-5 * most)


def machine(rows: int, seed: int) -> np.ndarray:
    """Two drivers and six sensors that follow them."""
    random = np.random.default_rng(seed)
    drivers = np.sin(np.arange(rows)[:, None] / [40, 70] + seed) + random.normal(size=(rows, 2)) * 0.1
    gains = np.random.default_rng(0).normal(size=(2, len(SENSORS)))
    return drivers @ gains + random.normal(size=(rows, len(SENSORS))) * 0.3


@pytest.fixture(scope="module")
def detector() -> Detector:
    runs = {"east": [machine(9000, 1)], "south": [machine(7000, 3)], "young": [machine(600, 2)]}
    return fit_linear(SENSORS, 60.0, 32, runs)


def test_a_fault_far_out_does_not_teach_a_machine_to_be_loud(detector):
    """Two thousand steps with one sensor far off, then a small fault at it; as it was before, the gain hid that."""
    values = machine(3000, 5)
    values[300:2300, 0] += 12.0
    small = slice(2600, 2620)
    values[small, 0] += 2.5
    told = []
    for each in (detector, of_before(detector)):
        found = each.score("east", values)
        told.append(found.contribution[small, 0].mean() / detector.training_threshold("east"))
    assert told[0] > 1.5 * told[1]


def test_noise_that_grows_by_half_is_followed_as_before(detector):
    random = np.random.default_rng(7)
    values = machine(8000, 6) + random.normal(size=(8000, len(SENSORS))) * 0.35
    now, before = (each.score("east", values).score[4000:] for each in (detector, of_before(detector)))
    assert np.median(now) == pytest.approx(np.median(before), rel=0.02)
    follows_nothing = fit_linear(SENSORS, 60.0, 32, {"east": [machine(9000, 1)]}, follow=0.0)
    assert np.median(now) < 0.8 * np.median(follows_nothing.score("east", values).score[4000:])


def test_a_training_shorter_than_two_memories_does_not_know_how_far_out_is_far(detector):
    # Of the sites, then of the fleet.
    assert detector.calibration.redescent.tolist() == [1.0, 0.0, 0.0, 1.0]
    rows = [machine(9000, 1)]
    asked = fit_linear(SENSORS, 60.0, 32, {"east": rows}, redescending=False)
    assert not asked.calibration.redescends and asked.calibration.follow_rate[0] > 0
    still = fit_linear(SENSORS, 60.0, 32, {"east": rows}, follow=0.0)
    assert not still.calibration.redescends


def test_step_by_step_in_pieces_and_at_once_give_the_same_numbers(detector):
    values = machine(300, 9)
    values[50:90, 1], values[120:126], values[200] = 60.0, np.nan, np.inf
    for site in ("east", "south", "young", "nobody"):
        same_in_pieces(detector, site, values, [3, 0, 64, 1, 140, 92])


def test_what_was_stored_before_is_read_and_scores_as_it_did(detector, tmp_path):
    values = machine(900, 5)
    values[200:700, 0] += 12.0
    before = of_before(detector)
    assert (format_version(detector), format_version(before)) == (9, 8)
    for each, name in ((detector, "new"), (before, "old")):
        same_when_stored(each, "east", values, tmp_path / name)
    assert "redescent" not in arrays_in(tmp_path / "old")
    assert not np.allclose(
        before.score("east", values).score[300:], detector.score("east", values).score[300:]
    )
    steepness = arrays_in(tmp_path / "new")["redescent"]
    for wrong in (-steepness, steepness[:-1], np.full_like(steepness, np.nan)):
        refused_with(tmp_path / "new", "redescent", wrong)
