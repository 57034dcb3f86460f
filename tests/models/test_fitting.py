"""By what each row of a detector is calibrated: its sources, their weights, and rows that none of them was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from models import fitting
from models.architectures import TcnSpec, build
from models.detector import Detector
from models.fitting import fit_detector
from models.judges import Judge
from models.options import DetectorOptions
from models.scaling import moments
from models.sources.folds import fold_rows
from models.sources.ridge import RidgeFit, RidgeSource
from models.sources.zscore import ZScoreSource
from models.switching import FEWER_COMPONENTS
from models.training_rows import TrainingRows, training_rows
from tests.models.test_detector import SENSORS, STEPS, plant

SPEC = TcnSpec(channels=2, dilations=(1,))
ORDER = ("network", "excursion", "ridge", "stiff_ridge", "pca")
JUMPS = np.arange(900)[:, None] // 60 % 2 * [20, 20, 20, 20, 0]
RUNS = {
    "east": [plant(900, 1) + JUMPS],
    "new": [plant(130, 3) * 3],
    "north": [plant(400, 2) * 2, plant(200, 4) * 2],
}
"""A machine that switches, one too young for a calibration of its own, and one in two runs."""


@dataclass(frozen=True)
class Calibrated:
    """What a row was calibrated with."""

    judges: Sequence[Judge]
    lengths: list[int]
    options: DetectorOptions
    switching: bool

    @property
    def of_one(self) -> set[bool]:
        """Whether each of what only one machine's own training tells is asked for."""
        options = self.options
        return {options.regimes, options.ordinary, options.fill, options.sharpen}


def calibrated(
    monkeypatch: pytest.MonkeyPatch,
    runs: dict[str, list[np.ndarray]],
    *,
    early: tuple[str, ...] = (),
    **options: Any,
) -> list[Calibrated]:
    """Of a detector of all sources: what each row that has rows enough was calibrated with, the fleet's last."""
    found, real = [], fitting.calibrate

    def spy(
        judges: Any, runs: Any, context: int, step: float, options: Any, *, switching: bool = False
    ) -> Any:
        found.append(Calibrated(judges, [len(run) for run in runs], options, switching))
        return real(judges, runs, context, step, options, switching=switching)

    monkeypatch.setattr(fitting, "calibrate", spy)
    scaling = {site: moments(of, 5).scaling() for site, of in runs.items()}
    weights = build(SPEC, STEPS, 5, seed=3).get_weights()
    chosen = DetectorOptions(sources=ORDER, min_steps=200, **options)
    fit_detector(SPEC, weights, SENSORS, 60.0, STEPS, scaling, runs, chosen, early=early)
    return found


def test_sources_are_judged_with_their_weights_on_rows_that_they_were_not_fitted_on(monkeypatch):
    weights = {"network": 0.3, "zscore": 9.0, "excursion": 2.0, "ridge": 3.0, "stiff_ridge": 5.0, "pca": 7.0}
    found = calibrated(monkeypatch, RUNS, weights=weights)
    east, north, fleet = found
    assert (east.switching, north.switching) == (True, False)
    for row, each in zip((0, 2, 3), found, strict=True):
        network, excursion, ridge, stiff, pca = each.judges
        assert [judge.source.name for judge in each.judges] == ["network", "zscore", "ridge", "ridge", "pca"]
        assert isinstance(excursion.source, ZScoreSource) and excursion.source.excursion
        assert isinstance(ridge.source, RidgeSource) and isinstance(stiff.source, RidgeSource)
        assert (ridge.source.ridge, stiff.source.ridge) == (0.1, 1.0)
        components = 7.0 * (FEWER_COMPONENTS if each.switching else 1.0)
        assert [judge.weight for judge in each.judges] == [0.3, 2.0, 3.0, 5.0, components]
        for judge in (network, excursion):
            assert all((rows == row).all() for rows in judge.rows)
            assert (judge.taught, judge.heavy_tails, judge.own_wander) == (False, False, False)
        for judge in (ridge, stiff, pca):
            for rows, expected in zip(judge.rows, fold_rows(each.lengths), strict=True):
                np.testing.assert_array_equal(rows, expected)
            assert judge.taught == (row < 3)
            assert judge.heavy_tails == judge.own_wander == (judge is not pca)
        # The fleet's row is several machines, and serves one that is none of them.
        assert each.of_one == {row < 3}
    assert north.lengths == [400, 200] and fleet.lengths == [900, 130, 400, 200]


