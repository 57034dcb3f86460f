import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baselines import fit_baseline
from models.detector import Detector
from models.ordinary import LEAST_ROWS, calm, discounted, ordinary
from models.scaling import moments
from models.store import format_version
from tests.models.linear import fit_linear
from tests.models.pieces import same_in_pieces
from tests.models.stored import arrays_in, of_before, refused_with, same_when_stored

COUNT = 24
SENSORS = [f"s{number}" for number in range(COUNT)]


def machine(rows: int, seed: int) -> np.ndarray:
    """Three drivers that wander, and noise of each sensor's own."""
    random = np.random.default_rng(seed)
    drivers = np.sin(np.arange(rows)[:, None] / [40, 70, 110] + seed) + random.normal(size=(rows, 3)) * 0.1
    gains = np.random.default_rng(0).normal(size=(3, COUNT))
    return drivers @ gains + random.normal(size=(rows, COUNT)) * 0.3


def fitted(runs, **options) -> Detector:
    return fit_linear(SENSORS, 60.0, 32, runs, **options)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fitted({"east": [machine(3000, 1)], "short": [machine(900, 2)], "young": [machine(60, 3)]})


@given(
    st.integers(1, 6),
    st.integers(0, 1000),
    st.sampled_from([0.0, 1e-30, 1.0, 1e6]),
    st.sampled_from([0.0, 1e-6, 1.0, 50.0]),
)
@settings(max_examples=60, deadline=None)
def test_what_counts_is_between_nothing_and_all_and_grows_with_what_is_said(sensors, seed, size, usual):
    random = np.random.default_rng(seed)
    said = np.sort(random.exponential(size=(50, sensors)), axis=0) * size
    counts = discounted(said, np.full(sensors, usual))
    assert np.isfinite(counts).all() and (counts >= 0).all() and (counts <= said).all()
    assert (np.diff(counts, axis=0) >= 0).all()
    if usual == 0:
        np.testing.assert_array_equal(counts, said)


def test_half_counts_of_what_is_ordinary_and_nearly_all_of_what_is_far_beyond():
    counts = discounted(np.array([[0.1, 1.0, 100.0]]), np.ones(3))
    np.testing.assert_allclose(counts, [[0.01 / 1.1, 0.5, 100 * 100 / 101]])


@pytest.mark.parametrize("bursts,share", [(1.0, 1.0), (1.19, 1.0), (1.3, 0.5), (1.41, 0.0), (30.0, 0.0)])
def test_the_more_a_training_bursts_the_less_is_discounted(bursts, share):
    said = np.random.default_rng(1).exponential(size=(5000, 3)) * [1.0, 2.0, 0.0]
    score = np.ones(5000)
    score[:1000] += 5 * (bursts - 1)
    assert calm(score) == pytest.approx(share, abs=1e-9)
    np.testing.assert_allclose(
        ordinary(said, calm(score)), share * np.quantile(said, 0.98, axis=0), atol=1e-8
    )


def test_short_trainings_and_silent_ones_have_nothing_to_discount_by():
    score = np.ones(LEAST_ROWS)
    assert (calm(score[1:]), calm(score), calm(0 * score)) == (0.0, 1.0, 1.0)
    said = np.ones((LEAST_ROWS, 2))
    assert (ordinary(said, 0.0) == 0).all() and (ordinary(said, 1.0) == 1).all()
    assert (ordinary(0 * said, 1.0) == 0).all()


def test_a_fault_of_one_sensor_is_found_among_many_and_good_steps_are_no_alarm(detector):
    without = fitted({"east": [machine(3000, 1)]}, ordinary=False)
    assert detector.calibration.discounts and not without.calibration.discounts
    values = machine(3000, 5)
    assert detector.score("east", values).is_anomaly.mean() < 0.015
    faulty = np.zeros(3000, bool)
    for number, begin in enumerate(range(300, 2900, 100)):
        faulty[begin : begin + 20] = True
        values[begin : begin + 20, number % COUNT] += 0.9
    apart = []
    for each in (detector, without):
        score = each.score("east", values).score
        threshold = np.nanquantile(score[~faulty], 0.99)
        apart.append((score[faulty] > threshold).mean())
    assert apart[0] > apart[1] + 0.05


def test_contributions_sum_to_the_score_step_by_step_in_pieces_and_at_once(detector):
    values = machine(300, 9)
    values[50:58, 0], values[120:126], values[200:230, 2], values[250] = np.nan, np.inf, 500.0, np.nan
    for site in ("east", "short", "young", "nobody"):
        whole = same_in_pieces(detector, site, values, [3, 0, 64, 1, 140, 92])
        known = np.isfinite(whole.score)
        np.testing.assert_allclose(whole.contribution[known].sum(axis=1), whole.score[known], rtol=1e-4)
        assert (whole.contribution >= 0).all()


def test_whom_nothing_is_ordinary_for(detector):
    tables = detector.calibration
    assert detector.sites == ("east", "short", "young")
    assert (tables.ordinary[0] > 0).all()
    assert (tables.ordinary[1] == 0).all() and (tables.ordinary[-1] == 0).all()
    rows = machine(2000, 1)
    baseline = fit_baseline("pca", SENSORS, 60.0, 32, {"a": moments([rows], COUNT).scaling()}, {"a": [rows]})
    assert not baseline.calibration.discounts


def test_a_site_too_young_is_judged_in_the_unit_of_those_it_takes_its_calibration_from():
    """Its threshold is the largest of theirs, its score must be of the same kind."""
    young = machine(3000, 3)
    found = fitted({"east": [machine(3000, 1)], "west": [machine(3000, 4)], "young": [young[::50]]})
    assert (found.calibration.ordinary[2] > 0).all()
    assert found.score("young", young).is_anomaly.mean() < 0.05


def test_what_was_stored_before_is_read_and_scores_as_it_did(detector, tmp_path):
    values = machine(200, 6)
    tables = detector.calibration
    before = of_before(detector, ordinary=0 * tables.ordinary, descent=0 * tables.descent)
    assert (format_version(detector), format_version(before)) == (8, 6)
    for each, name in ((detector, "new"), (before, "old")):
        same_when_stored(each, "east", values, tmp_path / name)
    assert "ordinary" not in arrays_in(tmp_path / "old")
    usual = arrays_in(tmp_path / "new")["ordinary"]
    for wrong in (-usual, usual[:, :-1], np.full_like(usual, np.nan)):
        refused_with(tmp_path / "new", "ordinary", wrong)
