import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.architectures import AutoencoderSpec, TcnSpec, build
from models.baselines import fit_baseline
from models.calibration import typical_calibration
from models.errors import InvalidInput, InvalidModel, NotEnoughData
from models.fitting import Fitted, fit_detector, fit_sources
from models.options import DetectorOptions
from models.scaling import moments
from models.source_calibration import beyond
from models.sources.folds import fold_rows, segments
from models.sources.zscore import ZScoreSource
from models.tables import Calibration
from models.threshold import (
    alarm_threshold,
    independent_visits,
    predictive_quantile,
    tail_quantile,
    threshold,
)
from pipeline.scoring.alerts import flagged_runs
from tests.models.stored import arrays_in, same_when_stored
from tests.models.test_detector import SENSORS, STEPS, plant


def fitted(runs, spec=None, **options):
    spec = spec or TcnSpec(channels=4, dilations=(1, 2))
    scaling = {site: moments(of_site, 5).scaling() for site, of_site in runs.items()}
    weights = build(spec, STEPS, 5, seed=3).get_weights()
    return fit_detector(spec, weights, SENSORS, 60.0, STEPS, scaling, runs, DetectorOptions(**options))


@pytest.fixture(scope="module")
def fleet():
    small = plant(140, 3) * 3 + 1000
    runs = {"north": [plant(600, 1)], "south": [plant(300, 2) * 2, plant(300, 5) * 2], "new": [small]}
    return fitted(runs, min_steps=200)


def test_a_site_with_little_data_keeps_its_own_scaling_and_counts_as_known(fleet):
    assert fleet.sites == ("new", "north", "south")
    usual = fleet.score("new", plant(200, 6) * 3 + 1000)
    assert usual.known_site
    assert usual.threshold[0] == pytest.approx(max(fleet.calibration.threshold[1:3]))
    assert usual.is_anomaly.mean() < 0.05
    assert fleet.score("north", plant(200, 6) * 3 + 1000).is_anomaly[STEPS:].all()


def test_where_no_site_has_enough_rows_each_is_judged_in_its_own_scale_by_all_of_them_together():
    runs = {f"m{i}": [plant(126, i) * (1 + i) + 1000 * i] for i in range(8)}
    fleet = fitted(runs, min_steps=200)
    assert fleet.sites == tuple(runs)
    for i, site in enumerate(runs):
        usual = plant(300, 50 + i) * (1 + i) + 1000 * i
        found = fleet.score(site, usual)
        assert found.known_site
        assert found.is_anomaly.mean() < 0.05, site
        # In the one common scale of all rows this step of four deviations would be a thousandth.
        broken = usual.copy()
        broken[200:220, 1] += 4 * usual[:, 1].std()
        assert fleet.score(site, broken).score[205:220].min() > 2 * np.median(found.score[STEPS:]), site


def test_what_differs_between_machines_of_a_site_is_no_slow_change():
    spec = TcnSpec(channels=4, dilations=(1, 2))
    engines = [plant(126, seed) for seed in range(40)]
    scaling = {"plant": moments(engines, 5).scaling()}

    def of(assets):
        return fit_detector(
            spec,
            None,
            SENSORS,
            60.0,
            STEPS,
            scaling,
            {"plant": engines},
            DetectorOptions(sources=("ridge", "pca", "excursion"), follow_from=500),
            assets={"plant": assets},
        )

    one, many = of(["engine"] * 40), of([f"engine-{i}" for i in range(40)])
    two = of(["long"] * 35 + ["short"] * 5)
    assert one.calibration.follow_rate[0] == pytest.approx(2 / (0.5 * (40 * 126 - one.context) + 1), rel=0.05)
    assert two.calibration.follow_rate[0] == pytest.approx(2 / (0.5 * 35 * 126 + 1), rel=0.05)
    assert many.calibration.follow_rate[0] == 0
    assert (two.calibration.last_baseline[0] == two.calibration.centre[0]).all()
    # A sensor that wears by three deviations over a life as long as training's: followed, it looks less and less unusual.
    worn = plant(1260, 77)
    worn[:, 1] += np.linspace(0, 3 * scaling["plant"].scale[1], 1260)
    assert many.score("plant", worn).score[-60:].mean() > 1.2 * one.score("plant", worn).score[-60:].mean()