def test_a_site_without_others_or_that_takes_nothing_from_them_is_not_taught(monkeypatch):
    alone = calibrated(monkeypatch, {"north": RUNS["north"]})
    apart = calibrated(monkeypatch, RUNS, prior_rows=0.0)
    assert not any(judge.taught for each in (*alone, *apart) for judge in each.judges)


def linear(
    runs: dict[str, list[np.ndarray]], steps: int = STEPS, variance: float = 0.9, **more: Any
) -> Detector:
    """A detector of ridge and components, fitted on raw runs by site."""
    scaling = {site: moments(of, 5).scaling() for site, of in runs.items()}
    options = DetectorOptions(sources=("ridge", "pca"), min_steps=200, follow_from=300, pca=variance)
    return fit_detector(SPEC, None, SENSORS, 60.0, steps, scaling, runs, options, **more)


def test_a_site_alone_that_is_told_of_others_from_elsewhere_is_taught(monkeypatch):
    scaled = moments(RUNS["east"], 5).scaling().apply(RUNS["east"][0])
    others = RidgeFit(5).summarise(scaled, 0, len(scaled)).per_row()
    found, real = [], fitting.calibrate

    def spy(judges: Any, *more: Any, **named: Any) -> Any:
        found.append([judge.taught for judge in judges])
        return real(judges, *more, **named)

    monkeypatch.setattr(fitting, "calibrate", spy)
    linear({"north": RUNS["north"]}, prior=lambda _: others)
    linear({"north": RUNS["north"]})
    assert found == [[True, True], [False, False], [False, False], [False, False]]


def test_where_the_sums_of_others_come_from_elsewhere_their_rows_are_not_looked_at():
    """Noise may protect those sums, and would not if they were made anew."""
    told, alone = linear(RUNS, prior=lambda _: None), linear({"north": RUNS["north"]})
    for source, expected in zip(told.sources, alone.sources, strict=True):
        (name,) = {"weights", "projection"} & set(source.arrays())
        np.testing.assert_array_equal(source.arrays()[name][2], expected.arrays()[name][0])
    assert not np.array_equal(
        linear(RUNS).sources[0].arrays()["weights"][2], alone.sources[0].arrays()["weights"][0]
    )


@pytest.mark.parametrize("variance", [0.5, 0.985])
def test_components_explain_the_share_of_the_variance_that_the_options_say(variance):
    projection = linear({"north": RUNS["north"]}, variance=variance).sources[-1].arrays()["projection"][0]
    assert np.linalg.matrix_rank(projection, tol=1e-3) == {0.5: 1, 0.985: 2}[variance]


def test_who_is_too_young_has_the_calibration_of_a_typical_other_site_and_they_keep_their_own():
    found = linear(RUNS).calibration
    assert found.threshold[0] != found.threshold[2]
    assert found.threshold[1] == max(found.threshold[[0, 2]])
    np.testing.assert_allclose(found.spread[1], np.sqrt((found.spread[[0, 2]] ** 2).mean(axis=0)), rtol=1e-6)
    assert found.spread[0].tolist() != found.spread[2].tolist()
    young = linear({site: [plant(130, seed) * seed] for seed, site in enumerate("abcd", 1)}).calibration
    for row in range(4):
        assert young.threshold[row] == young.threshold[0] and not young.follow_rate[row]
        # Where its training ended is no machine's: the slow memory begins at a usual step.
        assert not young.centre[row].any() and not young.last_baseline[row].any()
        np.testing.assert_array_equal(young.last_level[row], young.usual[row])


def test_the_slow_memory_of_a_site_of_several_machines_begins_at_a_usual_step_and_of_one_where_it_ended():
    runs = {"one": [plant(400, 1), plant(400, 2)], "two": [plant(400, 3), plant(400, 4)]}
    found = linear(runs, assets={"one": ["a", "a"], "two": ["a", "b"]}).calibration
    for row, same in ((0, False), (1, True)):
        assert np.array_equal(found.last_baseline[row], found.centre[row]) == same
        assert np.array_equal(found.last_level[row], found.usual[row]) == same


def test_a_detector_says_that_it_needs_a_step_behind_those_it_looks_back_at():
    assert linear(RUNS, steps=2).steps == linear(RUNS, steps=2).context + 1 == 4


def test_slow_changes_are_followed_early_where_that_is_advised_and_nowhere_else(monkeypatch):
    assert [each.options.early for each in calibrated(monkeypatch, RUNS, early=("north",))] == [
        False,
        True,
        False,
    ]


def test_what_is_switched_off_is_so_everywhere(monkeypatch):
    for each in calibrated(monkeypatch, RUNS, regimes=False, ordinary=False, fill=False, sharpen=False):
        assert each.of_one == {False}


