"""Labels of some steps only: what lies between two of them cuts neither alarms nor incidents, and counts point by point for nothing."""

import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from models.detector import Scores
from pipeline.artefacts import Evaluation
from pipeline.cli.main import run
from pipeline.datasets.run import Run
from pipeline.evaluation.alarms import alarms
from pipeline.evaluation.judging import Judged, cut_from, judge, label_run
from pipeline.evaluation.metrics import Metrics, evaluate
from pipeline.evaluation.truth import HELD, UNKNOWN, known_stretches
from tests.pipeline.plants import backtest_of, linear_config, plant, write_plants

MINUTE = 60 * 10**9


class Read:
    """A score that can be read off: the first sensor, against 1."""

    def score(self, site, values):
        return Scores(values[:, 0], np.ones(len(values)), np.zeros(values.shape, np.float32))

    def training_threshold(self, site):
        return 1.0


def judged(*parts: tuple[list[float], list[int]], hold_off: float = 60.0) -> Metrics:
    """Figures of runs of one machine, each a score and a label a minute."""
    runs, start = [], 0
    for score, label in parts:
        values = np.array(score, np.float64)[:, None]
        runs.append(Judged(Run("s", "m", start, MINUTE, values), np.array(label, np.int8)))
        start += (len(score) + 30) * MINUTE
    found: Evaluation = judge({"m": {"s": Read()}}, {"s": runs}, 60.0, hold_off)
    return found.sites["s"]["m"]


def thinned(label, every, first=0):
    """The same labels at every so manieth step only."""
    found = np.full(len(label), UNKNOWN)
    found[first::every] = label[first::every]
    return found.tolist()


def spread(stretches, rows):
    """0/1[rows], 1 in each `[begin, end)`."""
    found = np.zeros(rows, int)
    for begin, end in stretches:
        found[begin:end] = 1
    return found


def test_an_alarm_and_an_incident_that_go_through_are_one_each_where_every_third_row_is_labelled():
    label, flagged = spread([(30, 60)], 120), spread([(33, 58), (81, 91)], 120)
    whole, sparse = (judged((2.0 * flagged, of)) for of in (label.tolist(), thinned(label, 3)))
    assert (whole.alarms, whole.false_alarms, whole.events, whole.event_recall) == (2, 1, 1, 1.0)
    assert (sparse.alarms, sparse.false_alarms, sparse.events, sparse.event_recall) == (2, 1, 1, 1.0)
    assert whole.detection_delay == sparse.detection_delay == (180.0,)
    # 90 normal minutes; of the sparse ones two lie between the last label of the incident and the first behind it, two before it and two behind the last label.
    assert whole.false_alarms_per_day == pytest.approx(1440 / 90)
    assert sparse.false_alarms_per_day == pytest.approx(1440 / 86)
    assert (whole.rows, sparse.rows) == (120, 118)


def test_steps_without_a_label_count_for_nothing_point_by_point():
    score = np.array([0, 9, 9, 0, 9, 9, 2, 9, 0, 3, 0, 0, 0, 9, 9, 0], float)
    label = thinned(spread([(6, 10)], 16), 3)
    found = judged((score.tolist(), label))
    assert (found.precision, found.recall, found.f1) == (1.0, 1.0, 1.0)
    assert (found.auc_pr, found.auc_roc, found.vus_pr) == (1.0, 1.0, 1.0)
    assert (found.anomaly_share, found.false_flagged_share) == (2 / 6, 0.0)


def test_an_alarm_of_which_nobody_can_say_whether_it_was_in_an_incident_is_neither_false_nor_right():
    #        labelled       1              0
    label = [0, 0, 0, 1, 1, 1, -1, -1, -1, 0, 0, 0, 0, 0]
    between = judged(([0.0] * 6 + [2.0] * 3 + [0.0] * 5, label))
    assert (between.alarms, between.false_alarms, between.event_recall) == (1, 0, 0.0)
    into = judged(([0.0] * 7 + [2.0] * 4 + [0.0] * 3, label))
    assert (into.alarms, into.false_alarms) == (1, 0)
    behind = judged(([0.0] * 10 + [2.0] * 4, label))
    assert (behind.alarms, behind.false_alarms) == (1, 1)


