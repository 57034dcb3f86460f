"""Sites with a history say whether slow changes of a young one are followed before its training is long enough to tell."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.made_machines import following, wandering
from models.architectures import TcnSpec
from models.fitting import fit_detector
from models.options import DetectorOptions
from models.scaling import moments
from pipeline.evaluation import early
from pipeline.evaluation.early import Playing, followed_early
from tests.pipeline.plants import START, notes_of_backtest

SENSORS = [f"s{i}" for i in range(4)]
LINEAR = DetectorOptions(sources=("ridge", "pca", "excursion"))
YOUNG, OLD = 250, 1600


def machine(seed: int, rows: int, moves_on: bool) -> np.ndarray:
    """Four sensors that follow two drivers; one that moves on comes to lie a deviation away every 400 rows, each sensor up or down."""
    random = np.random.default_rng(seed)
    values = following(random, wandering(random, rows, 2, memory=20.0), len(SENSORS))
    course = (
        np.linspace(0, rows / 400, rows)[:, None] * values.std(axis=0) * random.choice([-1, 1], len(SENSORS))
    )
    return values + course if moves_on else values


def fleet(moves_on: bool, young: int = YOUNG, old: int = OLD) -> dict[str, list[np.ndarray]]:
    rows = {"new": young, "a": old, "b": old, "c": old}
    return {name: [machine(i, count, moves_on)] for i, (name, count) in enumerate(rows.items())}


def playing(options: DetectorOptions = LINEAR) -> Playing:
    return Playing(SENSORS, 60.0, 16, options, lambda _, runs: moments(runs, len(SENSORS)).scaling())


def test_young_sites_among_machines_that_move_on_are_followed_and_nobody_else():
    watched = fleet(moves_on=True)
    assert followed_early(playing(), watched) == {"new"}
    assert (
        followed_early(playing(DetectorOptions(sources=LINEAR.sources, follow=0.0)), watched) == frozenset()
    )


def test_each_young_site_is_advised_for_its_own_age():
    watched = {**fleet(moves_on=True), "newer": [machine(7, 130, True)]}
    found = followed_early(playing(), watched)
    for site in ("new", "newer"):
        without = {name: runs for name, runs in watched.items() if name in (site, "a", "b", "c")}
        assert (site in found) == (site in followed_early(playing(), without))
    assert "new" in found


def test_young_sites_among_machines_that_stay_are_not():
    assert followed_early(playing(), fleet(moves_on=False)) == frozenset()


def test_nobody_is_asked_who_is_too_short_to_tell():
    moved = fleet(moves_on=True)
    assert followed_early(playing(), {site: moved[site] for site in ("new", "a")}) == frozenset()
    # Four times the young site's age is asked for, and so much in one piece that a frame fits in.
    assert followed_early(playing(), fleet(True, young=600)) == frozenset()
    torn = {
        site: [run[i : i + 10] for run in runs for i in range(0, len(run), 10)]
        for site, runs in moved.items()
    }
    assert followed_early(playing(), torn) == frozenset()
    assert followed_early(playing(), {"new": moved["new"], "silent": [], "other": []}) == frozenset()


def test_a_site_too_young_to_be_calibrated_asks_nobody():
    assert followed_early(playing(), fleet(True, young=90)) == frozenset()


def test_who_is_calibrated_by_its_own_rows_and_not_followed_by_their_number_asks():
    asked = {rows for rows in range(0, 4000) if playing().asks(rows)}
    assert asked == set(range(LINEAR.min_steps, LINEAR.follow_from))
    assert not playing(DetectorOptions(sources=LINEAR.sources, follow=0.0)).asks(250)


def test_sites_with_a_network_alone_advise_nothing():
    assert followed_early(playing(DetectorOptions(sources=("network",))), fleet(moves_on=True)) == frozenset()


def test_unknown_and_absurd_cells_are_as_elsewhere():
    """A sensor that nobody has and one with a sentinel among its readings change no verdict, and raise no warning."""
    watched = fleet(moves_on=True)
    for runs in watched.values():
        runs[0] = runs[0].copy()
        runs[0][:, 3] = np.nan
        runs[0][7, 2] = np.inf
    with np.errstate(all="raise"):
        assert followed_early(playing(), watched) == {"new"}


def test_only_the_named_sites_are_followed_early_and_as_slowly_as_any_short_training():
    runs = fleet(moves_on=True, old=700)
    scaling = {site: moments(of, len(SENSORS)).scaling() for site, of in runs.items()}

    def rates(early: tuple[str, ...]) -> dict[str, float]:
        detector = fit_detector(TcnSpec(), None, SENSORS, 60.0, 16, scaling, runs, LINEAR, early=early)
        return dict(zip(detector.sites, detector.calibration.follow_rate.tolist(), strict=False))

    assert set(rates(()).values()) == {0.0}
    found = rates(("new",))
    assert found.pop("new") == pytest.approx(2 / (4 * LINEAR.follow_from + 1), rel=1e-6)
    assert set(found.values()) == {0.0}


def exported(values: np.ndarray, until: int) -> pd.DataFrame:
    """An export that ends `until` rows behind the start, as others do, however late it begins."""
    frame = pd.DataFrame(values, columns=SENSORS)
    frame.insert(0, "timestamp", START + pd.to_timedelta(np.arange(until - len(values), until), "min"))
    return frame


def test_a_backtest_says_who_is_followed_early(tmp_path, capsys):
    judged = 300
    values = {site: of[0] for site, of in fleet(True, YOUNG + judged, OLD + judged).items()}
    plants = {site: exported(of, OLD + judged) for site, of in values.items()}
    notes = notes_of_backtest(tmp_path, plants, OLD, '["ridge", "excursion"]', capsys)
    told = [note for note in notes if "as sites with a history advise" in note]
    assert [note.split(":")[0] for note in told] == ["new"]


def test_one_site_that_lies_does_not_decide(monkeypatch):
    watched = fleet(moves_on=True)
    real = early.found_faults

    def lying(detector, site, *more):
        found = real(detector, site, *more)
        # One says that following hides everything.
        return (0.0 if detector.calibration.follow_rate[0] > 0 else 1.0) if site == "a" else found

    monkeypatch.setattr(early, "found_faults", lying)
    assert followed_early(playing(), watched) == {"new"}


def test_stretches_are_spread_over_a_history_and_what_is_judged_begins_behind_each():
    history = [np.arange(300.0)[:, None], np.arange(300.0, 10_000.0)[:, None]]
    found = list(early._stretches("a", history, 200, 4))
    firsts = [int(stretch.learned[0][0, 0]) for stretch in found]
    assert firsts == [int(0.8 * (at + 0.5) / 4 * 9800) for at in range(4)]
    for first, stretch in zip(firsts, found, strict=True):
        learned, behind = (np.concatenate(rows)[:, 0] for rows in (stretch.learned, stretch.behind))
        assert learned.tolist() == list(range(first, first + 200))
        assert behind.tolist() == list(range(first + 200, min(first + 4200, 10_000)))
    assert list(early._stretches("a", history, 2501, 4)) == []


def finds(monkeypatch, more: float, sites: str = "abc") -> None:
    """Lets detectors of these sites find so much more of the injected faults where they follow, and those of others as much."""

    def found(detector, site, *_):
        return 0.4 + more * (detector.calibration.follow_rate[0] > 0 and site in sites)

    monkeypatch.setattr(early, "found_faults", found)


@pytest.mark.parametrize(("more", "worth"), [(0.0, False), (0.005, False), (0.02, True)])
def test_following_that_shows_hardly_more_faults_is_not_worth_it(more, worth, monkeypatch):
    finds(monkeypatch, more)
    assert followed_early(playing(), fleet(moves_on=True)) == ({"new"} if worth else set())


def test_one_site_that_praises_following_does_not_decide_and_two_are_enough_to_ask(monkeypatch):
    watched = fleet(moves_on=True)
    finds(monkeypatch, 0.5, "a")
    assert followed_early(playing(), watched) == frozenset()
    finds(monkeypatch, 0.5)
    assert followed_early(playing(), {site: watched[site] for site in ("new", "a", "b")}) == {"new"}