def test_where_all_sites_are_too_young_they_are_judged_as_one_machine_that_is_not_followed(monkeypatch):
    runs = {site: [plant(130, seed) * seed] for seed, site in enumerate("abcd", 1)}
    *_, together = calibrated(monkeypatch, runs, weights=dict.fromkeys((*ORDER, "zscore"), 2.0))
    assert together.lengths == [130] * 4 and together.options.follow == 0.0 and together.of_one == {False}
    network, excursion, ridge, stiff, pca = together.judges
    for judge in (network, excursion):
        assert [set(rows.tolist()) for rows in judge.rows] == [{0}, {1}, {2}, {3}]
    for judge in (ridge, stiff, pca):
        for rows, expected in zip(judge.rows, fold_rows([130] * 4), strict=True):
            np.testing.assert_array_equal(rows, expected)
        assert judge.heavy_tails == judge.own_wander == (judge is not pca)
    assert {judge.weight for judge in together.judges} == {2.0}


@pytest.mark.parametrize(
    ("most", "kept"),
    [(10, {4: 10}), (25, {4: 25}), (27, {4: 25}), (46, {3: 20, 4: 25}), (50, {1: 4, 3: 20, 4: 25}), (500, {0: 30, 1: 4, 3: 20, 4: 25})],
)  # fmt: skip
def test_a_calibration_looks_at_the_last_rows_of_runs_that_are_long_enough_to_be_scored(
    most, kept, monkeypatch
):
    lengths, context = [30, 4, 3, 20, 25], 3
    numbers = np.split(np.arange(82.0, dtype=np.float32)[:, None], np.cumsum(lengths)[:-1])
    judge = Judge(ZScoreSource(), tuple(run[:, 0].astype(np.int32) for run in numbers), 1.0)
    monkeypatch.setattr(fitting, "_SITE_ROWS", most)
    [cut], runs = fitting._latest([judge], numbers, context)
    expected = [numbers[i][-count:] for i, count in kept.items()]
    for found, rows, want in zip(runs, cut.rows, expected, strict=True):
        np.testing.assert_array_equal(found, want)
        np.testing.assert_array_equal(rows, want[:, 0])


def rows_of(
    runs: dict[str, list[np.ndarray]], assets: dict[str, list[str]] | None = None, **options: Any
) -> TrainingRows:
    """Rows of a detector of frames of 48 steps that looks back at three."""
    scaling = {site: moments(of, 5).scaling() for site, of in runs.items()}
    chosen = DetectorOptions(min_steps=100, **options)
    return training_rows(5, STEPS, 3, scaling, runs, chosen, assets, (), fleet=True)


def test_runs_of_a_frame_are_learned_from_and_a_site_with_so_many_scored_steps_is_calibrated_alone():
    found = rows_of({"a": [plant(48, 1), plant(47, 2)], "b": [plant(102, 3)], "c": [plant(103, 4)]})
    assert [[len(run) for run in runs] for runs in found.raw] == [[48], [102], [103], [48, 102, 103]]
    assert found.alone == (2,) and list(found.of_sites) == [0, 1, 2] and list(found.fleet) == [3]


def test_the_fleet_looks_at_the_last_rows_of_every_run(monkeypatch):
    monkeypatch.setattr("models.training_rows._FLEET_ROWS", 150)
    runs = {"a": [plant(60, 1), plant(90, 2)], "b": [plant(200, 3)]}
    last = rows_of(runs).raw[-1]
    for run, whole in zip(last, (*runs["a"], *runs["b"]), strict=True):
        np.testing.assert_array_equal(run, whole[-50:].astype(np.float32))


def test_what_wanders_is_known_of_the_fleet_and_of_sites_with_rows_enough():
    wanders = [np.random.default_rng(rows).normal(size=(rows, 5)) for rows in (300, 90)]
    for values in wanders:
        values[:, 1] += np.linspace(0, 60, len(values))
    found = rows_of({"old": [wanders[0]], "young": [wanders[1]]}, follow_from=1000)
    steady = [each.steady.tolist() for each in found.traits]
    some, every = [True, False, True, True, True], [True] * 5
    assert steady == [some, every, some]


def test_a_memory_fits_the_machine_watched_longest():
    runs = {"one": [plant(300, 1), plant(200, 2), plant(100, 3)]}
    same, two, three = (
        rows_of(runs, {"one": list(assets)}, follow=0.5, follow_from=400) for assets in ("aaa", "aba", "abc")
    )
    assert [each.options[0].follow for each in (same, two, three)] == [0.5, 0.5 * 400 / 600, 0.0]
    assert (same.mixed, two.mixed, three.mixed) == ((), (0,), (0,))
