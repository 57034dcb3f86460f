import itertools
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.records import BASE_FIELDS, EVENT_TIME
from ingestion.windowing import NEVER, Closed, Piece, Rules, Step, Windows, unite

S = 1_000_000_000
RULES = Rules(length=60 * S, disorder=5 * S, lateness=300 * S)


def readings(rows: list[tuple[int, int]]) -> pa.Table:
    """Rows of (offset, event second)."""
    columns = [
        pa.array([o for o, _ in rows], pa.int64()),
        pa.array([t * S for _, t in rows], pa.int64()).cast(EVENT_TIME),
        pa.array(["a"] * len(rows), pa.string()),
        pa.nulls(len(rows), pa.int64()),
        pa.nulls(len(rows), pa.int16()),
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(BASE_FIELDS))


def run(windows: Windows, messages: list[tuple[int, list[int]]], sizes: list[int]) -> Step:
    """Feed (offset, event seconds of its rows) in batches of the given sizes, cycling."""
    total, at, turn = Step(), 0, 0
    lost = []
    while at < len(messages):
        part = messages[at : at + sizes[turn % len(sizes)]]
        at, turn = at + len(part), turn + 1
        step = windows.push(readings([(o, t) for o, times in part for t in times]), part[-1][0] + 1)
        total.closed += step.closed
        total.already += step.already
        if step.too_late is not None:
            lost.append(step.too_late)
    total.too_late = pa.concat_tables(lost) if lost else None
    return total


def pairs(table: pa.Table | None) -> list[tuple[int, int]]:
    if table is None:
        return []
    times = table.column("event_time").cast(pa.int64()).to_pylist()
    return [(o, t // S) for o, t in zip(table.column("offset").to_pylist(), times, strict=True)]


def shape(closed: Closed) -> tuple[object, ...]:
    """The decision: `bytes` depends on what a batch's table holds beside the window's rows."""
    kept = {k: v for k, v in closed.__dict__.items() if k != "bytes"}
    return tuple(tuple(pairs(closed.rows)) if k == "pieces" else v for k, v in kept.items())


streams = st.lists(st.lists(st.integers(0, 1500), min_size=1, max_size=3), min_size=1, max_size=60).map(
    lambda times: [(7 + 2 * i, t) for i, t in enumerate(times)]
)
batching = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def test_a_window_closes_at_the_message_that_moves_the_watermark_to_its_end():
    windows = Windows(RULES, 0)
    step = run(windows, [(0, [10]), (1, [59]), (2, [64]), (3, [58]), (4, [65]), (5, [59])], [6])
    (closed,) = step.closed
    assert pairs(closed.rows) == [(0, 10), (1, 59), (3, 58)]
    assert (closed.position_at_close, closed.watermark, closed.reason) == (5, 60 * S, "watermark")
    assert pairs(unite(windows.open[0].pieces)) == [(5, 59)] and windows.open[0].late


def test_a_row_beyond_the_allowed_lateness_is_handed_back_and_not_kept():
    windows = Windows(RULES, 0)
    step = run(windows, [(0, [1000]), (1, [10])], [1])
    assert pairs(step.too_late) == [(1, 10)]
    assert list(windows.open) == [960 * S]


def test_a_row_is_too_late_from_the_moment_its_window_ended_as_long_ago_as_is_allowed():
    # The window ends at 60 and waits for 300 more; the watermark is 5 behind the largest time.
    for largest, late in ((364, True), (365, False)):
        windows = Windows(RULES, 0)
        step = run(windows, [(0, [largest]), (1, [10])], [2])
        assert pairs(step.too_late) == ([] if late else [(1, 10)])
        assert (0 in windows.open) is late


def test_what_comes_for_a_window_that_was_closed_early_is_late_and_what_it_holds_is_taken_once():
    windows = Windows(RULES, 0)
    run(windows, [(0, [10]), (1, [20])], [2])
    (closed,) = windows.close_early("idle")
    assert (pairs(closed.rows), closed.position_at_close) == ([(0, 10), (1, 20)], 2)
    run(windows, [(2, [30])], [1])
    # It gathers for a window length from the watermark that it was opened at.
    assert (windows.open[0].late, windows.open[0].closes_at) == (True, (20 - 5 + 60) * S)
    again = Windows(RULES, 0, handled=windows.handled)
    step = run(again, [(0, [10]), (1, [20]), (2, [30])], [3])
    assert step.already == 2 and pairs(unite(again.open[0].pieces)) == [(2, 30)]


@settings(max_examples=150)
@given(streams, batching, batching)
def test_how_messages_were_batched_never_changes_a_decision(messages, first, second):
    one, two = Windows(RULES, 0), Windows(RULES, 0)
    left, right = run(one, messages, first), run(two, messages, second)
    key = lambda c: (c.position_at_close, c.start)  # noqa: E731
    assert [shape(c) for c in sorted(left.closed, key=key)] == [
        shape(c) for c in sorted(right.closed, key=key)
    ]
    assert pairs(left.too_late) == pairs(right.too_late)
    assert one.restart_point() == two.restart_point()


@settings(max_examples=150)
@given(streams, batching)
def test_every_row_has_exactly_one_place(messages, sizes):
    windows = Windows(RULES, 0)
    step = run(windows, messages, sizes)
    closed = step.closed + windows.close_early("shutdown")
    placed = [pair for c in closed for pair in pairs(c.rows)] + pairs(step.too_late)
    assert sorted(placed) == sorted((o, t) for o, times in messages for t in times)
    for c in closed:
        assert all(
            c.start <= t * S < c.start + RULES.length and o < c.position_at_close for o, t in pairs(c.rows)
        )
        assert c.first_offset == min(o for o, _ in pairs(c.rows))
    # A window is late whose first row came when it had ended, or when a file of it was there.
    there: set[int] = set()
    for c in step.closed:
        before = max((t * S for o, times in messages if o < c.first_offset for t in times), default=NEVER)
        ended = c.start + RULES.length <= before - RULES.disorder
        assert c.reason == ("late" if ended or c.start in there else "watermark")
        there.add(c.start)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=9))
