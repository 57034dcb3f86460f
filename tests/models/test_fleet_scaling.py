"""A young site's scale beside those of the other sites."""

import numpy as np
import pytest

from models.fleet_scaling import FleetScales, ScaleSums, fleet_sums, scaling_beside
from models.scaling import moments
from models.stretches import LEVELS, StretchSums


def site(seed: int, rows: int = 20_000, unit: float = 1.0) -> np.ndarray:
    """Two sensors that wander slowly around 5 and 20 with a deviation of 2 and 3, one that rests at 0.5 but for bursts."""
    random = np.random.default_rng(seed)
    slow = np.repeat(random.normal(0.0, 1.0, (-(-rows // 250), 2)), 250, axis=0)[:rows]
    bursts = 0.5 + (np.arange(rows) % 2000 > 1900) * random.normal(0.0, 1.0, rows)
    return np.column_stack([5 + 2 * slow[:, 0], 20 + 3 * slow[:, 1], bursts]) * unit


def sums_of(rows: np.ndarray) -> ScaleSums:
    return ScaleSums.of([rows], moments([rows], rows.shape[1]))


ALIKE = fleet_sums(sums_of(site(seed)) for seed in range(1, 9))


def test_a_young_site_is_scaled_nearly_as_it_will_be_when_it_is_old():
    for seed in range(20, 30):
        old = moments([site(seed)], 3).scaling()
        young = moments([site(seed, 200)], 3)
        before, after = young.scaling(), scaling_beside(young, ALIKE)
        assert (np.abs(np.log(after.scale / old.scale)) < np.log(2.0)).all()
        # In two hundred rows the slow sensors rest: alone, their scale is their size.
        assert before.scale[0] > 2 * old.scale[0] or before.scale[1] > 2 * old.scale[1]


def test_an_old_site_keeps_its_own_scale():
    old = moments([site(40)], 3)
    found = scaling_beside(old, ALIKE)
    np.testing.assert_allclose(found.scale, old.scaling().scale, rtol=0.05)
    np.testing.assert_allclose(found.mean, old.scaling().mean, atol=0.1 * old.scaling().scale.max())


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 1e3, 1e12])
@pytest.mark.parametrize("rows", [80, 300, 5000])
def test_others_move_a_site_by_no_more_than_its_own_rows_leave_open(factor, rows):
    own = moments([site(20, rows)], 3)
    # All the others agree with each other, in another unit.
    others = fleet_sums(sums_of(site(seed, unit=factor)) for seed in range(1, 9))
    found = scaling_beside(own, others)
    bias, chance, distance = others.stretches.trust(own.count)
    moves = own.moves
    told = np.log(own.scaling().scale) - bias / 2
    assert (np.abs(np.log(found.scale) - told) <= np.sqrt(chance) / 2 + 1e-9)[moves].all()
    assert (np.abs(found.mean - own.mean) <= np.sqrt(distance) * found.scale + 1e-9)[moves].all()


def test_among_units_that_differ_only_what_a_short_stretch_tells_is_learned():
    mixed = fleet_sums(sums_of(site(seed, unit=10.0 ** (seed - 5))) for seed in range(1, 10))
    alone, beside = [], []
    for seed in range(20, 40):
        old, young = moments([site(seed)], 3).scaling(), moments([site(seed, 300)], 3)
        found = scaling_beside(young, mixed)
        bias, *_ = mixed.stretches.trust(young.count)
        told = np.log(young.scaling().scale) - bias / 2
        assert (np.abs(np.log(found.scale) - told)[young.moves] < 0.4).all()
        alone.append(np.log(young.scaling().scale / old.scale)[:2])
        beside.append(np.log(found.scale / old.scale)[:2])
    assert np.abs(beside).mean() < 0.8 * np.abs(alone).mean()
    # What 300 rows show too little of on average is made up for.
    assert np.mean(alone) < -0.5 and abs(np.mean(beside)) < 0.25


def beside_strangers(seed: int):
    """How far the scale (in the logarithm) and the mean (in own scales) of a site with 600 rows move."""
    random = np.random.default_rng(seed)

    def stranger(rows: int):
        size, centre = np.exp(random.normal(0, 1.5, 3)), random.normal(0, 5, 3)
        return random.normal(size=(rows, 3)) * size + centre

    own = moments([stranger(600)], 3)
    alone, found = own.scaling(), scaling_beside(own, fleet_sums([sums_of(stranger(3000)) for _ in range(3)]))
    return np.abs(np.log(found.scale / alone.scale)), np.abs(found.mean - alone.mean) / alone.scale


def test_strangers_leave_a_site_with_hours_of_its_own_nearly_as_it_is():
    # Three strangers may agree by chance, and six looks leave a mean open by a scale: rare, and not never.
    scales, means = map(np.array, zip(*map(beside_strangers, range(500)), strict=True))
    assert scales.max() < np.log(2.0)
    assert (means > 0.5).mean() < 0.01
    assert means.max() < 2.0


def test_a_sensor_that_rests_is_scaled_as_where_it_moves_but_not_beyond_its_own_size():
    resting = np.tile([5.0, 0.01, 0.0], (500, 1))
    found = scaling_beside(moments([resting], 3), ALIKE)
    assert found.scale[0] == pytest.approx(2.0, rel=0.3)
    assert found.scale[1] == pytest.approx(0.01)
    assert found.scale[2] == pytest.approx(moments([site(1)], 3).scaling().scale[2], rel=0.3)
    np.testing.assert_allclose(found.mean, resting[0], atol=1e-12)


def test_one_other_site_silent_sensors_and_a_site_taken_out_of_the_sum():
    own = moments([site(3, 300)], 3)
    one = fleet_sums([sums_of(site(4))])
    np.testing.assert_array_equal(scaling_beside(own, one).scale, own.scaling().scale)
    silent = moments([np.full((300, 3), np.nan)], 3)
    np.testing.assert_array_equal(scaling_beside(silent, ALIKE).scale, np.ones(3))
    each = [sums_of(site(seed)) for seed in range(1, 6)]
    left, asked = fleet_sums(each).plus(each[0], -1.0), fleet_sums(each[1:])
    np.testing.assert_allclose(scaling_beside(own, left).scale, scaling_beside(own, asked).scale, rtol=1e-9)
    assert fleet_sums([]) is None


@pytest.mark.parametrize("size", [1e-30, 1e12, 1e30])
def test_one_site_that_invents_its_readings_blinds_nobody(size):
    honest = [sums_of(site(seed)) for seed in range(1, 9)]
    absurd = sums_of(np.random.default_rng(1).normal(0.0, size, (1000, 3)))
    young = moments([site(20, 200)], 3)
    found = scaling_beside(young, fleet_sums([*honest, absurd]))
    # No better than alone, and hardly worse.
    assert (np.abs(np.log(found.scale / young.scaling().scale)) < np.log(4.0)).all()
    # Nor a site that is older.
    older = moments([site(21, 2000)], 3)
    found = scaling_beside(older, fleet_sums([*honest, absurd]))
    assert (np.abs(np.log(found.scale / older.scaling().scale)) < np.log(4.0)).all()


def test_sites_with_the_very_same_mean_are_no_overflow():
    """As copies of one machine, or counters of a fixed cycle, have."""
    same = [sums_of(np.tile([[1e5, -1.0], [3e5, 1.0]], (500, 1))) for _ in range(4)]
    own = moments([np.tile([[2e5, 0.0], [4e5, 2.0]], (50, 1))], 2)
    with np.errstate(all="raise"):
        found = scaling_beside(own, fleet_sums(same))
    # Stretches of a cycle all have its mean, so this site's own is taken for what it is.
    np.testing.assert_allclose(found.mean[1], 1.0, rtol=1e-3)


@pytest.mark.parametrize(("theirs", "expected"), [(0.2, 0.25 / (0.25 + 1.25 / 4) * 0.2), (3.0, 0.25 / 7 * 3)])
def test_a_mean_goes_to_that_of_others_who_agree_but_hardly_if_it_is_apart_beyond_chance(theirs, expected):
    """Four others with the very same mean and variance, none with a stretch: a hundred rows are one look, so four hundred leave a variance of .25."""
    nothing = np.zeros((LEVELS, 1))
    four = np.array([4.0])
    others = ScaleSums(
        four,
        0 * four,
        0 * four,
        four * theirs,
        four * theirs**2,
        StretchSums(nothing, nothing, nothing, nothing),
    )
    own = moments([np.tile([[-1.0], [1.0]], (200, 1))], 1)
    found = scaling_beside(own, others)
    np.testing.assert_allclose(found.scale, 1.0)
    np.testing.assert_allclose(found.mean, expected)


@pytest.mark.parametrize(
    ("theirs", "expected"), [(0.4, 0.5 / (0.5 + 1.25 / 4) * 0.4), (-0.4, -0.4 / 1.625), (9.0, np.sqrt(0.5))]
)
def test_a_log_variance_goes_to_that_of_others_who_agree_but_no_further_than_its_own_rows_leave_open(
    theirs, expected
):
    """Four others with the very same log variance and none with a stretch: four hundred rows are four looks, which leave a variance of .5."""
    nothing, four = np.zeros((LEVELS, 1)), np.array([4.0])
    others = ScaleSums(
        four,
        four * theirs,
        four * theirs**2,
        0 * four,
        0 * four,
        StretchSums(nothing, nothing, nothing, nothing),
    )
    found = scaling_beside(moments([np.tile([[-1.0], [1.0]], (200, 1))], 1), others)
    np.testing.assert_allclose(2 * np.log(found.scale), expected)
    assert found.mean[0] == 0.0


def test_a_site_is_scaled_beside_all_the_others_and_not_beside_itself():
    rows = {f"s{seed}": [site(seed, 3000)] for seed in range(1, 6)} | {"young": [site(20, 200)]}
    fleet = FleetScales.of(rows, 3)
    for name in rows:
        others = fleet_sums(sums_of(of[0]) for other, of in rows.items() if other != name)
        expected = scaling_beside(moments(rows[name], 3), others)
        found = fleet.beside(name, fleet.known[name])
        np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-9)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-9)
    stranger = moments([site(30, 300)], 3)
    expected = scaling_beside(stranger, fleet_sums(sums_of(of[0]) for of in rows.values()))
    np.testing.assert_allclose(fleet.beside("new", stranger).scale, expected.scale, rtol=1e-9)
    alone = FleetScales.of({}, 3).beside("new", stranger)
    np.testing.assert_array_equal(alone.scale, stranger.scaling().scale)
