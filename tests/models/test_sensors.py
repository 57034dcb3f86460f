import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baselines import fit_baseline
from models.detector import Detector
from models.export import export_detector
from models.scaling import moments
from models.sensors import SensorHistory, follow, no_memory, trailing

NAMES = ("flow", "valve", "heat", "lost", "still", "drift")


def recording(rows, seed):
    """A lively sensor, one that moves every 20 steps, one silent for 5 steps at times, one never heard, one constant, one that wanders."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 6))
    values[:, 1] = np.repeat(random.normal(size=rows // 20 + 1), 20)[:rows]
    values[np.arange(rows) % 50 < 5, 2] = np.nan
    values[:, 3], values[:, 4] = np.nan, 7.0
    values[:, 5] = random.normal(size=rows).cumsum()
    return values


@pytest.fixture(scope="module")
def detector():
    train = recording(1000, 1)
    return fit_baseline("pca", NAMES, 60.0, 32, {"a": moments([train], 6).scaling()}, {"a": [train]})


def after(detector, values, site="a"):
    return detector.suspects(site, detector.stream(site, values, None)[1])


def test_ordinary_operation_suspects_nobody(detector):
    for rows in (0, 1, 7, 300):
        assert after(detector, recording(300, 2)[:rows]) == {}


def test_stuck_saturated_and_dead_sensors_are_told_apart_and_quick_ones_sooner_than_slow_ones(detector):
    values = recording(300, 3)
    low = float(detector.history.lowest[0, 5])
    values[200:, 0], values[200:, 1], values[200:, 2], values[200:, 5] = 0.1, 0.2, np.nan, low - 1
    assert after(detector, values[:229]) == {}
    assert after(detector, values[:235]) == {"flow": "stuck", "heat": "dead", "drift": "saturated"}
    # The valve stood still for 20 steps at a time in training.
    assert "valve" not in after(detector, values[:255])
    assert after(detector, values)["valve"] == "stuck"
    values[299, 0] = 0.3
    assert "flow" not in after(detector, values)


def test_what_sensors_were_in_training_is_kept_stored_and_exported(detector, tmp_path):
    expected = {"lost": "never seen", "still": "constant", "drift": "wanders"}
    assert detector.history.row(0).in_training(NAMES) == expected
    assert (detector.history.held[0, 1], detector.history.absent[0, 2]) == (20, 5)
    detector.save(tmp_path / "kept")
    again = Detector.load(tmp_path / "kept")
    for name, value in detector.history.arrays().items():
        np.testing.assert_array_equal(again.history.arrays()[name], value)
    described = json.loads(
        (export_detector(detector, tmp_path / "fleet") / "assets.extra" / "detector.json").read_text()
    )
    assert described["not_ordinary_in_training"] == {"a": expected}
    assert len(described["sensor_history"]) == 2


def test_a_site_that_nothing_was_learned_from_is_judged_by_the_fleet(detector):
    values = recording(100, 4)
    values[40:, 0] = 0.1
    assert after(detector, values, "nobody") == {"flow": "stuck"}


@given(st.integers(0, 2**32), st.lists(st.integers(0, 25), max_size=5))
@settings(max_examples=40)
def test_memory_is_the_same_at_once_in_pieces_and_in_the_graph(seed, sizes):
    random = np.random.default_rng(seed)
    values = random.integers(0, 2, (40, 4)).astype(np.float32)
    values[random.random((40, 4)) < random.random(4)] = np.nan
    whole = follow(no_memory(4), values)
    parts, at = no_memory(4), 0
    graph = {name: tf.constant(value[None]) for name, value in parts.items()}
    for stop in sorted({*np.minimum(np.cumsum([*sizes, 40]), 40).tolist()}):
        parts = follow(parts, values[at:stop])
        graph = trailing(graph, tf.constant(values[None, at:stop]))
        at = stop
    # By definition, step by step.
    last, held, absent = np.full(4, np.nan), np.zeros(4), np.zeros(4)
    for row in values:
        known = np.isfinite(row)
        held = np.where(known, np.where(row == last, held + 1, 1), held)
        last, absent = np.where(known, row, last), np.where(known, 0, absent + 1)
    for name, expected in (("last_value", last), ("held", held), ("absent", absent)):
        for found in (whole, parts, {key: value.numpy()[0] for key, value in graph.items()}):
            np.testing.assert_array_equal(found[name], expected)


def test_history_joins_runs_without_counting_over_their_gap():
    one, two = np.full((10, 1), 3.0), np.array([[3.0]] * 7 + [[4.0]])
    found = SensorHistory.of([one, two], np.zeros(1))
    assert (found.held[0], found.readings[0], found.constant[0]) == (10, 18, False)


@given(st.integers(0, 2**32), st.lists(st.integers(1, 12), min_size=1, max_size=3))
@settings(max_examples=40)
def test_a_history_is_what_can_be_counted_in_each_run(seed, lengths):
    random = np.random.default_rng(seed)
    runs = [random.integers(-1, 3, (rows, 3)).astype(float) for rows in lengths]
    for run in runs:
        run[random.random(run.shape) < [0.1, 0.6, 1.0]] = random.choice([np.nan, np.inf, 1e300])
    found = SensorHistory.of(runs, np.zeros(3))
    for sensor in range(3):
        held = absent = 0
        for run in runs:
            column = [value if abs(value) < 1e30 else None for value in run[:, sensor]]
            silences = [len(list(of)) for none, of in itertools.groupby(v is None for v in column) if none]
            values = [value for value in column if value is not None]
            absent = max([absent, *silences])
            held = max([held, *(len(list(of)) for _, of in itertools.groupby(values))])
        every = [value for run in runs for value in run[:, sensor] if abs(value) < 1e30]
        assert (found.held[sensor], found.absent[sensor], found.readings[sensor]) == (
            held,
            absent,
            len(every),
        )
        if every:
            assert (found.lowest[sensor], found.highest[sensor]) == (min(every), max(every))
        else:
            # Nowhere, and still a number that can be stored.
            assert np.isfinite(found.lowest[sensor]) and found.lowest[sensor] > found.highest[sensor]


def test_a_memory_of_releases_that_knew_no_waking_up_suspects_nobody_of_it():
    history = SensorHistory.of([np.array([[1.0], [2.0]])], np.zeros(1))
    memory = no_memory(1)
    assert history.suspects(["a"], memory) == {}
    assert history.suspects(["a"], {**memory, "awake": np.array([1])}) == {"a": "woke up"}
