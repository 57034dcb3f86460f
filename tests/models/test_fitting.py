"""By what each row of a detector is calibrated: its sources, their weights, and rows that none of them was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from models import fitting
from models.architectures import TcnSpec, build
from models.fitting import fit_detector
from models.judges import Judge
from models.options import DetectorOptions
from models.scaling import moments
from models.sources.folds import fold_rows
from models.sources.ridge import RidgeSource
from models.sources.zscore import ZScoreSource
from models.switching import FEWER_COMPONENTS
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
    more: dict[str, bool]


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
        judges: Any, runs: Any, context: int, step: float, options: Any, switching: bool = False, **more: bool
    ) -> Any:
        found.append(Calibrated(judges, [len(run) for run in runs], options, switching, more))
        return real(judges, runs, context, step, options, switching, **more)

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
        assert each.more == dict.fromkeys(("regimes", "discounts", "fills"), row < 3)
    assert north.lengths == [400, 200] and fleet.lengths == [900, 130, 400, 200]


def test_a_site_without_others_or_that_takes_nothing_from_them_is_not_taught(monkeypatch):
    alone = calibrated(monkeypatch, {"north": RUNS["north"]})
    apart = calibrated(monkeypatch, RUNS, prior_rows=0.0)
    assert not any(judge.taught for each in (*alone, *apart) for judge in each.judges)


def test_slow_changes_are_followed_early_where_that_is_advised_and_nowhere_else(monkeypatch):
    assert [each.options.early for each in calibrated(monkeypatch, RUNS, early=("north",))] == [
        False,
        True,
        False,
    ]


def test_what_is_switched_off_is_so_everywhere(monkeypatch):
    for each in calibrated(monkeypatch, RUNS, regimes=False, ordinary=False, fill=False):
        assert not any(each.more.values())


def test_where_all_sites_are_too_young_they_are_judged_as_one_machine_that_is_not_followed(monkeypatch):
    runs = {site: [plant(130, seed) * seed] for seed, site in enumerate("abcd", 1)}
    *_, together = calibrated(monkeypatch, runs, weights=dict.fromkeys((*ORDER, "zscore"), 2.0))
    assert together.lengths == [130] * 4 and together.options.follow == 0.0
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
