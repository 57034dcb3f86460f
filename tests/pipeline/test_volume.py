"""VUS-PR against figures that the authors' package `vus` 0.0.6 printed (`RangeAUC_volume_opt`, 250 thresholds)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.adjusted import point_adjusted
from pipeline.evaluation.alarms import alarms, stretches
from pipeline.evaluation.volume import vus_pr


def wave(rows, speed):
    """Numbers in [-1, 1] that look unordered and are the same everywhere."""
    step = np.arange(rows)
    return np.round(np.sin(speed * step**1.5) * np.cos(0.7 * step), 6)


def case(name):
    """Scores and labels; the same lines were given to the package."""
    if name == "one incident":
        truth = np.arange(300) // 30 == 4
        return wave(300, 1.3) + 0.8 * truth, truth
    if name == "edges and neighbours":
        truth = np.zeros(400, bool)
        for start, end in ((0, 7), (50, 52), (54, 55), (58, 70), (395, 400)):
            truth[start:end] = True
        return wave(400, 0.9) + 0.7 * truth, truth
    truth = np.arange(500) % 13 == 5
    return np.round(3 * (wave(500, 2.1) + 0.5 * truth)), truth


PRINTED = {
    ("one incident", 0): 0.6262403403169534,
    ("one incident", 7): 0.6306645581116648,
    ("one incident", 20): 0.6394580796856684,
    ("one incident", 100): 0.6857332669827033,
    ("edges and neighbours", 0): 0.4011584362036644,
    ("edges and neighbours", 7): 0.46922644479617154,
    ("edges and neighbours", 20): 0.5291557542334151,
    ("edges and neighbours", 100): 0.6852894078409136,
    ("many short with ties", 0): 0.16557048346360392,
    ("many short with ties", 7): 0.3506647395726645,
    ("many short with ties", 20): 0.6739800880950174,
    ("many short with ties", 100): 0.9320527312389323,
}


@pytest.mark.parametrize(("name", "buffer"), list(PRINTED))
def test_the_volume_is_the_packages(name, buffer):
    score, truth = case(name)
    assert vus_pr(score, truth, buffer=buffer) == pytest.approx(PRINTED[name, buffer], abs=1e-12)


def test_a_buffer_forgives_a_detector_that_is_a_few_steps_late():
    truth = np.arange(1000) // 50 == 10
    score = np.roll(truth, 5) + wave(1000, 1.1) / 10
    assert vus_pr(score, truth, buffer=0) < vus_pr(score, truth, buffer=40) < 1
    assert vus_pr(score, np.zeros(1000, bool)) is None


@given(st.integers(1, 8), st.integers(0, 30))
def test_steps_without_a_score_change_nothing_and_no_buffer_reaches_over_them(blanks, buffer):
    left, right = case("one incident"), (wave(120, 0.4), np.zeros(120, bool))
    gap = (np.full(blanks, np.nan), np.zeros(blanks, bool))
    score, truth = (np.concatenate(parts) for parts in zip(left, gap, right, strict=True))
    more = np.full(40, np.nan)
    longer = np.concatenate([score[: len(left[0])], more, score[len(left[0]) :]])
    labels = np.concatenate([truth[: len(left[0])], more == 0, truth[len(left[0]) :]])
    assert vus_pr(score, truth, buffer=buffer) == pytest.approx(vus_pr(longer, labels, buffer=buffer))


@given(st.integers(0, 100), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_stretches_that_were_scored_count_alike_in_any_order_and_behind_any_silence(buffer, before, after):
    # Incidents at both ends of the second, in reach of what lies beyond the silence.
    parts = [case("one incident"), case("edges and neighbours"), (wave(90, 0.6), np.arange(90) < 4)]

    def volume(*order):
        silence = (np.full(before, np.nan), np.ones(before, bool))
        pieces = [each for place in order for each in (silence, parts[place])]
        score, truth = (np.concatenate(column) for column in zip(*pieces, strict=True))
        return vus_pr(
            np.r_[score, np.full(after, np.nan)], np.r_[truth, np.zeros(after, bool)], buffer=buffer
        )

    found = volume(0, 1, 2)
    assert volume(1, 2, 0) == volume(2, 0, 1) == pytest.approx(found)
    assert volume(1) == pytest.approx(vus_pr(*parts[1], buffer=buffer))


def test_thirty_thousand_steps_with_a_thousand_incidents_take_seconds():
    rows = 30_000
    truth = np.arange(rows) % 30 < 3
    assert 0 < vus_pr(wave(rows, 1.7) + truth, truth) <= 1


def test_an_alarm_is_what_the_live_scorer_would_send():
    flagged = np.array([1, 0, 0, 1, 1, 0, 0, 0, 1], bool)
    scored = np.ones(9, bool)
    assert alarms(flagged, scored, hold_off=3) == [(0, 5), (8, 9)]
    assert alarms(flagged, scored, hold_off=0) == [(0, 1), (3, 5), (8, 9)]
    scored[1] = False
    assert alarms(flagged, scored, hold_off=9) == [(0, 1), (3, 9)]
    assert stretches(flagged) == [(0, 1), (3, 5), (8, 9)]
    assert alarms([], [], hold_off=1) == []


def test_point_adjustment_flatters_a_random_score():
    truth = np.arange(20_000) % 1000 < 100
    found = point_adjusted(wave(20_000, 1.3), truth)
    assert found.f1 > 0.7 and found.random_f1 > 0.7
    assert point_adjusted(truth.astype(float), truth).f1 == 1.0
    assert point_adjusted(wave(10, 1.0), np.zeros(10, bool)) is None
