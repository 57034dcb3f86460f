"""What short stretches of a history told of the whole."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.scaling import plausible, plausible_moments
from models.stretches import SHORTEST, StretchSums

SENSORS = 3


def sums_of(*runs: np.ndarray, floor: np.ndarray | None = None) -> StretchSums:
    judged = plausible(runs, floor)
    return StretchSums.of(judged, plausible_moments(judged, runs[0].shape[1], floor))


@given(st.integers(0, 1000), st.floats(0.0, 0.6), st.integers(1, 5))
def test_each_length_is_told_of_as_if_it_were_cut_out_by_hand(seed, missing, runs):
    random = np.random.default_rng(seed)
    rows = np.cumsum(random.normal(size=(random.integers(900, 1500), SENSORS)), axis=0) * [1, 1e3, 1e-3] + 7.0
    rows[random.random(rows.shape) < missing] = np.nan
    found = sums_of(*np.array_split(rows, runs))
    whole = plausible_moments([rows], SENSORS)
    for level in range(3):
        length = SHORTEST * 2**level
        cut = rows[: len(rows) // length * length].reshape(-1, length, SENSORS)
        if len(cut) < 4:
            assert not found.sites[level].any()
            continue
        seen = np.isfinite(cut).sum(axis=1) >= length / 2
        with np.errstate(invalid="ignore"):
            ratio = np.log(np.nanvar(cut, axis=1) / whole.variance)
            distance = (np.nanmean(cut, axis=1) - whole.mean) ** 2 / whole.variance
        for sensor in range(SENSORS):
            at = seen[:, sensor]
            assert found.sites[level, sensor] == (at.sum() >= 4)
            if at.sum() >= 4:
                got = (found.log_ratio, found.log_ratio_squared, found.distance)
                want = (ratio[at, sensor], ratio[at, sensor] ** 2, distance[at, sensor])
                np.testing.assert_allclose(
                    [each[level, sensor] for each in got], [each.mean() for each in want], rtol=1e-6
                )


@pytest.mark.filterwarnings("error")
def test_a_stretch_that_hardly_moves_beside_a_huge_one_tells_the_largest_ratio_without_a_warning():
    random = np.random.default_rng(0)
    rows = random.normal(size=(2000, 1)) * np.where(np.arange(2000) < 1000, 1e-150, 1e37)[:, None]
    found = sums_of(rows)
    assert found.sites[0, 0] == 1
    assert -np.log(1e4) < found.log_ratio[0, 0] < -0.4 * np.log(1e4)


def test_slow_machines_tell_less_in_two_hundred_rows_than_fast_ones():
    random = np.random.default_rng(0)
    fast = [random.normal(size=(10_000, 1)) for _ in range(3)]
    slow = [np.repeat(random.normal(size=(40, 1)), 250, axis=0) + 0.1 * each for each in fast]
    of_fast, of_slow = (
        sums_of(each[0]).plus(sums_of(each[1])).plus(sums_of(each[2])).trust(np.array([200.0]))
        for each in (fast, slow)
    )
    # Of independent normal rows the log variance varies by 2 / T, and the mean by 1 / T.
    np.testing.assert_allclose(of_fast[1], 2 / 200, rtol=0.3)
    np.testing.assert_allclose(of_fast[2], 1 / 200, rtol=0.3)
    assert abs(of_fast[0]) < 0.02
    assert of_slow[0] < -2.0 and of_slow[1] > 1.0 and of_slow[2] > 0.5


def test_longer_than_anyone_saw_is_trusted_more_and_nobody_asked_is_a_guess():
    rows = [np.cumsum(np.random.default_rng(seed).normal(size=(4096, 1)), axis=0) for seed in range(2)]
    told = sums_of(rows[0]).plus(sums_of(rows[1]))
    longest = 1024.0
    at, beyond = told.trust(np.array([longest])), told.trust(np.array([4 * longest]))
    for near, far, guess in zip(at, beyond, (-np.inf, 200 / 4096, 100 / 4096), strict=True):
        np.testing.assert_allclose(far, max(near / 4, guess))
    steady = [np.random.default_rng(seed).normal(size=(4096, 1)) for seed in range(2)]
    of_noise = sums_of(steady[0]).plus(sums_of(steady[1])).trust(np.array([4096.0]))
    np.testing.assert_allclose(np.concatenate(of_noise[1:]), [200 / 4096, 100 / 4096])
    one = sums_of(rows[0]).trust(np.array([200.0]))
    np.testing.assert_allclose(np.concatenate(one), [0.0, 1.0, 0.5])
    # What one site adds can be taken out again.
    back = told.plus(sums_of(rows[1]), -1.0)
    np.testing.assert_allclose(np.concatenate(back.trust(np.array([200.0]))), [0.0, 1.0, 0.5])


def test_at_a_length_that_sites_tell_of_trust_is_what_they_told_and_between_two_it_is_between_them():
    rows = [np.cumsum(np.random.default_rng(seed).normal(size=(4096, 1)), axis=0) for seed in range(3)]
    told = sums_of(rows[0]).plus(sums_of(rows[1])).plus(sums_of(rows[2]))
    assert told.sites[:, 0].tolist() == [3.0] * 5 + [0.0] * 11
    bias, distance = (each[:5, 0] / 3 for each in (told.log_ratio, told.distance))
    variance = told.log_ratio_squared[:5, 0] / 3 - bias**2
    for level in range(5):
        found = told.trust(np.array([64.0 * 2**level]))
        np.testing.assert_allclose(np.ravel(found), [bias[level], variance[level], distance[level]])
    # Halfway in the logarithm; variances by their logarithms.
    found = told.trust(np.array([128.0 * np.sqrt(2.0)]))
    expected = [bias[1:3].mean(), np.sqrt(variance[1:3].prod()), np.sqrt(distance[1:3].prod())]
    np.testing.assert_allclose(np.ravel(found), expected)
    # Nobody tells of less than the shortest: it is trusted as that is.
    np.testing.assert_allclose(np.ravel(told.trust(np.array([9.0]))), [bias[0], variance[0], distance[0]])


@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(0, 400), st.just(2)),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
    )
)
def test_whatever_a_site_holds_what_it_tells_is_finite_and_bounded(rows):
    with np.errstate(over="ignore", invalid="ignore"):
        found = sums_of(rows)
    for each in (found.sites, found.log_ratio, found.log_ratio_squared, found.distance):
        assert np.isfinite(each).all()
    assert (found.sites <= 1).all() and (np.abs(found.log_ratio) <= np.log(1e4)).all()
    assert (found.distance <= 100).all() and (found.log_ratio_squared <= np.log(1e4) ** 2).all()


@pytest.mark.parametrize("rows", [0, 1, 255])
def test_a_site_that_is_too_short_tells_nothing(rows):
    assert not sums_of(np.random.default_rng(0).normal(size=(rows, 2))).sites.any()


def test_of_a_sensor_that_varies_by_factors_the_logarithm_tells():
    rows = np.exp(np.random.default_rng(0).normal(size=(2000, 1)))
    floor = np.array([rows.min()])
    found, want = sums_of(rows, floor=floor), sums_of(np.log(rows))
    np.testing.assert_allclose(found.log_ratio, want.log_ratio)
    np.testing.assert_allclose(found.distance, want.distance)
