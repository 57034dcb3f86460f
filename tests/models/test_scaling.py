"""Scales come from what a machine does, not from one absurd value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.scaling import implausible, moments


@pytest.mark.parametrize("absurd", [1e26, -3.4e38, 2.0**31 - 1, 1.7e308, np.finfo(np.float64).max])
@pytest.mark.parametrize("rows", [10, 100, 5_000])
def test_one_absurd_value_does_not_hide_a_sensor_for_good(absurd, rows):
    values = np.random.default_rng(1).normal(20, 2, (rows, 2))
    clean = moments([values], 2).scaling()
    values[rows // 2, 0] = absurd
    scaling = moments([values[: rows // 3], values[rows // 3 :]], 2).scaling()
    assert scaling.scale[0] == pytest.approx(clean.scale[0], rel=0.5)
    assert scaling.mean[0] == pytest.approx(clean.mean[0], abs=1.0)
    assert scaling.scale[1] == pytest.approx(clean.scale[1])
    assert scaling.apply(values)[rows // 2, 0] == np.sign(absurd) * 10


def test_an_absurd_value_of_a_sensor_that_hardly_ever_moves_is_seen_too():
    values = np.full((1_000, 1), 4.0)
    values[10], values[20] = 5.0, 1e26
    assert np.flatnonzero(implausible(values)).tolist() == [20]


def test_rare_events_and_bursts_of_real_machines_are_kept():
    event = np.zeros((1_000, 1))
    event[500:503] = 1.0
    burst = np.random.default_rng(2).uniform(0, 1e-4, (10_000, 1))
    burst[7_000:7_010] = 1.0
    sentinel = np.r_[np.random.default_rng(3).normal(20, 2, (1_000, 1)), [[-9999.0]]]
    noise = np.random.default_rng(4).normal(0, 1e-12, (1_000, 1))
    noise[500] = 1.0
    for values in (event, burst, sentinel, noise):
        assert not implausible(values).any()


@given(
    st.lists(st.floats(-1e3, 1e3) | st.just(float("nan")) | st.just(float("inf")), max_size=60),
    st.floats(-1e6, 1e6),
)
def test_ordinary_values_are_never_implausible_by_their_place_and_absence_is_not_judged(column, shift):
    values = np.array(column, np.float64)[:, None]
    assert not implausible(values + shift).any()
