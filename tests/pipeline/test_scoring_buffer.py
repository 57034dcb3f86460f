"""The live buffer gives the same grid whatever the batches, holds values for a bounded time and never across a gap."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.resample import resample_site
from pipeline.errors import ConfigError
from pipeline.scoring.buffer import AssetGrid, GridRules, Held
from pipeline.scoring.memory import Memory

S = 10**9
RULES = GridRules(step_ns=60 * S, max_gap_ns=180 * S, tolerance_ns=30 * S)
SLOW = GridRules(step_ns=60 * S, max_gap_ns=180 * S, tolerance_ns=30 * S, hold_ns=(180 * S, 800 * S))
"""The second sensor reports rarely."""


def feed(grid, readings, sizes=None):
    """All steps as {time: values} and the list of breaks, feeding in pieces of the given sizes."""
    steps, breaks, at = {}, [], 0
    sizes = list(sizes or [len(readings)])
    while at < len(readings):
        size = sizes.pop(0) if sizes else len(readings)
        part = readings[at : at + size]
        at += size
        for stretch in grid.add(np.array([r[0] for r in part]), np.array([r[1] for r in part], float)):
            if not stretch.continues:
                breaks.append(int(stretch.time_ns[0]))
            for time, row in zip(stretch.time_ns, stretch.values, strict=True):
                assert int(time) not in steps
                steps[int(time)] = row
    return steps, breaks


def expected(readings, rules, sensors):
    """The same by the definition: walk through the final steps one by one."""
    kept, newest = [], None
    for time, values in readings:
        final = None if newest is None else (newest - rules.tolerance_ns) // rules.step_ns * rules.step_ns
        if final is None or time > final:
            kept.append((time, values))
        newest = time if newest is None else max(newest, time)
    kept = [(-(-t // rules.step_ns) * rules.step_ns, v) for t, v in sorted(kept, key=lambda r: r[0])]
    kept = [(t, v) for t, v in kept if not np.isnan(v).all()]
    last = (newest - rules.tolerance_ns) // rules.step_ns * rules.step_ns
    steps = {}
    if not kept:
        return steps
    step = kept[0][0]
    while step <= last:
        seen = [r for r in kept if r[0] <= step]
        if step - seen[-1][0] <= rules.max_gap_ns:
            row = np.full(sensors, np.nan)
            for time, values in seen:
                for j, v in enumerate(values):
                    if not np.isnan(v):
                        row[j] = (
                            v if step - time <= (rules.hold_ns or [rules.max_gap_ns] * sensors)[j] else np.nan
                        )
            steps[step] = row
        step += rules.step_ns
    return steps


readings = st.lists(
    st.tuples(
        st.integers(-200, 200),
        st.lists(st.sampled_from([np.nan, 1.0, 2.0, 3.0]), min_size=2, max_size=2),
    ),
    min_size=1,
    max_size=40,
).map(lambda steps: [(max(1, 100_000 + 25 * i + jump) * S, v) for i, (jump, v) in enumerate(steps)])


either = st.sampled_from([RULES, SLOW])


@settings(max_examples=200)
@given(either, readings, st.lists(st.integers(1, 7), max_size=40))
def test_any_batching_gives_the_steps_of_the_definition(rules, messages, sizes):
    steps, _ = feed(AssetGrid(rules, 2), messages, sizes)
    wanted = expected(messages, rules, 2)
    assert list(steps) == list(wanted)
    for time, row in wanted.items():
        np.testing.assert_array_equal(steps[time], row)


@settings(max_examples=100)
@given(readings, st.lists(st.integers(1, 7), max_size=40))
def test_late_count_and_breaks_do_not_depend_on_batching(messages, sizes):
    one, many = AssetGrid(RULES, 2), AssetGrid(RULES, 2)
    assert feed(one, messages)[1] == feed(many, messages, sizes)[1]
    assert one.late == many.late


rare = st.lists(
    st.tuples(st.integers(-60, 60), st.sampled_from([1.0, 2.0]), st.sampled_from([np.nan] * 9 + [3.0, 4.0])),
    min_size=8,
    max_size=40,
).map(lambda steps: [((100_000 + 60 * i + jump) * S, [a, b]) for i, (jump, a, b) in enumerate(steps)])
"""Readings whose second sensor reports a tenth as often as the first."""


@settings(max_examples=200)
@given(either, rare, st.data())
def test_what_was_known_at_a_step_and_the_readings_around_it_give_all_later_steps_again(
    rules, messages, data
):
    whole, _ = feed(AssetGrid(rules, 2), messages)
    before = data.draw(st.integers(1, len(messages)))
    first = AssetGrid(rules, 2)
    stretches = first.add(
        np.array([m[0] for m in messages[:before]]), np.array([m[1] for m in messages[:before]])
    )
    if not stretches:
        return
    at, held = int(stretches[-1].time_ns[-1]), stretches[-1].held
    # Reading again begins so far back that runs are cut in the same places.
    back = rules.max_gap_ns + rules.tolerance_ns + 2 * rules.step_ns
    newest = np.maximum.accumulate([m[0] for m in messages])
    begin = max(0, int(np.searchsorted(newest, at - back, side="right")) - 1)
    again, _ = feed(AssetGrid(rules, 2, held), messages[begin:])
    later = {time: row for time, row in whole.items() if time > at}
    assert [time for time in again if time > at] == list(later)
    for time, row in later.items():
        np.testing.assert_array_equal(again[time], row)


@settings(max_examples=100)
@given(either, readings)
def test_the_live_grid_is_that_of_training(rules, messages):
    messages = sorted(messages, key=lambda m: m[0])
    # A last reading far behind makes every step final; what is held into a gap has no counterpart in a finished run.
    last = messages[-1][0] + 10_000 * S
    steps, _ = feed(AssetGrid(rules, 2), [*messages, (last, [1.0, 1.0]), (last + 1000 * S, [1.0, 1.0])])
    table = pa.table(
        {
            "event_time": pa.array([m[0] for m in messages], pa.int64()).cast(pa.timestamp("ns", "UTC")),
            "asset": pa.array(["m"] * len(messages), pa.string()),
            "a": pa.array([m[1][0] for m in messages], pa.float64()),
            "b": pa.array([m[1][1] for m in messages], pa.float64()),
        }
    )
    runs = resample_site(
        "s", [table], step_ns=rules.step_ns, max_gap_ns=rules.max_gap_ns, hold_ns=rules.hold_ns
    ).runs
    for run in runs:
        for time, row in zip(run.times_ns, run.values, strict=True):
            np.testing.assert_array_equal(steps.pop(int(time)), row)
    ends = [run.end_ns for run in runs]
    held = [t for t in steps if t < last]
    assert all(any(end < t <= end + rules.max_gap_ns for end in ends) for t in held)


def test_a_value_is_held_for_the_longest_gap_and_a_longer_silence_starts_anew():
    grid = AssetGrid(RULES, 1)
    steps, breaks = feed(grid, [(600 * S, [1.0]), (1200 * S, [2.0]), (1400 * S, [3.0])])
    assert sorted(t // S for t in steps) == [600, 660, 720, 780, 1200, 1260, 1320]
    assert [t // S for t in breaks] == [600, 1200]
    assert steps[780 * S] == [1.0]


def test_a_sensor_that_falls_silent_becomes_unknown_while_the_machine_goes_on():
    messages = [(600 * S + i * 60 * S, [1.0 if i == 0 else np.nan, float(i)]) for i in range(8)]
    steps, _ = feed(AssetGrid(RULES, 2), messages)
    assert [steps[600 * S + i * 60 * S][0] for i in range(4)] == [1.0] * 4
    assert np.isnan(steps[600 * S + 4 * 60 * S][0])
    assert steps[600 * S + 6 * 60 * S][1] == 6.0


def test_late_and_duplicate_readings_are_counted_and_change_nothing():
    grid = AssetGrid(RULES, 1)
    messages = [(600 * S, [1.0]), (700 * S, [2.0]), (700 * S, [2.0]), (590 * S, [9.0]), (800 * S, [3.0])]
    steps, _ = feed(grid, messages)
    assert (grid.late, grid.duplicate) == (1, 1)
    assert {t // S: float(v[0]) for t, v in steps.items()} == {600: 1.0, 660: 1.0, 720: 2.0}


def test_narrow_messages_of_one_moment_are_joined():
    grid = AssetGrid(RULES, 2)
    steps, _ = feed(grid, [(600 * S, [1.0, np.nan]), (600 * S, [np.nan, 5.0]), (800 * S, [np.nan, 6.0])])
    np.testing.assert_array_equal(steps[600 * S], [1.0, 5.0])
    assert grid.duplicate == 0


def test_a_jump_of_years_neither_fills_memory_nor_joins_what_is_apart():
    grid = AssetGrid(RULES, 1)
    year = 365 * 86_400
    steps, breaks = feed(
        grid, [(600 * S, [1.0]), ((600 + 20 * year) * S, [2.0]), ((1000 + 20 * year) * S, [2.0])]
    )
    assert len(steps) < 12
    assert len(breaks) == 2
    assert grid.pending <= 1


@pytest.mark.parametrize("rules", [(0, 1, 0), (60, 59, 0), (60, 60, -1)])
def test_a_grid_that_cannot_work_is_refused(rules):
    with pytest.raises(ConfigError):
        GridRules(*rules)


def test_a_detector_with_other_sensors_takes_over_the_values_that_it_knows_by_name():
    held = Held(np.array([1.5, np.nan, 7.0]), np.array([10, 0, 30], np.int64))
    memory = Memory("press", 3, 40, {"level": np.ones(2, np.float32)}, ("a", "b", "c"), held)
    read = Memory.of_bytes(memory.to_bytes())
    assert read is not None and (read.detector, read.version, read.time_ns, read.sensors) == (
        "press",
        3,
        40,
        ("a", "b", "c"),
    )
    known = read.held_of(("c", "new", "a"))
    assert known.values[[0, 2]].tolist() == [7.0, 1.5] and np.isnan(known.values[1])
    assert known.since_ns[[0, 2]].tolist() == [30, 10]
    assert Memory.of_bytes(memory.to_bytes()[:200]) is None