def test_a_stretch_without_labels_that_is_longer_than_the_usual_distance_says_is_left_out():
    label = thinned(np.zeros(90, int), 3)
    label[31 : 31 + HELD * 3] = [UNKNOWN] * (HELD * 3)
    found = judged(([2.0] * 90, label))
    assert (found.alarms, found.false_alarms) == (2, 2)
    # From 0 to 30 and from 48 to 87: the labels of 33 to 45 are gone, 18 minutes without one.
    assert found.rows == 31 + 40
    closer = thinned(np.zeros(90, int), 3)
    closer[31 : 31 + HELD * 3 - 3] = [UNKNOWN] * (HELD * 3 - 3)
    assert judged(([2.0] * 90, closer)).alarms == 1


def test_neither_alarm_nor_incident_reaches_from_one_run_into_the_next():
    part = ([2.0] * 9, thinned(np.ones(9, int), 2))
    normal = ([0.0] * 9, thinned(np.zeros(9, int), 2))
    found = judged(part, part, normal)
    assert (found.alarms, found.events) == (2, 2)


def test_labels_on_one_site_say_nothing_of_machines_labelled_more_rarely():
    """Each machine has its own usual distance."""
    often = Judged(Run("s", "a", 0, MINUTE, np.zeros((40, 1))), np.zeros(40, np.int8))
    rare = Judged(
        Run("s", "b", 0, MINUTE, np.full((41, 1), 2.0)), np.array(thinned(np.zeros(41, int), 20), np.int8)
    )
    found = judge({"m": {"s": Read()}}, {"s": [often, rare]}, 60.0, 60.0).sites["s"]["m"]
    assert (found.alarms, found.false_alarms, found.rows) == (1, 1, 81)


def test_a_step_has_the_labels_of_the_readings_since_the_one_before_and_one_without_a_reading_keeps_the_last():
    readings = [
        # minute, machine, label
        (0.5, "m", 1),
        (1.5, "m", 1),
        (2.5, "m", 1),
        (3.0, "m", 0),
        (3.5, "m", np.nan),
        (4.0, "m", 0),
        (5.5, "m", np.nan),
        (7.5, "n", 1),
        (10.5, "m", 1),
    ]
    frame = pd.DataFrame(readings, columns=["timestamp", "asset", "label"])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"] * 60, unit="s", utc=True)
    # Steps at minutes 3 to 10.
    run_of = Run("s", "m", 3 * MINUTE, MINUTE, np.zeros((8, 1)))
    assert label_run(run_of, frame).tolist() == [1, 0, 0, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]
    assert label_run(run_of, frame[:6]).tolist() == [1] + [0] * 7
    assert label_run(run_of, frame[:2]).tolist() == [UNKNOWN] * 8
    assert label_run(run_of, None).tolist() == [UNKNOWN] * 8


@pytest.mark.parametrize(
    ("score", "told"),
    [
        ([0.1, 0.2, 0.1, 0.9, 0.8, 0.1], True),
        ([0.1, 0.2, 0.1, 0.9, 1.1, 0.1], False),
        ([0.9, 0.8, 0.7, 0.1, 0.2, 0.6], False),
    ],
)
def test_incidents_that_score_highest_and_are_not_flagged_are_told(score, told):
    run = Run("s", "m", 0, MINUTE, np.array(score)[:, None])
    runs = {"s": [Judged(run, np.array([0, 0, 0, 1, 1, 0], np.int8))]}
    notes = judge({"federated": {"s": Read()}}, runs, 60.0, 60.0).notes
    assert told == any(
        note.startswith("s: incidents score highest, but all of it lies below") for note in notes
    )
    assert judge({"pca": {"s": Read()}}, runs, 60.0, 60.0).notes == ()


@pytest.mark.parametrize(
    ("from_minutes", "begins", "lead"), [(16.5, 4, 3), (19.0, 6, 3), (11.0, 0, 1), (9, 0, 0)]
)
def test_what_is_judged_begins_at_an_instant_and_brings_the_rows_that_fill_a_detector(
    from_minutes, begins, lead
):
    values, label = np.arange(10.0)[:, None], np.arange(10, dtype=np.int8) % 2
    run_of = Run("s", "m", 10 * MINUTE, MINUTE, values)
    found = cut_from(run_of, label, int(from_minutes * MINUTE), memory=3)
    assert found is not None
    assert found.lead == lead and found.run.start_ns == (10 + begins) * MINUTE
    np.testing.assert_array_equal(found.run.values, values[begins:])
    np.testing.assert_array_equal(found.label, label[begins:])
    assert cut_from(run_of, label, int(19.5 * MINUTE), memory=3) is None


