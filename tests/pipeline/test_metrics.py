import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.artefacts import Evaluation
from pipeline.evaluation.metrics import Metrics, evaluate


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60))
def test_areas_equal_scikit_learn_with_ties(points):
    score, label = np.array([p[0] for p in points], float), np.array([p[1] for p in points], int)
    found = evaluate(score, label, 2.5, 60.0)
    if label.any() and not label.all():
        assert found.auc_pr == pytest.approx(average_precision_score(label, score))
        assert found.auc_roc == pytest.approx(roc_auc_score(label, score))
    else:
        assert found.auc_pr is None and found.auc_roc is None
    json.dumps(Evaluation({"s": {"m": found}}).to_json(), allow_nan=False)


def test_hand_computed_run():
    score = np.array([np.nan, 5, 0, 0, 3, 3, 0, 0, 0, 0])
    label = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1])
    found = evaluate(score, label, 1.0, 8640.0)
    assert (found.precision, found.recall, found.f1) == (2 / 3, 2 / 5, 0.5)
    assert found.detection_delay == (8640.0, None)
    assert found.event_recall == 0.5
    assert found.false_alarms_per_day == pytest.approx(1 / 0.4)
    assert (found.rows, found.events) == (9, 2)
    # Of the nine steps that were scored, a tenth of a day each.
    assert (found.flagged_share, found.false_flagged_share, found.anomaly_share) == (3 / 9, 1 / 4, 5 / 9)
    assert found.alarms_per_day == pytest.approx(2 / 0.9)


def test_points_are_counted_at_the_training_threshold_and_alarms_at_the_risen_one():
    score = np.array([2, 0, 0, 3, 3, 0, 0, 2, 0, 0], float)
    label = np.array([0, 0, 0, 1, 1, 0, 0, 0, 0, 0])
    risen = np.array([1, 1, 1, 1, 1, 2, 2, 2.5, 2.5, 2.5])
    found = evaluate(score, label, risen, 8640.0, training_threshold=1.0)
    assert (found.precision, found.recall) == (2 / 4, 1.0)
    assert (found.alarms, found.false_alarms, found.false_flagged_share) == (2, 1, 1 / 8)
    assert (found.threshold, found.threshold_rise) == (1.0, 2.5)
    kept = evaluate(score, label, 1.0, 8640.0)
    assert (kept.false_alarms, kept.f1, kept.threshold_rise) == (2, found.f1, 1.0)


def test_one_class_no_labels_and_nothing_scored_have_no_figure_instead_of_a_wrong_one():
    assert evaluate([1.0, 2.0], [0, 0], 1.5, 60.0).auc_pr is None
    everything = evaluate([1.0, 2.0], [1, 1], 1.5, 60.0)
    assert (everything.auc_pr, everything.auc_roc, everything.vus_pr) == (None, None, None)
    assert everything.recall == 0.5 and everything.false_alarms_per_day is None
    unlabelled = evaluate([1.0, 2.0], None, 1.5, 43200.0)
    assert (unlabelled.f1, unlabelled.flagged_share, unlabelled.alarms_per_day) == (None, 0.5, 1.0)
    assert evaluate([np.nan, np.nan], [0, 1], 1.0, 60.0).rows == 0


def test_flags_within_the_hold_off_are_one_alarm_and_true_if_it_overlaps_an_incident():
    score = np.zeros(1440)
    score[[10, 12, 14, 100, 300, 305, 700]] = 2.0
    label = np.zeros(1440)
    label[302:304] = 1
    found = evaluate(score, label, 1.0, 60.0)
    # 10, 12 and 14 lie within ten minutes of each other; the alarm of 300 and 305 holds the incident between its flags.
    assert (found.alarms, found.false_alarms) == (4, 3)
    assert found.false_alarms_per_day == pytest.approx(3 * 1440 / 1438)
    assert found.false_alarms_per_week == pytest.approx(7 * 3 * 1440 / 1438)
    assert found.false_flagged_share == pytest.approx(7 / 1438)
    assert found.event_recall == 0
    assert evaluate(score, label, 1.0, 60.0, hold_off=60.0).alarms == 7


def test_quantiles_are_scores_that_were_seen_and_an_infinite_one_is_not_interpolated_towards():
    quantiles = evaluate(np.r_[np.arange(1, 1000.0), np.inf], None, 1.0, 60.0).score_quantiles
    assert quantiles == {"0.5": 500.0, "0.9": 900.0, "0.99": 990.0, "0.999": 999.0}
    # Where a quantile itself is infinite there is none to tell.
    assert evaluate([1.0, np.inf, np.inf], None, 1.0, 60.0).score_quantiles == {}


def test_figures_are_read_back_as_they_were_and_those_of_later_versions_are_passed_over():
    found = evaluate([1.0, 2.0, 0.0, 3.0], [0, 1, 0, 1], 1.5, 60.0)
    raw = json.loads(json.dumps(dataclasses.asdict(found)))
    assert Metrics.from_json({**raw, "of_tomorrow": 1.0}) == found
    assert Metrics.from_json({}) == Metrics()


def test_without_a_training_threshold_the_lowest_counts_and_lengths_that_differ_are_refused():
    score, label = [2.0, 2.0, 0.0], [1, 0, 0]
    found = evaluate(score, label, [1.0, 3.0, 4.0], 60.0)
    assert (found.threshold, found.threshold_rise, found.precision, found.false_alarms) == (1.0, 4.0, 0.5, 0)
    for wrong in ([0], [0, 0, 0, 1], [[0, 0, 1]]):
        with pytest.raises(ValueError, match="equal length"):
            evaluate(score, wrong, 1.0, 60.0)
