import json
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from models.errors import InvalidInput
from models.sources.base import Traits
from models.sources.folds import (
    SHARES,
    blocks_of,
    fit_rows,
    hidden,
    shift_left,
    solve_beside,
    total_of,
    without_each,
)
from models.sources.gram import GramStatistics, federated_prior
from models.sources.pca import PcaFit, PcaSource
from models.sources.ridge import LAGS, RidgeFit, ridge_weights

FIT = RidgeFit(3)


def run(rows, seed):
    return np.random.default_rng(seed).normal(size=(rows, 3)).cumsum(axis=0).astype(np.float32) / 10


def test_one_inverse_gives_the_ridge_regression_of_every_sensor():
    values = run(300, 1)
    weights = ridge_weights(FIT.summarise(values, 0, 300), 3, 0.1)
    design = np.hstack([values[LAGS - lag : 300 - lag] for lag in range(LAGS + 1)]).astype(np.float64)
    for sensor in range(3):
        others = [c for c in range(12) if c != sensor]
        # scikit-learn's constant is free, ours carries a ridge of 1e-6 a row.
        expected = Ridge(alpha=0.1 * 297).fit(design[:, others], design[:, sensor])
        np.testing.assert_allclose(weights[others, sensor], expected.coef_, atol=1e-4)
        assert weights[12, sensor] == pytest.approx(expected.intercept_, abs=1e-4)
        assert weights[sensor, sensor] == 0


@given(st.sets(st.integers(0, 5)), st.integers(0, 1000))
@settings(max_examples=30)
def test_sensors_that_never_moved_change_nothing_for_the_others_and_are_predicted_by_nothing(still, seed):
    values = np.random.default_rng(seed).normal(size=(80, 6)).cumsum(axis=0).astype(np.float32) / 10
    values[:, sorted(still)] = 0
    moves = [sensor for sensor in range(6) if sensor not in still]
    found = ridge_weights(RidgeFit(6).summarise(values, 0, 80), 6, 0.1)
    columns = [6 * lag + sensor for lag in range(LAGS + 1) for sensor in moves] + [24]
    fewer = ridge_weights(RidgeFit(len(moves)).summarise(values[:, moves], 0, 80), len(moves), 0.1)
    np.testing.assert_array_equal(found[np.ix_(columns, moves)], fewer)
    assert np.count_nonzero(found) == np.count_nonzero(fewer)
    gram = RidgeFit(6).summarise(values, 0, 80).gram
    whole = np.linalg.inv(gram + 77 * np.diag([*[0.1] * 24, 1e-6]))
    expected = -whole[:, :6] / np.diag(whole)[:6]
    expected[range(6), range(6)] = 0
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not ridge_weights(GramStatistics.empty(25), 6, 0.1).any()


@given(st.lists(st.integers(0, 60), min_size=1, max_size=4))
@settings(max_examples=20)
def test_statistics_of_blocks_add_up_to_those_of_the_run(cuts):
    values = run(60, 2)
    edges = sorted({0, 60, *cuts})
    total = GramStatistics.empty(13)
    for start, stop in pairwise(edges):
        total = total.plus(FIT.summarise(values, start, stop))
    whole = FIT.summarise(values, 0, 60)
    np.testing.assert_allclose(total.gram, whole.gram, atol=1e-9)
    assert total.rows == whole.rows == 57


def test_statistics_survive_json_exactly_and_nonsense_is_refused():
    found = FIT.summarise(run(50, 3), 0, 50)
    again = GramStatistics.from_dict(json.loads(json.dumps(found.to_dict())))
    np.testing.assert_array_equal(again.gram, found.gram)
    assert again.rows == 47
    for wrong in (
        {},
        {"gram": [[1, 2]], "rows": 1},
        {"gram": [[float("nan")]], "rows": 1},
        {"gram": [[1]], "rows": -1},
    ):
        with pytest.raises(InvalidInput):
            GramStatistics.from_dict(wrong)
    with pytest.raises(InvalidInput, match="cannot be added"):
        found.plus(GramStatistics.empty(9))


def test_a_prior_of_the_site_alone_changes_nothing_and_each_site_weighs_the_same():
    one, two = FIT.summarise(run(200, 4), 0, 200), FIT.summarise(run(900, 5), 0, 900)
    alone = federated_prior([one])
    np.testing.assert_allclose(
        ridge_weights(one.plus(alone, 2000), 3, 0.1), ridge_weights(one, 3, 0.1), atol=1e-5
    )
    both = federated_prior([one, two, GramStatistics.empty(13)])
    np.testing.assert_allclose(both.gram, (one.gram / one.rows + two.gram / two.rows) / 2)
    assert both.rows == 1
    assert federated_prior([]) is None