def test_short_trainings_are_followed_slowly_and_shorter_ones_not_at_all():
    memories = {}
    for rows in (700, 1400, 18_000):
        found = fitted({"north": [plant(rows, 1)]}).calibration
        memories[rows] = found.follow_rate[0] and round(2 / found.follow_rate[0] - 1)
        memories[rows] = memories[rows], round(2 / found.margin_rate[0] - 1)
    # Of a gain, and of the usual score.
    assert memories[700] == (0, 4000)
    assert memories[1400] == (4000, 4000)
    assert memories[18_000] == pytest.approx((9000, 6000), rel=0.01)


def test_a_typical_site_has_the_largest_threshold_scales_in_the_mean_square_and_follows_nothing():
    random = np.random.default_rng(2)
    shapes = Calibration.shapes(3, 2, 4)
    every = {name: random.exponential(size=shape) + 0.1 for name, shape in shapes.items()}
    every["sensor_weight"] /= every["sensor_weight"].sum(axis=-1, keepdims=True)
    sites = [Calibration(**{name: values[i] for name, values in every.items()}) for i in range(3)]
    found = typical_calibration(sites, DetectorOptions(follow_from=500))
    np.testing.assert_allclose(found.spread, np.sqrt((every["spread"] ** 2).mean(axis=0)))
    assert found.threshold == every["threshold"].max() and found.follow_rate == 0
    # Weights of sensors stay shares, and the slow memory is that of a usual step.
    np.testing.assert_allclose(found.sensor_weight.sum(axis=-1), 1.0)
    np.testing.assert_array_equal(found.last_level, found.usual)
    assert not found.centre.any() and not found.last_baseline.any()
    # The threshold follows as slowly as after the shortest training that is followed, four times its rows.
    assert found.margin_rate == pytest.approx(2 / (4 * 500 + 1))
    assert not found.has_regimes and (found.regime_size == 1).all() and not found.regime_shift.any()
    for name in ("tail", "usual", "limit", "restless", "source_weight", "rest", "margin", "ordinary"):
        np.testing.assert_allclose(getattr(found, name), np.median(every[name], axis=0), err_msg=name)
    fixed = typical_calibration(sites, DetectorOptions(threshold_follows=False))
    assert fixed.margin_rate == 0


def test_an_unknown_site_has_a_finite_score_and_is_told_apart(fleet):
    found = fleet.score("nobody", plant(100, 6))
    assert not found.known_site
    assert np.isfinite(found.score[fleet.context :]).all()
    assert found.threshold[0] == pytest.approx(float(fleet.calibration.threshold[-1]))


@given(st.integers(0, 2**32), st.sampled_from([1, STEPS - 1, STEPS, 130]), st.floats(0, 1))
@settings(max_examples=15)
def test_contributions_are_never_negative_and_sum_to_the_score(fleet, seed, rows, lost):
    random = np.random.default_rng(seed)
    values = plant(rows, 4) + random.standard_cauchy((rows, 5))
    values[random.random((rows, 5)) < lost] = np.nan
    values[random.random((rows, 5)) < 0.02] = np.inf
    found = fleet.score("south", values)
    scored = np.isfinite(found.score)
    assert (found.contribution >= 0).all() and np.isfinite(found.contribution).all()
    np.testing.assert_allclose(
        found.contribution[scored].sum(axis=1), found.score[scored], rtol=1e-4, atol=1e-6
    )
    assert not found.contribution[~scored].any() and not found.is_anomaly[~scored].any()


def test_a_sensor_that_was_never_seen_does_no_harm_and_one_that_stood_still_alarms_when_it_moves():
    train = plant(600, 1)
    train[:, 0] = np.nan
    detector = fitted({"north": [train]})
    quiet = plant(200, 6)
    quiet[:, 0] = np.nan
    assert detector.score("north", quiet).is_anomaly.mean() < 0.03
    moved = quiet.copy()
    moved[150:, 4] *= 3
    found = detector.score("north", moved)
    assert found.is_anomaly[155]
    assert found.contribution[155].argmax() == 4
    assert found.is_anomaly[:150].mean() < 0.03


@pytest.mark.parametrize("source", ["ridge", "stiff_ridge", "pca"])
def test_every_linear_source_sees_a_broken_relation(source):
    detector = fitted({"north": [plant(600, 1)]}, sources=(source,))
    values = plant(300, 6)
    values[250:, 3] = 200 - values[250:, 3] + 8
    assert detector.score("north", values).is_anomaly[260]


