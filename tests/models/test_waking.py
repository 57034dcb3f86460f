import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models import waking
from models.architectures import AutoencoderSpec, build
from models.baselines import fit_baseline
from models.export import export_detector
from models.fitting import fit_detector
from models.options import DetectorOptions
from models.scaling import moments
from models.sensors import SensorHistory

NAMES = ("flow", "heat", "speed", "stop", "lost", "level")
STOP, LOST, LEVEL = 3, 4, 5
TOLD = 90


def recording(rows, seed):
    """Three lively sensors, a stop bit that stays 0, one never heard, and a level that only shows its rounding noise."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(rows, 1))
    values = np.hstack([common + 0.2 * random.normal(size=(rows, 3)), np.zeros((rows, 3))])
    values[:, LOST] = np.nan
    values[:, LEVEL] = 50 + 1e-4 * random.random(rows)
    return values


@pytest.fixture(scope="module")
def detector():
    train = recording(3000, 1)
    return fit_baseline("pca", NAMES, 60.0, 8, {"a": moments([train], 6).scaling()}, {"a": [train]})


def awake(state):
    return dict(zip(NAMES, state["awake"][0].tolist(), strict=True))


def test_a_sensor_that_wakes_up_raises_one_alert_that_names_it_and_is_then_silent(detector):
    resting = recording(1000, 2)
    values = resting.copy()
    values[300:, STOP] = np.sin(np.arange(700)) + 3
    found, usual = detector.score("a", values), detector.score("a", resting)
    assert found.is_anomaly[300 : 300 + TOLD].all()
    assert (found.contribution[301 : 300 + TOLD].argmax(axis=1) == STOP).all()
    assert detector.suspects("a", detector.stream("a", values[:301], None)[1]) == {"stop": "woke up"}
    # From then on the others are judged as if it still rested, at once: nothing of what it said is left.
    behind = slice(300 + TOLD, None)
    assert (found.contribution[behind, STOP] == 0).all()
    np.testing.assert_allclose(
        found.contribution[behind, :STOP], usual.contribution[behind, :STOP], atol=1e-3
    )
    assert found.is_anomaly[behind].mean() < 0.02
    assert detector.suspects("a", detector.stream("a", values, None)[1]) == {"stop": "woke up"}


def test_a_fault_of_another_sensor_behind_it_is_noticed_and_named(detector):
    values = recording(1000, 2)
    values[300:, STOP], values[700:720, 1] = 1.0, 4.0
    found = detector.score("a", values)
    assert found.is_anomaly[703:720].all() and not found.is_anomaly[640:700].any()
    assert (found.contribution[703:720].argmax(axis=1) < STOP).all()


@pytest.mark.parametrize(("rest", "heard"), [(TOLD, True), (TOLD - 1, False)])
def test_an_alarm_bit_that_rests_in_between_alarms_every_time_and_one_that_does_not_goes_silent(
    detector, rest, heard
):
    values, starts = recording(6000, 2), range(100, 5900, rest + 8)
    for start in starts:
        values[start : start + 8, STOP] = 1.0
    found = detector.score("a", values)
    told = [bool(found.is_anomaly[start + 2 : start + 8].all()) for start in starts]
    assert all(told[: TOLD // 8])
    assert told[TOLD // 8 + 1 :] == [heard] * (len(starts) - TOLD // 8 - 1)


def test_nothing_wakes_up_in_training_nor_by_rounding_noise(detector):
    for values in (recording(3000, 1), recording(3000, 5)):
        assert not any(awake(detector.stream("a", values, None)[1]).values())
    values = recording(20, 5)
    values[7:, LEVEL] += 0.01
    assert awake(detector.stream("a", values, None)[1])["level"] == 13


def test_a_sensor_that_moved_in_training_never_counts_as_waking_up(detector):
    values = recording(300, 2)
    values[100:, 0] = 50.0
    found, state = detector.stream("a", values, None)
    assert awake(state)["flow"] == 0
    assert found.is_anomaly[101:].all()


def test_steps_without_a_reading_count_neither_way(detector):
    values = recording(400, 2)
    values[100:, STOP] = np.nan
    values[100:400:3, STOP] = 1.0
    found, state = detector.stream("a", values, None)
    assert awake(state)["stop"] == 100
    told = 100 + 3 * TOLD
    assert found.contribution[told - 3, STOP] > 1 and found.contribution[told, STOP] == 0


def test_a_sensor_that_training_never_saw_is_unknown_again_after_it_was_told(detector):
    values = recording(300, 2)
    values[100:, LOST] = 1e6
    missing = recording(300, 2)
    found, state = detector.stream("a", values, None)
    assert detector.suspects("a", state) == {"lost": "woke up"}
    expected = detector.score("a", missing)
    np.testing.assert_allclose(found.score[100 + TOLD :], expected.score[100 + TOLD :], rtol=1e-3)


def test_a_step_that_holds_nothing_but_a_sensor_no_longer_heard_has_no_score(detector):
    values = recording(300, 2)
    values[100:, STOP] = 1.0
    values[250:, [0, 1, 2, LOST, LEVEL]] = np.nan
    assert np.isnan(detector.score("a", values).score[250:]).all()


def test_an_unknown_site_is_judged_by_what_the_fleet_saw(detector):
    values = recording(400, 2)
    values[:, STOP] = 7.0
    found, state = detector.stream("nobody", values, None)
    assert detector.suspects("nobody", state) == {"stop": "woke up"}
    assert found.is_anomaly[20:TOLD].all() and found.is_anomaly[TOLD:].mean() < 0.05


def test_a_sensor_that_other_sites_know_alive_is_judged_by_its_own_sites_training():
    still, alive = recording(3000, 1), recording(3000, 2)
    alive[:, STOP] = alive[:, 0] + 5
    sites = {"still": [still], "alive": [alive]}
    scaling = {site: moments(runs, 6).scaling() for site, runs in sites.items()}
    both = fit_baseline("pca", NAMES, 60.0, 8, scaling, sites)
    values = recording(200, 3)
    values[:, STOP] = values[:, 0] + 5
    assert awake(both.stream("still", values, None)[1])["stop"] == 200
    assert awake(both.stream("alive", values, None)[1])["stop"] == 0


@pytest.mark.parametrize("asleep", [0.0, np.nan])
def test_others_are_predicted_as_if_it_still_rested_where_other_sites_know_it_alive(asleep):
    """A young site learns its relations from the others: there the stop bit follows the flow."""
    young, alive = recording(300, 1), recording(3000, 2)
    young[:, STOP], alive[:, STOP] = asleep, alive[:, 0] + 5
    sites = {"young": [young], "alive": [alive], "other": [alive[::-1]]}
    scaling = {site: moments(runs, 6).scaling() for site, runs in sites.items()}
    spec, options = (
        AutoencoderSpec(widths=(4,)),
        DetectorOptions(sources=("ridge", "pca", "excursion"), min_steps=400),
    )
    weights = build(spec, 8, 6, seed=1).get_weights()
    both = fit_detector(spec, weights, NAMES, 60.0, 8, scaling, sites, options)
    values = recording(400, 3)
    values[:, STOP] = asleep
    expected = both.score("young", values)
    values[100:, STOP] = values[100:, 0] + 20
    found = both.score("young", values)
    # Behind the slowest average of what the others seemed to do while it was heard. What it says itself is left out, so that a score
    # may be cut to twice its quickest average at other steps: that is one factor for all others.
    others = [0, 1, 2, LEVEL]
    shares = [
        each.contribution[330:, others] / each.contribution[330:, others].sum(axis=1, keepdims=True)
        for each in (found, expected)
    ]
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-3)
    same = np.isclose(found.contribution[330:, others], expected.contribution[330:, others], 1e-3)
    assert same.mean() > 0.85


def test_a_sensor_that_rests_between_two_calls_begins_anew(detector):
    values = recording(200, 2)
    values[50:60, STOP] = 1.0
    _, state = detector.stream("a", values[:60], None)
    for stop, count in ((149, 10), (150, 0)):
        assert awake(detector.stream("a", values[60:stop], state)[1])["stop"] == count


def test_how_long_it_is_heard_follows_the_averages(tmp_path):
    train = recording(500, 1)
    options = DetectorOptions(average_seconds=(120.0, 600.0))
    quick = fit_baseline("pca", NAMES, 60.0, 8, {"a": moments([train], 6).scaling()}, {"a": [train]}, options)
    values = recording(200, 2)
    values[100:, STOP] = 1.0
    contribution = quick.score("a", values).contribution[:, STOP]
    assert quick.told_after == 30 and (contribution[100:130] > 0).all() and (contribution[130:] == 0).all()
    folder = export_detector(quick, tmp_path / "fleet")
    described = json.loads((folder / "assets.extra" / "detector.json").read_text())
    assert described["told_after"] == 30
    # What woke up before a gap in the data is awake behind it.
    assert {"awake", "rested"} <= set(described["slow_state"])


def by_definition(rows, low, high, told):
    """Step by step: which sensors are not to be heard at each step, and the counts after the last."""
    count, rested = np.zeros(rows.shape[1], int), np.zeros(rows.shape[1], int)
    muted = np.zeros(rows.shape, bool)
    for t, row in enumerate(rows):
        for f, value in enumerate(row):
            if np.isfinite(value):
                if value < low[f] or value > high[f]:
                    count[f], rested[f] = count[f] + 1, 0
                elif count[f]:
                    rested[f] += 1
                if rested[f] >= told:
                    count[f] = rested[f] = 0
            muted[t, f] = count[f] > told
    return muted, count, rested


@given(st.integers(0, 2**32), st.integers(1, 6), st.lists(st.integers(0, 40), max_size=5))
@settings(max_examples=60, deadline=None)
def test_counts_are_the_same_step_by_step_at_once_in_pieces_and_in_the_graph(seed, told, sizes):
    random = np.random.default_rng(seed)
    # Constant, never seen, moving, constant.
    train = np.array([[0, np.nan, 0, 5], [0, np.nan, 1, 5]])
    history = SensorHistory.of([train], np.zeros(4))
    low, high = waking.resting(history)
    values = np.where(random.random((80, 4)) < random.random(4), [0, 0, 0, 5], 1).astype(np.float32)
    values[random.random((80, 4)) < 0.2] = np.nan
    values[random.random((80, 4)) < 0.05] = np.inf
    muted, count, rested = by_definition(values, low, high, told)
    whole = waking.follow(history, waking.no_memory(4), values, told)
    parts, at, heard = waking.no_memory(4), 0, []
    graph = {name: tf.constant(value[None]) for name, value in parts.items()}
    for stop in sorted({*np.minimum(np.cumsum([*sizes, 80]), 80).tolist()}):
        piece = values[at:stop]
        parts = waking.follow(history, parts, piece, told)
        silent, graph = waking.wake(
            tf.constant(low[None]), tf.constant(high[None]), tf.constant(piece[None]), graph, told
        )
        heard.append(silent[0].numpy())
        at = stop
    np.testing.assert_array_equal(np.concatenate(heard), muted)
    for found in (whole, parts, {name: value[0].numpy() for name, value in graph.items()}):
        np.testing.assert_array_equal(found["awake"], count)
        np.testing.assert_array_equal(found["rested"], rested)