def test_residuals_look_back_three_steps_and_no_further():
    (source,) = RidgeFit(3, ridges=(0.1,)).solve(
        [FIT.summarise(run(200, 6), 0, 200)], [Traits(np.ones(3, bool))]
    )
    arrays = {"weights": tf.constant(source.weights)}
    values = run(20, 7)[None]
    holed = values.copy()
    holed[0, 10, 1] = np.nan
    filled = np.nan_to_num(holed)
    expected = source.residuals(arrays, tf.constant(filled), tf.constant([0])).numpy()[0]
    unchanged = source.residuals(arrays, tf.constant(values), tf.constant([0])).numpy()[0]
    np.testing.assert_allclose(expected[:7], unchanged[:7], atol=1e-6)
    np.testing.assert_allclose(expected[11:], unchanged[11:], atol=1e-6)
    assert np.abs(expected[8:11] - unchanged[8:11]).max() > 1e-6


@pytest.mark.parametrize("fit", [FIT, PcaFit(3)])
def test_a_fold_never_sees_the_block_it_judges(fit):
    values, other = run(500, 8), run(500, 9)
    changed = values.copy()
    changed[:97] = np.random.default_rng(1).normal(size=(97, 3)) * 5
    traits = [Traits(np.ones(3, bool))] * 3
    found = [
        fit_rows(fit, [[v], [other], [v]], [0, 1], 2000, traits, trusting=True)[1][0][0]
        for v in (values, changed)
    ]
    one, two = (next(iter(source.arrays().values())) for source in found)
    # Fold 0 leaves out the first 100 steps; its last three are the past of what follows.
    assert np.abs(one[0] - two[0]).max() < 1e-5
    assert np.abs(one[1] - two[1]).max() > 0.05


def test_a_wandering_sensor_bends_no_component_and_a_prior_fades_as_a_site_learns():
    values = run(500, 10)
    (source,) = PcaFit(3).solve(
        [PcaFit(3).summarise(values, 0, 500)], [Traits(np.array([True, False, True]))]
    )
    assert not source.projection[0, 1].any() and not source.projection[0, :, 1].any()
    assert source.projection[0, 0].any()
    other, traits = run(40_000, 11), [Traits(np.ones(3, bool))] * 3
    moved = []
    for rows in (300, 30_000):
        own = run(30_000, 12)[:rows]
        with_prior, alone = (
            fit_rows(FIT, [[own], [other], [own]], [0, 1], prior, traits, trusting=True)[0][0].weights[0]
            for prior in (2000, 0)
        )
        moved.append(float(np.abs(with_prior - alone).max()))
    assert moved[0] > 5 * moved[1] > 0


@pytest.mark.parametrize(
    ("times", "share", "taken"), [(5.0, 1.0, 1 / 2), (5.0, 1 / 4, 1 / 8), (45.0, 1.0, 1 / 10)]
)
def test_a_site_with_five_times_the_priors_rows_takes_half_of_them(times, share, taken):
    values, traits = run(1000, 13), Traits(np.ones(3, bool))
    own = FIT.summarise(values, 0, 1000)
    others = federated_prior([FIT.summarise(run(500, seed), 0, 500) for seed in (14, 15)])
    prior_rows = own.rows / times
    found = solve_beside(FIT, [own], others, prior_rows, share, traits)
    expected = FIT.solve([own.plus(others, taken * prior_rows)], [traits])
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.coefficients(0), two.coefficients(0), atol=1e-6)


def related(rows, seed, signs, lacks=()):
    """Three sensors that follow one slow course, each with its sign; NaN where a sensor is lacking."""
    random = np.random.default_rng(seed)
    course = np.sin(np.arange(rows) / 40 + seed) + 0.3 * random.normal(size=rows)
    found = (course[:, None] * signs + 0.05 * random.normal(size=(rows, 3))).astype(np.float32)
    found[:, list(lacks)] = np.nan
    return found


LIKE, UNLIKE = (1, 1, 1), (1, -1, -1)


def unexplained(weights, runs):
    """Mean squared residual of each sensor, in rows that nobody learned from."""
    sums = FIT.summarise(runs, 0, len(runs))
    return sums.unexplained(weights) / sums.rows