@pytest.mark.parametrize("name", ["zscore", "pca"])
def test_baselines_see_what_breaks_and_stay_quiet_before(name):
    runs = {"north": [plant(800, 1)]}
    scaling = {"north": moments(runs["north"], 5).scaling()}
    detector = fit_baseline(name, SENSORS, 60.0, STEPS, scaling, runs)
    values = plant(300, 6)
    values[200:260, 2] += 25
    found = detector.score("north", values)
    assert found.is_anomaly[205:255].all() and found.is_anomaly[:200].mean() < 0.02
    # Principal components smear one sensor's jump over those that moved with it.
    assert name == "pca" or found.contribution[230].argmax() == 2


def test_a_source_with_nothing_but_residuals_under_its_floor_is_not_made_loud_again():
    runs = {"north": [plant(600, 1)]}
    scaling = {"north": moments(runs["north"], 5).scaling()}
    sources = [Fitted(ZScoreSource(floor=50.0)), Fitted(ZScoreSource())]
    found = fit_sources(sources, [], SENSORS, 60.0, STEPS, scaling, runs, DetectorOptions())
    blunt, sharp = found.calibration.source_weight[0]
    assert blunt == pytest.approx(0.5)
    # The 99 % quantile of a sine's smoothed energy is above that of a typical residual.
    assert 0.1 < sharp < 0.5


def test_where_a_block_goes_alone_is_an_excursion_however_long_it_stays_there():
    values = np.random.default_rng(5).normal(size=(1000, 2))
    values[600:800, 1] += 6
    found = beyond(values)
    assert found[:, 0].max() < 2 and (found[600:800, 0] > 1).mean() < 0.05
    # By mean and quantile of all rows, its own among them, hardly any step of the block is one.
    apart = np.abs(values[:, 1] - values[:, 1].mean())
    assert (apart[600:800] > np.quantile(apart, 0.99)).mean() < 0.06
    assert (found[600:800, 1] > 1).mean() > 0.99
    assert (np.delete(found[:, 1], np.s_[600:800]) > 1).mean() < 0.02
    missing = np.where(np.arange(1000)[:, None] < 200, np.nan, values)
    assert np.isnan(beyond(missing)[:200]).all() and np.isfinite(beyond(missing)[200:]).all()
    late = np.where(np.arange(1000)[:, None] < 800, np.nan, values)
    assert (beyond(late)[800:] > 1).mean() < 0.02
    assert np.isfinite(beyond(values[:1])).all()


def test_young_machines_with_the_relations_of_others_flag_little():
    """What others know leaves small residuals; that later rows lie further out than the few of training then shows."""
    from scipy.signal import lfilter

    mixture = np.random.default_rng(9).normal(size=(12, 5))
    keep = np.exp(-1 / 50)
    flagged = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        drivers = lfilter([1], [1, -keep], random.normal(size=(4, 1800, 12)) * np.sqrt(1 - keep**2), axis=1)
        values = drivers[:, 500:] @ mixture + 0.3 * random.normal(size=(4, 1300, 5))
        runs = {f"m{i}": [of[:300]] for i, of in enumerate(values)}
        detector = fitted(runs, sources=("ridge", "stiff_ridge", "pca"))
        flagged += [detector.score(f"m{i}", of[300:]).is_anomaly.mean() for i, of in enumerate(values)]
    assert np.mean(flagged) < 0.02


def test_mistakes_are_named(fleet):
    with pytest.raises(InvalidModel, match="zscore, pca"):
        fit_baseline("oracle", SENSORS, 60.0, STEPS, {}, {})
    with pytest.raises(InvalidModel, match="sources oak: expected one or more different of ridge"):
        DetectorOptions(sources=("oak",))
    with pytest.raises(InvalidModel, match="rule 'oak' is unknown"):
        DetectorOptions(rule="oak")
    with pytest.raises(InvalidModel, match="false_alarm_rate"):
        DetectorOptions(false_alarm_rate=0)
    with pytest.raises(InvalidInput, match="expected"):
        fleet.score("north", plant(100, 1)[:, :4])


def test_an_autoencoder_is_calibrated_like_a_forecaster():
    detector = fitted({"north": [plant(400, 1)]}, AutoencoderSpec(widths=(8, 2)))
    values = plant(120, 6)
    values[100:, 2] += 30
    found = detector.score("north", values)
    assert found.is_anomaly[105:].all() and not found.is_anomaly[:100].any()


