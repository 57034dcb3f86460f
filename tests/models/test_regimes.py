import dataclasses
import warnings

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baselines import fit_baseline
from models.detector import Detector
from models.regimes import REGIMES, centres_of, membership, membership_tensor, usual_in, usual_in_others
from models.scaling import moments
from models.store import format_version
from tests.models.linear import fit_linear
from tests.models.pieces import same_in_pieces
from tests.models.stored import arrays_in, of_before, refused_with, same_when_stored

SENSORS = ["load", "power", "heat", "flow"]


def machine(rows: int, seed: int) -> np.ndarray:
    """Load wanders between idle and full; all else follows it, power ten times as noisy under load and bent upwards."""
    random = np.random.default_rng(seed)
    load = 0.5 + 0.5 * np.sin(np.arange(rows) / 60 + seed) + random.normal(size=rows) * 0.005
    noise = random.normal(size=(rows, 3)) * 0.01
    noise[:, 0] *= np.where(load > 0.5, 10.0, 1.0)
    return np.column_stack(
        [load, 3 * load + 0.6 * load**2 + noise[:, 0], 20 - load + noise[:, 1], load / 2 + noise[:, 2]]
    )


def fitted(runs, **options) -> Detector:
    return fit_linear(SENSORS, 60.0, 32, runs, ordinary=False, **options)


def plain(detector: Detector) -> Detector:
    """The same detector as if it knew no regimes and filled nothing, which is what releases before stored."""
    plain = dataclasses.replace(detector, calibration=detector.calibration.without_regimes())
    return of_before(plain, descent=0 * detector.calibration.descent)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fitted({"east": [machine(3000, 1)], "young": [machine(60, 3)]})


def in_one(of: np.ndarray) -> np.ndarray:
    """Membership float64[N, REGIMES] of steps that are each of one regime alone."""
    return np.eye(REGIMES)[of]


@given(st.integers(1, 5), st.integers(1, 300), st.integers(0, 1000), st.sampled_from([0.1, 1.0, 9.0]))
@settings(max_examples=40, deadline=None)
def test_a_step_is_of_all_regimes_together_once_and_of_the_nearest_most_as_in_the_graph(
    sensors, rows, seed, size
):
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, sensors)) * size
    values[random.random(values.shape) < 0.1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        centres = centres_of(values)
    assert centres.shape == (REGIMES, sensors) and np.isfinite(centres).all()
    of = membership(values, centres)
    np.testing.assert_allclose(of.sum(axis=1), 1.0)
    known = np.nan_to_num(values)
    far = ((known[:, None] - centres) ** 2).sum(axis=2)
    assert (far[np.arange(rows), of.argmax(axis=1)] <= far.min(axis=1) + 1e-9).all()
    graph = membership_tensor(
        tf.constant(known[None], tf.float32), tf.constant(centres[None], tf.float32)
    ).numpy()[0]
    np.testing.assert_allclose(graph, of, atol=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((500, 3)),
        np.full((500, 3), np.nan),
        np.arange(600.0)[:, None] % 3 * np.ones(2),
        np.eye(1, 4)[:1],
    ],
    ids=["still", "unknown", "three readings", "one row"],
)
def test_a_training_that_repeats_a_few_readings_is_one_regime(values):
    of = membership(values, centres_of(values))
    assert (of.argmax(axis=1) == 0).all() and of[:, 0].min() > 1 - 1e-9


def test_regimes_are_found_again_where_there_are_some():
    random = np.random.default_rng(1)
    truth = random.normal(size=(REGIMES, 5)) * 4
    which = random.integers(0, REGIMES, 30_000)
    values = truth[which] + random.normal(size=(30_000, 5)) * 0.1
    found = centres_of(values)
    apart = np.sqrt(((truth[:, None] - found) ** 2).sum(axis=2))
    assert apart.min(axis=1).max() < 0.05
    assert (found == centres_of(values)).all()


@pytest.mark.parametrize("switching,share", [(False, 0.2), (True, 0.05)])
def test_what_is_usual_in_a_regime_is_its_mean_and_size_beside_a_share_of_usual_steps(switching, share):
    random = np.random.default_rng(2)
    rows = 20_000
    which = random.integers(0, 2, rows)
    residual = random.normal(size=(rows, 1)) * np.where(which, 1.0, 0.2)[:, None] + which[:, None] * 0.4
    shift, size = usual_in(residual, in_one(which), 0.0, switching)
    kept = 0.5 / (0.5 + share)
    np.testing.assert_allclose(shift[:2, 0], [-0.2 * kept, 0.2 * kept], atol=0.01)
    left = residual[:, 0] - residual.mean() - shift[which, 0]
    squares = np.array([np.mean(left[which == each] ** 2) for each in (0, 1)])
    whole = np.mean(left**2)
    expected = np.sqrt((0.5 * squares + share * whole) / (0.5 + share) / whole)
    np.testing.assert_allclose(size[:2, 0], expected, rtol=0.02)
    # Regimes in which nothing was seen are as usual.
    assert (shift[2:] == 0).all() and (size[2:] == 1).all()


