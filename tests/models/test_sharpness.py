import numpy as np
import pytest
from scipy.signal import lfilter

from models.sharpness import by_sharpness
from models.sources.ridge import RidgeSource
from models.sources.zscore import ZScoreSource
from tests.models.linear import fit_linear
from tests.models.pieces import same_in_pieces

WEIGHTS = np.array([0.375, 1.5, 1.0])
NOTHING = np.zeros((1, 9, 2), np.float32)
SOURCES = [ZScoreSource(excursion=True), RidgeSource(NOTHING, 0.1), RidgeSource(NOTHING, 1.0)]
SENSORS = [f"s{number}" for number in range(8)]


def spread(*times: float) -> np.ndarray:
    """Usual residuals [3, F] of the three sources, the stiff ridge's so many times the other's by sensor."""
    soft = np.linspace(0.1, 0.4, len(times))
    return np.stack([np.ones(len(times)), soft, soft * times])


@pytest.mark.parametrize(
    "times,calm,share",
    [
        ((1.0, 1.0, 1.0), 1.0, 0.0),
        ((1.49, 1.49, 9.0), 1.0, 0.0),
        ((1.0, 1.65, 9.0), 1.0, 0.5),
        ((1.0, 1.81, 9.0), 1.0, 1.0),
        ((1.0, 50.0, 50.0), 1.0, 1.0),
        ((1.0, 1.81, 9.0), 0.5, 0.5),
        ((1.0, 1.81, 9.0), 0.0, 0.0),
    ],
)
def test_the_stiff_ridge_gives_its_say_to_the_other_where_it_tells_less_at_half_of_the_sensors(
    times, calm, share
):
    found = by_sharpness(WEIGHTS, SOURCES, spread(*times), calm)
    np.testing.assert_allclose(found, [0.375, 1.5 + share, 1.0 - share])
    # Whichever comes first.
    turned = by_sharpness(WEIGHTS[::-1], SOURCES[::-1], spread(*times)[::-1], calm)
    np.testing.assert_allclose(turned, found[::-1])
    np.testing.assert_array_equal(WEIGHTS, [0.375, 1.5, 1.0])


def test_one_ridge_alone_keeps_its_say():
    alone = by_sharpness(WEIGHTS[:2], SOURCES[:2], spread(9.0, 9.0)[:2], 1.0)
    np.testing.assert_array_equal(alone, WEIGHTS[:2])


def machine(rows: int, seed: int, noise: float, bursts: bool = False) -> np.ndarray:
    """Three drivers with a memory of some steps, eight sensors that follow them with so much noise, which bursts now and then."""
    random = np.random.default_rng(seed)
    drivers = lfilter([1.0], [1.0, -0.8], random.normal(size=(rows, 3)), axis=0) * 0.5
    gains = np.random.default_rng(0).normal(size=(3, len(SENSORS)))
    loud = np.where(np.arange(rows) % 500 < 60, 6.0, 1.0)[:, None] if bursts else 1.0
    return drivers @ gains + random.normal(size=(rows, len(SENSORS))) * noise * loud


def told_apart(runs, **options) -> np.ndarray:
    """Whether the stiff ridge is heard less than the other by more than their weights say, by row of a detector: of the sites, then of the fleet."""
    found = fit_linear(SENSORS, 60.0, 32, runs, **options).calibration
    unsharpened = fit_linear(SENSORS, 60.0, 32, runs, **{**options, "sharpen": False}).calibration
    before, after = (of.source_weight[:, 2] / of.source_weight[:, 1] for of in (unsharpened, found))
    return after < 0.999 * before


def test_sharp_relations_are_told_from_loose_ones_and_from_bursts_and_the_fleet_and_the_young_keep_both():
    runs = {
        "bursting": [machine(3000, 3, 0.05, bursts=True)],
        "loose": [machine(3000, 2, 2.0)],
        "sharp": [machine(3000, 1, 0.05)],
        "young": [machine(600, 4, 0.05)],
    }
    assert told_apart(runs, prior_rows=0.0).tolist() == [False, False, True, False, False]


def test_a_fault_smaller_than_what_the_stiff_ridge_leaves_is_found_better_and_the_numbers_are_one():
    runs = {"sharp": [machine(4000, 1, 0.05)]}
    values = machine(4000, 5, 0.05)
    faulty = np.zeros(4000, bool)
    for number, begin in enumerate(range(200, 3900, 100)):
        faulty[begin : begin + 15] = True
        values[begin : begin + 15, number % len(SENSORS)] += 0.2
    noticed = []
    for sharpen in (True, False):
        detector = fit_linear(SENSORS, 60.0, 32, runs, sharpen=sharpen)
        score = detector.score("sharp", values).score
        noticed.append((score[faulty] > np.nanquantile(score[~faulty], 0.99)).mean())
        same_in_pieces(detector, "sharp", values[:200], [3, 64, 1, 132])
    assert noticed[0] > noticed[1]