@pytest.mark.parametrize("fit", [FIT, PcaFit(3, 0.6)])
def test_a_site_takes_nothing_from_sites_whose_sensors_are_related_in_another_way(fit):
    own, traits = related(400, 1, LIKE), [Traits(np.ones(3, bool))] * 3
    for other, helps in ((related(4000, 2, LIKE), True), (related(4000, 2, UNLIKE), False)):
        weights = {}
        for way, prior, trusting in (("chosen", 2000, False), ("all", 2000, True), ("none", 0, False)):
            whole, held = fit_rows(fit, [[own], [other], [own]], [0, 1], prior, traits, trusting=trusting)
            weights[way] = np.stack([whole[0].coefficients(0), held[0][0].coefficients(0)])
        np.testing.assert_array_equal(weights["chosen"], weights["all" if helps else "none"])
        assert np.abs(weights["all"] - weights["none"]).max() > 1e-3


@pytest.mark.parametrize("rows", [200, 400, 1600])
def test_sites_with_other_sensors_make_no_relation_worse_than_a_site_alone_knows_it(rows):
    # Each site lacks another sensor, so no pair is seen by all and each by one site only.
    runs = [[related(rows, site, LIKE, lacks=[site])] for site in range(3)]
    traits = [Traits(np.ones(3, bool))] * 4
    fresh = [related(2000, 9 + site, LIKE, lacks=[site]) for site in range(3)]
    found = {
        way: fit_rows(FIT, [*runs, runs[0]], [0, 1, 2], prior, traits, trusting=trusting)[0][0]
        for way, prior, trusting in (("chosen", 2000, False), ("all", 2000, True), ("alone", 0, False))
    }
    worse = {
        way: np.array(
            [np.delete(unexplained(source.coefficients(site), fresh[site]), site) for site in range(3)]
        )
        for way, source in found.items()
    }
    print({way: each.mean() for way, each in worse.items()})
    assert (worse["chosen"] < 1.03 * worse["alone"]).all()
    assert worse["all"].mean() > 1.5 * worse["alone"].mean()


