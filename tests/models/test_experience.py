"""Sites with a history say how much a young one should take from others."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from models import sharing
from models.architectures import TcnSpec
from models.detector import Detector
from models.fitting import fit_detector
from models.fleet_scaling import FleetScales
from models.options import DetectorOptions
from models.scaling import SensorScaling, moments
from models.sharing import asked
from models.sources import experience as experiences
from models.sources.base import Traits
from models.sources.experience import Experience, added, age, experience
from models.sources.folds import SHARES, blocks_of, hidden, hidden_later, solve_beside, total_of, without_each
from models.sources.gram import GramStatistics, federated_prior
from models.sources.ridge import RidgeFit, RidgeSource, ridge_weights

SENSORS, YOUNG, OLD = 6, 128, 4000
FIT = RidgeFit(SENSORS)


def machine(seed: int, rows: int, mix: np.ndarray) -> np.ndarray:
    """Sensors mixed from three courses that hardly move within an hour, and noise."""
    random, slow = np.random.default_rng(seed), 0.995
    courses = lfilter([np.sqrt(1 - slow**2)], [1, -slow], random.normal(size=(rows + 2000, 3)), axis=0)[2000:]
    return (courses @ mix + 0.1 * random.normal(size=(rows, SENSORS))).astype(np.float32)


def mixture(seed: int) -> np.ndarray:
    return np.random.default_rng([9, seed]).normal(size=(3, SENSORS))


def fleet(alike: bool) -> dict[str, np.ndarray]:
    """One young site and four with a history."""
    rows = {"young": YOUNG, "a": OLD, "b": OLD, "c": OLD, "d": OLD}
    return {name: machine(i, rows[name], mixture(0 if alike else i)) for i, name in enumerate(rows)}


def scales_of(runs: dict[str, np.ndarray]) -> tuple[FleetScales, dict[str, SensorScaling]]:
    scales = FleetScales.of({name: [rows] for name, rows in runs.items()}, SENSORS)
    return scales, {name: scales.beside(name, each) for name, each in scales.known.items()}


def detector_of(
    runs: dict[str, np.ndarray],
    scaling: dict[str, SensorScaling],
    sharing: dict[str, object],
    **options: object,
) -> Detector:
    return fit_detector(
        TcnSpec(),
        None,
        [f"s{i}" for i in range(SENSORS)],
        60.0,
        8,
        scaling,
        {name: [rows] for name, rows in runs.items()},
        DetectorOptions(sources=("ridge",), **options),
        **sharing,
    )


def fitted(runs: dict[str, np.ndarray], elders: bool = True, **options: object) -> dict[str, np.ndarray]:
    """Ridge coefficients of every site."""
    scales, scaling = scales_of(runs)
    detector = detector_of(runs, scaling, {"young": scales.beside if elders else None}, **options)
    return dict(zip(detector.sites, detector.sources[0].weights, strict=False))


def test_a_young_site_among_its_like_takes_what_older_ones_say_and_they_stay_as_they_are():
    runs = fleet(alike=True)
    with_elders, without = fitted(runs), fitted(runs, elders=False)
    for old in "abcd":
        np.testing.assert_array_equal(with_elders[old], without[old])
    assert not np.array_equal(with_elders["young"], without["young"])
    later = machine(0, 20_000, mixture(0))[10_000:]
    _, scaling = scales_of(runs)
    rows = scaling["young"].apply(later)
    judged = FIT.summarise(rows, 0, len(rows))
    hides = [
        hidden((RidgeSource(weights["young"][None], 0.1),), [judged], judged)
        for weights in (with_elders, fitted(runs, prior_rows=0.0))
    ]
    assert hides[0] < hides[1] - 0.5


def test_a_young_site_among_strangers_takes_nothing():
    runs = fleet(alike=False)
    np.testing.assert_array_equal(fitted(runs)["young"], fitted(runs, elders=False, prior_rows=0.0)["young"])


def test_a_stranger_among_older_sites_that_are_alike_takes_nothing_either():
    runs = fleet(alike=True)
    runs["young"] = machine(5, YOUNG, 8 * mixture(5)[:, ::-1])
    alone = fitted(runs, elders=False, prior_rows=0.0)["young"]
    np.testing.assert_array_equal(fitted(runs)["young"], alone)


def test_what_a_site_tells_is_measured_on_rows_it_was_not_fitted_near():
    runs = fleet(alike=True)
    scales, _ = scales_of(runs)
    own = {
        name: FIT.summarise(moments([rows], SENSORS).scaling().apply(rows), 0, len(rows))
        for name, rows in runs.items()
    }
    others = federated_prior([own[name] for name in "bcd"])

    def tell(rows: int) -> Experience | None:
        return experience(
            FIT,
            [runs["a"]],
            rows,
            lambda known: scales.beside("a", known),
            others,
            2000.0,
            lambda _: Traits(np.ones(SENSORS, bool)),
        )

    told = tell(YOUNG)
    assert told.later[0] == told.held_back[0] == 0
    # Its blocks say much less of what the others are worth than its later rows do.
    assert told.later.min() < -0.2
    assert (told.later < told.held_back - 0.3)[1:].all()
    assert tell(OLD // 4) is not None and tell(OLD // 4 + 1) is None and tell(10) is None


def test_what_a_stretch_is_judged_by_lies_around_it_at_two_places_of_a_history(monkeypatch):
    runs, seen, real = fleet(alike=True), [], experiences._rest
    scales, _ = scales_of(runs)

    def spy(of, first, stop):
        seen.append((first, stop))
        return real(of, first, stop)

    monkeypatch.setattr(experiences, "_rest", spy)
    told = experience(
        FIT,
        [runs["a"]],
        YOUNG,
        lambda known: scales.beside("a", known),
        None,
        0.0,
        lambda _: Traits(np.ones(SENSORS, bool)),
    )
    # Three and seven tenths of where the stretch can begin.
    assert seen == [(1161, 1161 + YOUNG), (2710, 2710 + YOUNG)]
    assert told is not None and told.later.tolist() == [0.0] * len(SHARES)


def hidden_among(later: np.ndarray, own: np.ndarray, share: float = 0.0) -> float:
    blocks = blocks_of(FIT, [own])
    whole, kept = total_of(blocks), Traits(np.ones(SENSORS, bool))
    sources = solve_beside(FIT, [whole], None, 0.0, share, kept)
    held_out = without_each(FIT, blocks, whole, None, 0.0, share, kept)
    return hidden_later(sources, held_out, blocks, whole, FIT.summarise(later, 0, len(later)))


@given(st.integers(0, 10_000), st.integers(60, 300), st.floats(0.1, 30.0))
@settings(max_examples=30)
def test_how_a_fault_is_hidden_later_is_what_residuals_of_all_rows_say(seed, rows, louder):
    own, later = (machine(seed, rows + 500, mixture(seed)) for _ in "ab")
    own, later = own[:rows], louder * later[rows:]

    def design(values: np.ndarray) -> np.ndarray:
        past = [values[3 - lag : len(values) - lag] for lag in range(4)]
        return np.hstack([*past, np.ones((len(values) - 3, 1))]).astype(float)

    every, fold = design(own), np.arange(rows)[3:] * 5 // rows
    expected = []
    for strength in FIT.ridges:

        def weights(of: np.ndarray, strength: float = strength) -> np.ndarray:
            return ridge_weights(GramStatistics.of(of), SENSORS, strength).astype(float)

        held = np.concatenate(
            [own[3:][fold == i] - every[fold == i] @ weights(every[fold != i]) for i in range(5)]
        )
        unit = (held**2).mean(axis=0) + FIT.floor**2
        whole = weights(every)
        size = ((later[3:] - design(later) @ whole) ** 2).mean(axis=0) + FIT.floor**2
        left = np.array(
            [
                np.mean(
                    [
                        (1.0 - sum(whole[lag * SENSORS + f, f] for lag in range(min(step, 3) + 1))) ** 2
                        for step in range(10)
                    ]
                )
                for f in range(SENSORS)
            ]
        )
        expected.append(np.log(unit / left).mean() + np.log(np.minimum(size / unit, 100.0).mean()))
    assert hidden_among(later, own) == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-4)


def test_one_sensor_that_came_to_be_far_off_hides_faults_at_the_others_and_no_more_than_a_score_lets_it():
    own = machine(1, 600, mixture(0))
    usual, loud = own[300:], own[300:].copy()
    loud[:, 0] += np.random.default_rng(0).normal(0, 3, 300).astype(np.float32)
    far = loud.copy()
    far[:, 0] *= 1000
    quiet, louder, loudest = (hidden_among(rows, own[:300]) for rows in (usual, loud, far))
    # The mean of logarithms over six sensors would say a sixth of that of one.
    assert louder - quiet > 1.0
    assert loudest < quiet + np.log(100.0)


def test_runs_too_short_for_a_design_tell_nothing():
    pieces = [machine(0, 3, mixture(0)) for _ in range(300)]
    young = moments(pieces, SENSORS).scaling()
    assert (
        experience(FIT, pieces, 128, lambda _: young, None, 0.0, lambda _: Traits(np.ones(SENSORS, bool)))
        is None
    )


@given(
    st.integers(2, 20),
    st.integers(0, 10_000),
)
def test_the_choice_is_that_of_the_sites_one_by_one(sites, seed):
    random = np.random.default_rng(seed)
    later, held = random.normal(-0.3, 0.4, (2, sites, len(SHARES)))
    later[:, 0] = held[:, 0] = 0
    own = np.r_[0.0, random.normal(0, 0.4, len(SHARES) - 1)]
    total = added(Experience.of(a, b) for a, b in zip(later, held, strict=True))
    expected = later.mean(axis=0) + 0.5 * (own - held.mean(axis=0))
    error = stats.sem(later - 0.5 * held, axis=0)
    best = int(np.argmin(expected))
    sure = expected[best] < -stats.t.ppf(0.95, sites - 1) * error[best]
    assert total.best(own) == (best if sure else 0)


def test_one_site_alone_tells_nothing_and_none_is_none():
    own = np.array([0.0, 0.3, -0.2, -0.1, 0.4])
    one = Experience.of(np.array([0.0, -5, -1, -1, -1]), np.zeros(5))
    assert one.best(own) == 2
    assert added([]) is None
    assert [age(rows) for rows in (0, 1, 200, 360, 1440, 4320)] == [1, 1, 256, 256, 1024, 4096]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=5), st.data())
def test_a_stretch_and_the_rest_are_all_rows_once(lengths, data):
    total = sum(lengths)
    first = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(first, total))
    numbers = np.split(np.arange(float(total))[:, None], np.cumsum(lengths)[:-1])
    own, rest = experiences.cut(numbers, first, stop), experiences._rest(numbers, first, stop)
    seen = np.concatenate([*own, *rest, np.zeros((0, 1))])
    assert sorted(seen[:, 0]) == list(range(total))
    assert sum(map(len, own)) == stop - first
    for piece in (*own, *rest):
        assert any(piece[0] >= run[0] and piece[-1] <= run[-1] for run in numbers if len(run))


def test_of_a_long_history_rows_are_looked_at_all_over():
    numbers = [np.arange(100_000.0)[:, None]]
    rest = np.concatenate(experiences._rest(numbers, 30_000, 31_000))[:, 0]
    assert len(rest) <= experiences._JUDGED
    assert len(rest) > 0.8 * experiences._JUDGED
    assert not ((rest >= 30_000) & (rest < 31_000)).any()
    assert np.histogram(rest, bins=10, range=(0, 100_000))[0].min() > 200


@pytest.mark.parametrize("share", SHARES)
def test_beside_a_share_is_fitted_on_so_many_rows_of_the_others(share):
    runs = fleet(alike=True)
    own, others = (FIT.summarise(runs[name], 0, len(runs[name])) for name in ("young", "a"))
    found = solve_beside(FIT, [own], others.per_row(), 2000.0, share, Traits(np.ones(SENSORS, bool)))
    weight = share * 2000 / (1 + own.rows / 10_000)
    want = FIT.solve([own.plus(others.per_row(), weight)], [Traits(np.ones(SENSORS, bool))])
    np.testing.assert_array_equal(found[0].weights, want[0].weights)


def test_the_longest_histories_are_asked_and_only_some():
    histories = {f"site-{i:02d}": 1000 * (i + 1) for i in range(20)}
    assert asked(histories, 2500) == [f"site-{i:02d}" for i in range(19, 11, -1)]
    assert asked(histories, 4500) == ["site-19", "site-18", "site-17"]
    assert asked(histories, 5001) == []


def test_every_site_asks_for_its_own_age_and_takes_what_it_is_told():
    runs, asked_for = fleet(alike=True), {}
    _, scaling = scales_of(runs)

    def elders(site: str, fit: object, rows: int) -> Experience:
        asked_for[site] = rows
        return Experience(
            3.0, np.array([0.0, 0, -3, 0, 0]), np.zeros(len(SHARES)), np.array([0.0, 0, 3, 0, 0])
        )

    detector = detector_of(runs, scaling, {"elders": elders})
    assert asked_for == {"young": 128, **dict.fromkeys("abcd", 4096)}
    own = {name: FIT.summarise(scaling[name].apply(rows), 0, len(rows)) for name, rows in runs.items()}
    others = federated_prior([own[name] for name in "abcd"])
    want = solve_beside(FIT, [own["young"]], others, 2000.0, SHARES[2], Traits(np.ones(SENSORS, bool)))
    row = detector.sites.index("young")
    np.testing.assert_allclose(detector.sources[0].weights[row], want[0].weights[0], atol=1e-5)


def test_each_is_asked_to_play_the_young_one_as_the_machine_that_it_is(monkeypatch):
    histories = {"b": 4000, "a": 4000, "other": 600, "young": 400, "tiny": 16}
    sites, told = tuple(histories), []
    rows = SimpleNamespace(
        sites=sites,
        of_sites=range(len(sites)),
        # Two runs each, that wander.
        raw=[[np.zeros((n - 10, 2)), np.zeros((10, 2))] for n in histories.values()],
        traits=[Traits(np.ones(2, bool), switches=site == "b") for site in sites],
        scalings=[SimpleNamespace(floor=np.full(2, float(row))) for row in range(len(sites))],
    )
    wandering = [np.repeat(np.arange(4.0), 128)[:, None] * [1, 0]]

    def tell(fit, runs, age_rows, scaling, others, prior_rows, traits, floor):
        site = sites[int(floor[0])]
        assert runs is rows.raw[sites.index(site)] and fit is FIT and prior_rows == 321.0
        assert scaling("moments") == (site, "moments") and others == f"without {site}"
        machine = traits(wandering)
        told.append((site, age_rows, bool(machine.steady[0]), machine.switches))
        return Experience.of(np.array([0.0, -1.0]), np.zeros(2))

    monkeypatch.setattr(sharing, "experience", tell)
    options = DetectorOptions(prior_rows=321.0).resolved(60.0)
    choose, choose_as_told = (
        sharing.share_chooser(FIT, rows, options, lambda *known: known, elders, {"young"})
        for elders in (None, lambda *_: None)
    )

    own = np.array([0.0, -0.5])
    for site in ("young", "other", "young"):
        assert choose(sites.index(site), lambda row: f"without {sites[row]}", own) == 1
    # One that is followed and one that is not ask for other things, but nobody is asked the same twice.
    assert told == [
        ("a", 512, True, False),
        ("b", 512, True, True),
        ("a", 512, False, False),
        ("b", 512, False, True),
    ]
    # Nobody plays without others beside him, nor where others were asked already.
    assert choose(sites.index("tiny"), lambda _: None, own) == 1
    assert choose_as_told(sites.index("young"), lambda _: "others", own) == 1 and len(told) == 4