def test_pieces_are_united_in_the_order_given(cuts):
    tables = [readings([(10 * which + i, i) for i in range(10)]) for which in (0, 1)]
    pieces = [Piece(tables[which], begin, min(begin + size, 10)) for which, begin, size in cuts]
    expected = [pair for each in pieces for pair in pairs(each.table)[each.begin : each.end]]
    assert pairs(unite(pieces)) == expected


@settings(max_examples=200)
@given(streams, batching, st.data())
def test_a_crash_at_any_message_and_a_restart_from_the_mark_give_the_same_files(messages, sizes, data):
    whole = Windows(RULES, 0)
    expected = run(whole, messages, sizes)
    expected.closed += whole.close_early("shutdown")

    first = Windows(RULES, 0)
    commit = data.draw(st.integers(0, len(messages)))
    crash = data.draw(st.integers(commit, len(messages)))
    before = run(first, messages[:commit], sizes)
    offset, largest = first.restart_point()
    settled = first.position
    after = run(first, messages[commit:crash], sizes)
    published = before.closed + after.closed[: data.draw(st.integers(0, len(after.closed)))]
    handled: dict[int, int] = {}
    for c in published:
        handled[c.start] = max(handled.get(c.start, -1), c.position_at_close)

    second = Windows(RULES, offset, largest, handled)
    rest = run(second, [m for m in messages if m[0] >= offset], sizes)
    closed = published + rest.closed + second.close_early("shutdown")
    late = pairs(before.too_late) + [p for p in pairs(rest.too_late) if p[0] >= settled]

    rows = lambda cs: sorted(pair for c in cs for pair in pairs(c.rows))  # noqa: E731
    assert rows(closed) == rows(expected.closed)
    assert sorted(late) == sorted(pairs(expected.too_late))
    assert {shape(c) for c in closed if c.reason != "shutdown"} == {
        shape(c) for c in expected.closed if c.reason != "shutdown"
    }


@settings(max_examples=100)
@given(streams, batching, st.data())
def test_windows_closed_early_still_lose_and_double_nothing(messages, sizes, data):
    windows = Windows(RULES, 0)
    cut = data.draw(st.integers(0, len(messages)))
    step = run(windows, messages[:cut], sizes)
    early = windows.close_early("idle")
    rest = run(windows, messages[cut:], sizes)
    closed = step.closed + early + rest.closed + windows.close_early("shutdown")
    placed = [p for c in closed for p in pairs(c.rows)] + pairs(step.too_late) + pairs(rest.too_late)
    assert sorted(placed) == sorted((o, t) for o, times in messages for t in times)
    for start in {c.start for c in closed}:
        chain = [c for c in closed if c.start == start]
        assert [c.position_at_close for c in chain] == sorted(c.position_at_close for c in chain)
        # Each file of a window stands for offsets of its own.
        assert all(a.position_at_close <= b.first_offset for a, b in itertools.pairwise(chain))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=40), st.integers(1, 40))
def test_windows_take_the_memory_of_the_rows_they_hold(times, cut):
    windows = Windows(Rules(60 * S, 0, 10**6 * S), 0)
    rows = list(enumerate(times))
    whole, closed = readings(rows), []
    for part in (rows[:cut], rows[cut:]):
        closed += windows.push(readings(part), len(times)).closed
    held = windows.bytes + sum(each.bytes for each in closed)
    # About: offsets of texts and flags of nulls come in whole bytes.
    assert held == pytest.approx(whole.nbytes, rel=0.2, abs=20)
    for each in closed:
        assert each.bytes == pytest.approx(whole.nbytes * each.row_count / len(rows), rel=0.2, abs=20)


@settings(max_examples=50)
@given(streams, batching, st.integers(1, 5000))
def test_a_full_buffer_closes_the_largest_windows_and_no_more_than_it_has_to(messages, sizes, size):
    windows = Windows(RULES, 0)
    run(windows, messages, sizes)
    before = {start: gathering.bytes for start, gathering in windows.open.items()}
    closed = [c.start for c in windows.close_largest(size)]
    freed = [before[start] for start in closed]
    assert sum(freed) >= min(size, sum(before.values())) and sum(freed[:-1]) < size
    left = [gathering.bytes for gathering in windows.open.values()]
    assert not left or not freed or max(left) <= min(freed)
    assert windows.open.keys() == before.keys() - set(closed)


def test_fifty_thousand_open_windows_are_closed_in_time_that_grows_with_them():
    windows = Windows(Rules(S, 0, 10**6 * S), 0)
    windows.push(readings([(0, 60_000), *((1 + i, i) for i in range(50_000))]), 50_001)
    assert len(windows.open) == 50_001
    began = time.process_time()
    while windows.open:
        assert windows.close_largest(windows.bytes // 8 + 1)
    assert time.process_time() - began < 5