@given(st.integers(0, 2**32 - 1), st.sampled_from([200, 600, 2000]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_strangers_cost_a_site_next_to_nothing(seed, rows, lacking):
    # Sites of eight sensors, each with relations of its own; each lacks another third if `lacking`.
    random = np.random.default_rng(seed)
    sites, sensors = 4, 8
    fit, traits, runs, fresh = RidgeFit(sensors), [Traits(np.ones(sensors, bool))] * (sites + 1), [], []
    for site in range(sites):
        mix = random.normal(size=(3, sensors))
        values = random.normal(size=(rows + 4000, 3)) @ mix + 0.1 * random.normal(size=(rows + 4000, sensors))
        values = (values / values[:rows].std(axis=0)).astype(np.float32)
        if lacking:
            values[:, site % 3 :: 3] = np.nan
        runs.append([values[:rows]])
        fresh.append(fit.summarise(values[rows:], 0, 4000))
    losses = {}
    for way, prior, trusting in (("chosen", 2000, False), ("all", 2000, True), ("alone", 0, False)):
        source = fit_rows(fit, [*runs, runs[0]], list(range(sites)), prior, traits, trusting=trusting)[0][0]
        losses[way] = [
            np.log(sums.unexplained(source.coefficients(site)) / sums.rows + source.floor**2).mean()
            for site, sums in enumerate(fresh)
        ]
    gap = {way: np.max(np.subtract(losses[way], losses["alone"])) for way in ("chosen", "all")}
    assert gap["chosen"] < 0.03
    assert gap["all"] > 0.1


def test_what_a_shift_leaves_is_that_of_the_residuals_of_a_shifted_sensor():
    random = np.random.default_rng(5)
    for fit in (FIT, PcaFit(3)):
        source, *_ = fit.solve(
            [fit.summarise(random.normal(size=(400, 3)).astype(np.float32), 0, 400)],
            [Traits(np.ones(3, bool))],
        )
        before = np.zeros((1, source.context, 3), np.float32)
        for sensor in range(3):
            shifted = np.zeros((1, 10, 3), np.float32)
            shifted[..., sensor] = 1
            arrays = {name: tf.constant(value) for name, value in source.arrays().items()}
            frames = np.concatenate([before, shifted], axis=1)
            residual = source.residuals(arrays, tf.constant(frames), tf.constant([0])).numpy()[0, :, sensor]
            if fit is FIT:
                residual = residual + source.coefficients(0)[-1, sensor]
            expected = float(np.mean(residual**2))
            assert shift_left(source.coefficients(0))[sensor] == pytest.approx(expected, rel=1e-3)


@given(st.floats(0.0, 0.9), st.floats(0.0, 0.9))
def test_a_source_that_follows_each_sensor_by_itself_hides_a_fault_as_much_as_it_lowers_the_residual(
    one, two
):
    fit, values = PcaFit(3), run(500, 3)
    blocks = [fit.summarise(values, 100 * i, 100 * (i + 1)) for i in range(5)]
    total = fit.summarise(values, 0, 500)
    found = [
        hidden([PcaSource(np.stack([share * np.eye(3, dtype=np.float32)] * 5), floor=0.0)], blocks, total)
        for share in (one, two)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_a_sensor_that_a_source_takes_over_whole_has_a_finite_part_in_the_choice():
    fit, values = PcaFit(3), run(500, 3)
    blocks = [fit.summarise(values, 100 * i, 100 * (i + 1)) for i in range(5)]
    total = fit.summarise(values, 0, 500)
    for share in (1.0, 1.0 - 1e-12):
        source = PcaSource(np.stack([share * np.eye(3, dtype=np.float64)] * 5))
        assert np.isfinite(hidden([source], blocks, total))


@pytest.mark.parametrize("fit", [FIT, PcaFit(3)])
def test_a_long_run_is_summed_in_pieces_and_each_row_of_it_once(fit, monkeypatch):
    values = run(500, 16)
    whole = fit.summarise(values, 10, 490)
    monkeypatch.setattr(f"{type(fit).__module__}._ROWS", 64)
    pieces = fit.summarise(values, 10, 490)
    np.testing.assert_allclose(pieces.gram, whole.gram, rtol=1e-9)
    assert pieces.rows == whole.rows == 480


@pytest.mark.parametrize("fit", [FIT, PcaFit(3)])
def test_an_unknown_reading_is_summed_as_an_average_one(fit):
    values, known = run(200, 17), run(200, 17)
    values[50:60, 1], known[50:60, 1] = np.nan, 0.0
    np.testing.assert_array_equal(fit.summarise(values, 0, 200).gram, fit.summarise(known, 0, 200).gram)


def components(values, variance=0.9):
    """The projection float32[F, F] of steady scaled values float32[N, F]."""
    fit = PcaFit(values.shape[1], variance)
    (source,) = fit.solve(
        [fit.summarise(values, 0, len(values))], [Traits(np.ones(values.shape[1], np.bool_))]
    )
    return source.projection[0]


def test_a_reading_far_out_bends_components_and_is_projected_on_others_no_more_than_one_of_five_scales():
    values = related(400, 3, LIKE)
    values[100, 0] = 5.0
    far = values.copy()
    far[100, 0] = 90.0
    projection = components(values)
    np.testing.assert_array_equal(components(far), projection)
    source, arrays = PcaSource(projection[None]), {"projection": tf.constant(projection[None])}
    near, away = (
        source.residuals(arrays, tf.constant(each[None]), tf.constant([0])).numpy()[0, 100]
        for each in (values, far)
    )
    np.testing.assert_allclose(away[1:], near[1:], atol=1e-6)
    assert away[0] - near[0] == pytest.approx(85.0, rel=1e-5)


def test_where_sensors_lie_bends_no_component():
    values = related(400, 4, LIKE)
    moved = values + np.array([3.0, -2.0, 0.5], np.float32)
    np.testing.assert_allclose(components(moved), components(values), atol=1e-4)
    assert np.linalg.matrix_rank(components(values), tol=1e-3) == 1


@pytest.mark.parametrize("constant", [0, 1, 4])
@pytest.mark.parametrize("sensors", [1, 2, 3])
def test_of_every_machine_components_leave_something_over(sensors, constant):
    values = np.random.default_rng(5).normal(size=(400, sensors)).astype(np.float32)
    values = np.hstack([np.zeros((400, constant), np.float32), values])
    found = components(values, 0.999)
    assert np.linalg.matrix_rank(found, tol=1e-3) == sensors - 1


def test_as_few_components_as_explain_the_variance_asked_for():
    values = np.random.default_rng(6).normal(size=(4000, 3)).astype(np.float32) * [1.0, 0.5, 0.25]
    for variance, kept in ((0.7, 1), (0.8, 2)):
        found = components(values.astype(np.float32), variance)
        assert np.linalg.matrix_rank(found, tol=1e-3) == kept


def test_without_a_row_nothing_is_projected():
    (source,) = PcaFit(3).solve([GramStatistics.empty(4)], [Traits(np.ones(3, np.bool_))])
    assert not source.projection.any()


def test_the_part_of_sensors_now_is_that_of_a_design_without_past():
    values = run(200, 18)
    part = FIT.summarise(values, 0, 200).now(3)
    design = np.hstack([values[LAGS:], np.ones((200 - LAGS, 1))]).astype(np.float64)
    np.testing.assert_allclose(part.gram, design.T @ design, rtol=1e-9)
    assert part.rows == 200 - LAGS


def test_a_site_is_taught_by_those_with_rows_enough_and_where_none_has_by_all_others():
    one, two, young = run(500, 20), run(400, 21), run(60, 22)
    traits = [Traits(np.ones(3, bool))] * 4
    found = fit_rows(FIT, [[one], [two], [young], [one]], [0, 1], 2000, traits, trusting=True)[0][0]
    sums = [FIT.summarise(each, 0, len(each)) for each in (one, two, young)]
    expected = [([0], [1]), ([1], [0]), ([2], [0, 1])]
    for (site,), others in expected:
        prior = federated_prior([sums[other] for other in others])
        want, *_ = solve_beside(FIT, [sums[site]], prior, 2000, 1.0, traits[0])
        np.testing.assert_allclose(found.weights[site], want.weights[0], atol=1e-6)
    none = fit_rows(FIT, [[one], [two], [young], [one]], [], 2000, traits)[0][0]
    want, *_ = solve_beside(FIT, [sums[0]], federated_prior(sums[1:]), 2000, 1.0, traits[0])
    np.testing.assert_allclose(none.weights[0], want.weights[0], atol=1e-6)


@pytest.mark.parametrize("place", range(len(SHARES)))
def test_held_back_rows_are_judged_with_the_share_that_is_chosen_for_the_site(place):
    one, two = run(500, 23), run(400, 24)
    traits = [Traits(np.ones(3, bool))] * 3
    whole, held = fit_rows(
        FIT, [[one], [two], [one]], [0, 1], 2000, traits, choose=lambda row, prior, hides: place
    )
    prior = federated_prior([FIT.summarise(two, 0, 400)])
    blocks = blocks_of(FIT, [one])
    total = total_of(blocks)
    apart = without_each(FIT, blocks, total, prior, 2000, SHARES[place], traits[0])
    together = solve_beside(FIT, [total], prior, 2000, SHARES[place], traits[0])
    np.testing.assert_allclose(held[0][0].weights, apart[0].weights, atol=1e-6)
    np.testing.assert_allclose(whole[0].weights[0], together[0].weights[0], atol=1e-6)


def test_a_site_of_which_nothing_moves_takes_no_relation_from_others():
    still, other = np.zeros((400, 3), np.float32), related(2000, 25, LIKE)
    traits = [Traits(np.ones(3, bool))] * 3
    whole, held = fit_rows(FIT, [[still], [other], [still]], [0, 1], 2000, traits)
    assert not whole[0].weights[0].any() and not held[0][0].weights.any()
    assert whole[0].weights[1].any()


def test_blocks_of_a_site_in_many_runs_hold_every_row():
    runs = [run(rows, 30 + rows) for rows in (40, 7, 90, 15)]
    blocks = total_of(blocks_of(PcaFit(3), runs))
    whole = PcaFit(3).summarise(np.concatenate(runs), 0, 152)
    np.testing.assert_allclose(blocks.gram, whole.gram, rtol=1e-9)
    assert blocks.rows == 152


def test_the_fleet_is_judged_as_the_machine_that_it_is():
    values = run(500, 26)
    wanders = Traits(np.array([True, False, True]))
    traits = [Traits(np.ones(3, bool)), wanders]
    _, held = fit_rows(PcaFit(3), [[values], [values]], [0], 0, traits)
    assert held[0][0].projection[:, 1].any() and not held[1][0].projection[:, 1].any()
    # It is all sites, and takes nothing from them a second time.
    _, held = fit_rows(
        FIT, [[values], [run(400, 27)], [values]], [0, 1], 2000, [Traits(np.ones(3, bool))] * 3
    )
    blocks = blocks_of(FIT, [values])
    apart = without_each(FIT, blocks, total_of(blocks), None, 0.0, 1.0, traits[0])
    np.testing.assert_array_equal(held[2][0].weights, apart[0].weights)
