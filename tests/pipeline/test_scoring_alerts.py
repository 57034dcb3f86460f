"""An alert is one event with two messages, the same however the steps are batched, and its name is deterministic."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scoring.alerts import (
    CLOSED,
    OPEN,
    AlertSource,
    AlertTracker,
    Change,
    Contribution,
    alert_id,
    event_of_message,
    flagged_runs,
    iso_utc,
    message,
    parse_iso_utc,
    top_contributions,
)

S = 10**9
HOLD = 180 * S
SOURCE = AlertSource("plant-a", "pump<3>", "fleet", 4, True)


def run(scores, sizes=()):
    time = np.arange(len(scores), dtype=np.int64) * 60 * S
    score = np.asarray(scores, float)
    tracker, changes, at, sizes = AlertTracker(HOLD), [], 0, list(sizes)
    while at < len(scores):
        part = slice(at, at + (sizes.pop(0) if sizes else len(scores)))
        base = at
        changes += tracker.advance(
            time[part],
            score[part],
            np.ones(len(score[part])),
            lambda i, base=base: (Contribution("s", float(score[base + i])),),
        )
        at = part.stop
    return changes, tracker


def test_a_day_above_the_threshold_is_two_messages():
    changes, tracker = run([0.5] + [3.0] * 1440 + [0.5] * 10)
    assert [c.state for c in changes] == [OPEN, CLOSED]
    assert changes[1].event.steps == 1440
    assert changes[1].event.last_ns - changes[1].event.start_ns == 1439 * 60 * S
    assert tracker.current is None


def test_a_pause_within_the_hold_off_does_not_end_an_alert_and_a_longer_one_does():
    changes, tracker = run([2, 0, 0, 2, 0, 0, 0, 0, 2])
    assert [(c.state, c.event.start_ns // (60 * S)) for c in changes] == [(OPEN, 0), (CLOSED, 0), (OPEN, 8)]
    assert changes[1].event.last_ns == 3 * 60 * S
    assert tracker.current is not None


def test_the_closing_message_tells_the_peak_and_its_sensors():
    changes, _ = run([2, 7, 3, 0, 0, 0, 0, 0])
    event = changes[-1].event
    assert (event.first_score, event.peak_score, event.last_score) == (2.0, 7.0, 3.0)
    assert event.peak_ns == 60 * S
    assert event.sensors == (Contribution("s", 7.0),)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([0.0, 2.0, 3.0, np.nan]), min_size=1, max_size=60), st.lists(st.integers(1, 9))
)
def test_any_batching_gives_the_same_changes(scores, sizes):
    whole, one = run(scores)
    parts, many = run(scores, sizes)
    assert whole == parts
    assert one.current == many.current


@settings(max_examples=100)
@given(st.lists(st.sampled_from([0.0, 2.0]), min_size=1, max_size=60))
def test_the_report_counts_the_same_alerts_as_were_sent(scores):
    changes, _ = run(scores)
    time = np.arange(len(scores), dtype=np.int64) * 60 * S
    runs = flagged_runs(time, np.asarray(scores) > 1, HOLD)
    assert [int(time[r[0]]) for r in runs] == [c.event.start_ns for c in changes if c.state == OPEN]


def test_a_message_holds_the_documented_keys_and_reads_back():
    changes, _ = run([2, 7, 3, 0, 0, 0, 0, 0])
    raw = json.loads(message(changes[1], SOURCE))
    assert raw["alert_id"] == alert_id("plant-a", "pump<3>", 0, "fleet", 4)
    assert raw["event_time"] == raw["ended"] == "1970-01-01T00:02:00.000Z"
    assert (raw["score"], raw["peak_score"], raw["threshold"], raw["duration_s"]) == (3.0, 7.0, 1.0, 120.0)
    assert raw["top_sensors"] == [{"sensor": "s", "contribution": 7.0, "value": None}]
    assert (raw["model_version"], raw["known_site"], raw["state"]) == (4, True, "closed")
    asset, state, event = event_of_message(message(changes[0], SOURCE))
    assert (asset, state, event.start_ns, event.peak_score) == ("pump<3>", OPEN, 0, 2.0)


def test_an_alert_says_which_sensors_not_to_rely_on_and_that_reads_back():
    tracker = AlertTracker(HOLD)
    changes = tracker.advance(
        np.arange(2) * 60 * S,
        np.array([2.0, 3.0]),
        np.ones(2),
        lambda i: (),
        lambda i: (("heat", "stuck"), ("flow", "dead"))[: i + 1],
    )
    text = message(changes[0], SOURCE)
    assert json.loads(text)["sensors_suspect"] == [{"sensor": "heat", "state": "stuck"}]
    assert event_of_message(text)[2].suspects == (("heat", "stuck"),)
    assert tracker.current.suspects == (("heat", "stuck"), ("flow", "dead"))


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"schema":"other"}'])
def test_a_foreign_message_in_the_alert_topic_is_told_apart(value):
    with pytest.raises(ValueError, match=r"schema|not an alert"):
        event_of_message(value)


def test_names_differ_by_machine_start_and_version():
    names = {
        alert_id("a", "b", 0, "d", 1),
        alert_id("ab", "", 0, "d", 1),
        alert_id("a", "b", 1, "d", 1),
        alert_id("a", "b", 0, "d", 2),
    }
    assert len(names) == 4
    assert alert_id("a", "b", 0, "d", 1) in names


def test_times_are_utc_with_milliseconds():
    assert iso_utc(1_772_359_200_250_999_999) == "2026-03-01T10:00:00.250Z"
    assert parse_iso_utc("2026-03-01T10:00:00.250Z") == 1_772_359_200_250_000_000


def test_largest_contributions_come_first_and_unknown_ones_never():
    found = top_contributions(
        np.array([1.0, np.nan, 5.0, 0.0]), np.array([9.0, 9.0, np.nan, 9.0]), ["a", "b", "c", "d"], 3
    )
    assert found == (Contribution("c", 5.0, None), Contribution("a", 1.0, 9.0))


def test_change_is_a_value():
    changes, _ = run([2])
    assert changes[0] == Change(OPEN, changes[0].event)
