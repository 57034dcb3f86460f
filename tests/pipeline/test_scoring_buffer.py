"""The live buffer gives the same grid whatever the batches, holds values for a bounded time and never across a gap."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.resample import resample_site
from pipeline.errors import ConfigError
from pipeline.scoring.buffer import AssetGrid, GridRules

S = 10**9
RULES = GridRules(step_ns=60 * S, max_gap_ns=180 * S, tolerance_ns=30 * S)


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
                        row[j] = v if step - time <= rules.max_gap_ns else np.nan
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


@settings(max_examples=200, deadline=None)
@given(readings, st.lists(st.integers(1, 7), max_size=40))
def test_any_batching_gives_the_steps_of_the_definition(messages, sizes):
    steps, _ = feed(AssetGrid(RULES, 2), messages, sizes)
    wanted = expected(messages, RULES, 2)
    assert list(steps) == list(wanted)
    for time, row in wanted.items():
        np.testing.assert_array_equal(steps[time], row)


@settings(max_examples=100, deadline=None)
@given(readings, st.lists(st.integers(1, 7), max_size=40))
def test_late_count_and_breaks_do_not_depend_on_batching(messages, sizes):
    one, many = AssetGrid(RULES, 2), AssetGrid(RULES, 2)
    assert feed(one, messages)[1] == feed(many, messages, sizes)[1]
    assert one.late == many.late


@settings(max_examples=100, deadline=None)
@given(readings)
def test_the_live_grid_is_that_of_training(messages):
    messages = sorted(messages, key=lambda m: m[0])
    # A last reading far behind makes every step final; what is held into a gap has no counterpart in a finished run.
    last = messages[-1][0] + 10_000 * S
    steps, _ = feed(AssetGrid(RULES, 2), [*messages, (last, [1.0, 1.0]), (last + 1000 * S, [1.0, 1.0])])
    table = pa.table(
        {
            "event_time": pa.array([m[0] for m in messages], pa.int64()).cast(pa.timestamp("ns", "UTC")),
            "asset": pa.array(["m"] * len(messages), pa.string()),
            "a": pa.array([m[1][0] for m in messages], pa.float64()),
            "b": pa.array([m[1][1] for m in messages], pa.float64()),
        }
    )
    runs = resample_site("s", [table], step_ns=RULES.step_ns, max_gap_ns=RULES.max_gap_ns).runs
    for run in runs:
        for time, row in zip(run.times_ns, run.values, strict=True):
            np.testing.assert_array_equal(steps.pop(int(time)), row)
    ends = [run.end_ns for run in runs]
    held = [t for t in steps if t < last]
    assert all(any(end < t <= end + RULES.max_gap_ns for end in ends) for t in held)


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