def test_an_incident_before_the_time_that_is_judged_is_not_taken_for_one_behind_it():
    label = np.array([1, 1, 0, 0, 0, 0], np.int8)
    part = Judged(Run("s", "m", 0, MINUTE, np.zeros((6, 1))), label, 2)
    notes = judge({"m": {"s": Read()}}, {"s": [part]}, 60.0, 60.0).notes
    assert notes == ("s: no incident is labelled after training, so only alarms could be counted",)


LENGTHS = st.lists(st.integers(6, 25), min_size=1, max_size=8)


@given(LENGTHS, st.booleans(), st.integers(1, 5), st.lists(st.booleans(), min_size=150, max_size=150))
def test_labels_at_every_nth_step_count_the_alarms_and_incidents_of_all_of_them(lengths, first, every, flags):
    label = np.concatenate([np.full(n, (i + first) % 2) for i, n in enumerate(lengths)])
    rows = (len(label) - 1) // every * every + 1
    label = label[:rows]
    score = np.resize(np.array(flags, float) * 2.0, rows)
    whole, sparse = (judged((score.tolist(), of)) for of in (label.tolist(), thinned(label, every)))
    assert (sparse.rows, sparse.alarms, sparse.alarms_per_day) == (
        whole.rows,
        whole.alarms,
        whole.alarms_per_day,
    )
    assert sparse.events == whole.events
    # What is known to be false is.
    assert sparse.false_alarms <= whole.false_alarms
    known = label[::every]
    if known.any() and not known.all():
        assert sparse.auc_pr == pytest.approx(average_precision_score(known, score[::every]))
        assert sparse.auc_roc == pytest.approx(roc_auc_score(known, score[::every]))
        assert sparse.vus_pr == evaluate(score[::every], known, 1.0, 60.0).vus_pr
    if every == 1:
        assert asdict(sparse) == asdict(whole)


PARTS = st.lists(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 2.0, np.nan]), st.booleans()), min_size=1, max_size=40),
    min_size=1,
    max_size=4,
)


@given(PARTS)
def test_complete_labels_give_the_figures_of_the_bare_arrays(parts):
    """Alarms, incidents and rates as they were counted before labels could be sparse."""
    split = [([s for s, _ in part], [int(t) for _, t in part]) for part in parts]
    score = np.concatenate([[*s, np.nan] for s, _ in split])
    label = np.concatenate([[*t, 0] for _, t in split]).astype(bool)
    expected = evaluate(score, label, 1.0, 60.0, training_threshold=1.0, hold_off=60.0)
    found = judged(*split)
    assert asdict(found) == asdict(expected)
    called = alarms(score > 1.0, ~np.isnan(score), 1)
    assert found.alarms == len(called)
    assert found.false_alarms == sum(not label[a:b].any() for a, b in called)


@given(st.lists(st.sampled_from([0, 1, UNKNOWN, UNKNOWN]), max_size=60), st.integers(1, 10))
def test_known_stretches_hold_every_label_once_and_reach_no_further_than_told(label, most):
    label, time = np.array(label, np.int8), np.arange(len(label))
    found = known_stretches(time, label, most)
    held = np.full(len(label), UNKNOWN, np.int8)
    for begin, end, value in found:
        assert (held[begin:end] == UNKNOWN).all()
        held[begin:end] = value
    assert (held[label != UNKNOWN] == label[label != UNKNOWN]).all()
    for begin, end, value in found:
        own = begin + np.flatnonzero(label[begin:end] != UNKNOWN)
        assert own[0] == begin and own[-1] == end - 1 and (label[own] == value).all()
        assert (np.diff(own) <= most).all()
    for (_, end, value), (begin, _, following) in pairwise(found):
        assert value != following or begin - (end - 1) > most


def test_a_backtest_with_every_third_row_labelled_counts_what_one_with_all_of_them_does(tmp_path, capsys):
    config = linear_config(tmp_path)
    whole = {"east": plant(1), "west": plant(2)}
    sparse = {site: of.assign(label=of["label"].where(of.index % 3 == 0)) for site, of in whole.items()}
    figures = []
    for name, plants in (("whole", whole), ("sparse", sparse)):
        data = write_plants(tmp_path / name, plants)
        assert run([*backtest_of(data, config), "--json", "--mode", "pca"]) == 0
        figures.append(json.loads(capsys.readouterr().out)["sites"])
    for site in whole:
        every, third = (of[site]["pca"] for of in figures)
        assert (
            (third["events"], third["event_recall"]) == (every["events"], every["event_recall"]) == (1, 1.0)
        )
        assert third["alarms"] == every["alarms"] and third["false_alarms"] <= every["false_alarms"]