def test_a_threshold_is_near_the_quantile_of_steady_scores():
    random = np.random.default_rng(1)
    steady = random.exponential(size=100_000)
    for rule in ("quantile", "tail"):
        for rate in (0.01, 0.001):
            found = threshold(steady, DetectorOptions(rule=rule, false_alarm_rate=rate), 60.0)
            assert (random.exponential(size=200_000) > found).mean() == pytest.approx(rate, rel=0.25)
    often = threshold(steady, DetectorOptions(false_alarm_rate=0.4), 60.0)
    assert (random.exponential(size=200_000) > often).mean() == pytest.approx(0.4, rel=0.02)
    assert np.isfinite(threshold(np.ones(1), DetectorOptions(), 60.0))


def test_short_trainings_keep_their_promise_on_average():
    """Thirty-step averages of 500 steps: the plain quantile breaks the promise several times over."""
    random = np.random.default_rng(3)
    options, rates, plain = DetectorOptions(false_alarm_rate=0.01), [], []
    for _ in range(200):
        energy = random.exponential(size=3000)
        score = np.convolve(energy, np.exp(-np.arange(90) / 15) / 15, "valid")
        train, test = score[:500], score[600:]
        rates.append((test > threshold(train, options, 60.0)).mean())
        plain.append((test > np.quantile(train, 0.99)).mean())
    assert np.mean(plain) > 0.02
    assert 0.002 < np.mean(rates) < 0.02


def test_scores_of_one_visit_count_once():
    above = np.zeros(400, bool)
    above[[5, 6, 7, 20, 200, 201]] = True
    assert (
        independent_visits(above, 10),
        independent_visits(above, 30),
        independent_visits(~above[:0], 3),
    ) == (3, 2, 0)
    few, many = np.ones(500), np.ones(500)
    few[100:160] += np.linspace(0.1, 1, 60)
    many[np.arange(4, 500, 8)[:60]] += np.linspace(0.1, 1, 60)
    assert predictive_quantile(few, 0.001, 3) > 1.5 * predictive_quantile(many, 0.001, 3)


@pytest.mark.parametrize("rate", [0.19, 0.12, 0.01, 1e-4])
def test_what_a_short_training_cannot_resolve_is_left_to_the_tail_its_visits_foretell(rate):
    score = np.zeros(200)
    for visit, start in enumerate(range(10, 200, 20)):
        score[start : start + 4] = visit + np.arange(1.0, 5.0)
    base = np.quantile(score, 0.8)
    excess, visits = score[score > base] - base, independent_visits(score > base, 5)
    beyond = predictive_quantile(score, rate, 5) - base
    # Above the foot is a fifth of the steps, and of these the share that the next excess exceeds is the rate's.
    assert visits == 10
    assert 0.2 * (1 + beyond / (visits * excess.mean())) ** -visits == pytest.approx(rate)


def test_a_fitted_tail_is_that_of_the_highest_fiftieth_and_asked_for_more_or_of_too_few_steps_a_quantile():
    score = np.random.default_rng(4).exponential(size=20_000)
    blunt = np.where(score < np.quantile(score, 0.975), 0.0, score)
    assert tail_quantile(blunt, 1e-4, 90) == tail_quantile(score, 1e-4, 90)
    assert tail_quantile(score, 0.05, 90) == np.quantile(score, 0.95)
    for few in (score[:1], score[:40], np.ones(500)):
        assert tail_quantile(few, 1e-4, 90, 20) == predictive_quantile(few, 1e-4, 90, 20)
        assert np.isfinite(tail_quantile(few, 1e-4, 90, 20))


@pytest.mark.parametrize("steps", [500, 250_000])
def test_a_fitted_tail_of_equal_scores_ends_soon_behind_them(steps):
    score = np.zeros(steps)
    score[: max(60, steps // 50)] = 1e-30
    # The lightest tail that is fitted, of shape -1/2, ends at three times its mean.
    assert 1e-30 < tail_quantile(score, 1e-5, 90) <= 3e-30


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3])
def test_a_fitted_tail_extrapolates_where_a_quantile_cannot(shape):
    random = np.random.default_rng(2)
    uniform = random.random(20_000)
    draws = -np.log(uniform) if shape == 0 else (uniform**-shape - 1) / shape
    truth = -np.log(1e-5) if shape == 0 else (1e-5**-shape - 1) / shape
    assert tail_quantile(draws, 1e-5, 90) == pytest.approx(truth, rel=0.35)


def test_wanted_alarms_per_week_are_what_the_training_gives():
    random = np.random.default_rng(3)
    score = random.exponential(size=40_320)
    found = alarm_threshold(score, 5.0, 60.0)
    flagged = np.flatnonzero(score > found)
    assert 1 + (np.diff(flagged) > 10).sum() in (19, 20)
    assert alarm_threshold(score, 0.01, 60.0) > score.max()