def test_a_regime_excuses_half_as_much_again_at_most_and_a_rare_one_hardly_anything():
    random = np.random.default_rng(3)
    residual = random.normal(size=(10_000, 1)) * 0.1
    residual[:2000] *= 30
    _, size = usual_in(residual, in_one((np.arange(10_000) < 2000).astype(int)), 0.0, False)
    assert size[1, 0] == 1.5
    residual[20:] *= 0.1
    shift, size = usual_in(residual + 1.0, in_one((np.arange(10_000) < 20).astype(int)), 0.0, False)
    assert size[1, 0] < 1.5 and abs(shift[1, 0]) < 0.01


def test_below_the_floor_no_regime_is_quieter_than_another_and_unknown_cells_say_nothing():
    random = np.random.default_rng(4)
    which = random.integers(0, 2, 4000)
    residual = random.normal(size=(4000, 2)) * np.where(which, 1e-3, 1e-5)[:, None]
    residual[:, 1] = np.nan
    shift, size = usual_in(residual, in_one(which), 0.05, False)
    np.testing.assert_allclose(size, 1.0, atol=1e-3)
    assert (shift[:, 1] == 0).all() and np.isfinite(shift).all()


def test_a_block_is_judged_by_what_the_others_say_is_usual():
    random = np.random.default_rng(5)
    residual = random.normal(size=(1000, 1)) * 0.1
    residual[:200] += 3.0
    which = (np.arange(1000) < 200).astype(int)
    off, size = usual_in_others(residual, in_one(which), 0.0, False)
    # Nothing excuses the first block, the only one of its regime.
    assert (off[:200] == 0).all() and (size[:200] == 1).all()
    assert usual_in_others(residual[:1], in_one(which[:1]), 0.0, False) == (0.0, 1.0)


def test_small_faults_show_while_a_machine_is_quiet_and_large_noise_under_load_is_no_alarm(detector):
    without = fitted({"east": [machine(3000, 1)]}, regimes=False)
    assert detector.calibration.has_regimes and not without.calibration.has_regimes
    values = machine(1500, 5)
    assert detector.score("east", values).is_anomaly.mean() < 0.02
    quiet = np.flatnonzero(values[:, 0] < 0.25)
    faulty = quiet[quiet > 400][:40]
    values[faulty, 1] += 0.25
    noticed, before = (each.score("east", values).is_anomaly[faulty].mean() for each in (detector, without))
    assert noticed > before + 0.2


def test_step_by_step_in_pieces_and_at_once_give_the_same_numbers(detector):
    values = machine(300, 9)
    values[50:58, 0], values[120:126], values[200:230, 2], values[250] = np.nan, np.inf, 500.0, np.nan
    for site in ("east", "young", "nobody"):
        whole = same_in_pieces(detector, site, values, [3, 0, 64, 1, 140, 92])
        assert np.isfinite(whole.score[detector.context :]).sum() > 280


def test_sites_too_short_and_machines_that_nobody_knows_have_no_regimes(detector):
    tables = detector.calibration
    assert detector.sites == ("east", "young")
    for row in (1, 2):
        assert (tables.regime_shift[row] == 0).all() and (tables.regime_size[row] == 1).all()
    baseline = fit_baseline(
        "pca", SENSORS, 60.0, 32, {"a": moments([machine(500, 1)], 4).scaling()}, {"a": [machine(500, 1)]}
    )
    assert not baseline.calibration.has_regimes
    excursion = [source.excursion for source in detector.sources].index(True)
    assert (tables.regime_size[0, excursion] == 1).all() and (tables.regime_size[0] != 1).any()


def test_what_was_stored_before_regimes_is_read_and_scores_as_it_did(detector, tmp_path):
    values, before = machine(200, 6), plain(detector)
    assert (format_version(detector), format_version(before)) == (8, 3)
    for each, name in ((detector, "new"), (before, "old")):
        same_when_stored(each, "east", values, tmp_path / name)
    size = arrays_in(tmp_path / "new")["regime_size"]
    for wrong in (np.zeros_like(size), size[:, :, :-1]):
        refused_with(tmp_path / "new", "regime_size", wrong)
    assert not [name for name in arrays_in(tmp_path / "old") if name.startswith("regime")]
    assert not np.allclose(before.score("east", values).score[40:], detector.score("east", values).score[40:])