@pytest.mark.parametrize("hold_off", [0.0, 90.0, 600.0, 7200.0])
def test_wanted_alarms_are_counted_as_the_live_scorer_calls_with_its_hold_off(hold_off):
    """Scores that come in bursts, as faults do: how many alarms they make depends on what ends one."""
    score = np.random.default_rng(4).exponential(size=40_320)
    score[np.repeat(np.arange(500, 40_000, 4000), 6) + np.tile([0, 5, 10, 70, 75, 80], 10)] += 20.0
    options = DetectorOptions(rule="alarms_per_week", alarms_per_week=5.0, hold_off_seconds=hold_off)
    found = threshold(score, options, 60.0)
    time = np.arange(len(score)) * 60 * 10**9
    live = max(int(hold_off * 1e9), 60 * 10**9)
    assert len(flagged_runs(time, score > found, live)) in (19, 20)


def test_a_stored_detector_names_the_hold_off_only_where_its_threshold_was_set_by_another_than_releases_before_know(
    tmp_path,
):
    runs = {"north": [plant(500, 1)]}
    for options, named in (
        ({"hold_off_seconds": 30.0}, False),
        ({"rule": "alarms_per_week"}, False),
        ({"rule": "alarms_per_week", "hold_off_seconds": 30.0}, True),
    ):
        kept = same_when_stored(fitted(runs, **options), "north", plant(200, 6), tmp_path / "detector.npz")
        header = json.loads(arrays_in(tmp_path / "detector.npz")["header"].tobytes())
        assert ("hold_off_seconds" in header["options"]) is named
        assert kept.options.hold_off_seconds == (30.0 if named else 600.0)
    with pytest.raises(InvalidModel, match="hold_off_seconds"):
        DetectorOptions(hold_off_seconds=-1.0)


def test_blocks_are_contiguous_and_cover_every_step_once():
    rows = fold_rows([7, 40, 3], 5)
    assert [len(r) for r in rows] == [7, 40, 3]
    assert (np.diff(np.concatenate(rows)) >= 0).all()
    assert sorted({row for part in rows for *_, row in segments(part)}) == [0, 1, 2, 3, 4]
    assert sum(stop - start for part in rows for start, stop, _ in segments(part)) == 50


def test_durations_become_steps_of_the_sampling_period_and_at_one_minute_the_default():
    asked = DetectorOptions(average_seconds=(180.0, 600.0, 1800.0), follow_from_seconds=60_000.0)
    assert asked.resolved(60.0).spans == DetectorOptions().spans
    assert asked.resolved(60.0).follow_from == DetectorOptions().follow_from
    assert asked.resolved(1.0).spans == (180, 600, 1800)
    assert asked.resolved(3600.0).spans == (1, 1, 1)
    assert DetectorOptions().resolved(3600.0) == DetectorOptions()
    runs = {"north": [plant(500, 1)]}
    durations = fitted(runs, average_seconds=(180.0, 600.0, 1800.0), follow_from_seconds=60_000.0)
    values = plant(200, 6)
    np.testing.assert_array_equal(
        durations.score("north", values).score, fitted(runs).score("north", values).score
    )
    for wrong in ({"average_seconds": ()}, {"average_seconds": (0.0,)}, {"follow_from_seconds": -1.0}):
        with pytest.raises(InvalidModel, match="more than 0"):
            DetectorOptions(**wrong)


def test_without_a_row_of_the_fleet_the_sites_are_what_they_are_with_it():
    runs = {"north": [plant(700, 1)], "south": [plant(300, 2) * 2], "new": [plant(126, 3)]}
    scaling = {site: moments(of, 5).scaling() for site, of in runs.items()}
    options = DetectorOptions(sources=("ridge", "pca", "excursion"), min_steps=200)
    spec = TcnSpec(channels=4, dilations=(1, 2))
    whole, part = (
        fit_detector(spec, None, SENSORS, 60.0, STEPS, scaling, runs, options, fleet=fleet)
        for fleet in (True, False)
    )
    for name, values in part.table_arrays().items():
        if name != "cap":
            assert len(values) == len(runs)
            np.testing.assert_array_equal(values, whole.table_arrays()[name][: len(runs)], err_msg=name)
    for site in runs:
        np.testing.assert_array_equal(
            part.score(site, plant(200, 6)).score, whole.score(site, plant(200, 6)).score
        )
    with pytest.raises(NotEnoughData, match="no named site"):
        fit_detector(spec, None, SENSORS, 60.0, STEPS, {}, runs, options, fleet=False)
