"""The record of which messages have a letter, against plain sets, and what its note brings back."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.told import Offsets, Told

NUMBERS = st.lists(st.integers(0, 60), max_size=80)


def filled(numbers: list[int]) -> Offsets:
    offsets = Offsets()
    for number in numbers:
        offsets.add(number)
    return offsets


@given(NUMBERS, st.integers(0, 61))
def test_runs_hold_what_a_set_holds(numbers: list[int], below: int):
    offsets = filled(numbers)
    assert [o in offsets for o in range(62)] == [o in set(numbers) for o in range(62)]
    runs = list(offsets)
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(runs))
    offsets.forget_below(below)
    left = {n for n in numbers if n >= below}
    assert [o in offsets for o in range(62)] == [o in left for o in range(62)]
    assert offsets.among(np.arange(62)).tolist() == [o in left for o in range(62)]


@given(NUMBERS, NUMBERS, st.integers(0, 30))
def test_a_note_brings_back_what_lies_behind_the_restart(dead: list[int], late: list[int], restart: int):
    told = Told(61, 0, filled(dead), filled(late))
    again = Told.of_note(61, json.loads(json.dumps(told.note(restart, 61))))
    for offset in range(62):
        known = offset >= restart
        assert again.has(offset, again.dead) is (offset in dead if known else offset < 61)
        assert again.has(offset, again.late) is (offset in late if known else offset < 61)
        assert bool(again.dead.among(np.array([offset]))[0]) is (known and offset in dead)


@pytest.mark.parametrize(
    "note", [None, [], [5], [5, [1], []], [5, [1, 0], []], [5, [-1, 1], []], ["5", [], []], {}]
)
def test_a_note_of_another_form_tells_nothing_of_single_messages(note: object):
    told = Told.of_note(9, note)
    assert [told.has(o, told.dead) for o in (0, 8, 9)] == [True, True, False]


def test_more_letters_than_a_note_holds_count_as_told_below_its_end():
    told = Told(0, 0, filled(list(range(0, 4000, 2))))
    note = told.note(0, 4000)
    assert note == [4000, [], []] and len(json.dumps(note)) < 3100
    assert len(json.dumps(Told(0, 0, filled(list(range(0, 1000, 2)))).note(0, 1000))) < 3100
    # In memory they are known on.
    assert told.has(2, told.dead) and not told.has(3, told.dead)


def test_memory_of_endless_letters_is_bounded():
    told = Told(0, 0, filled(list(range(0, 40_000, 2))))
    told.note(0, 40_000)
    assert len(told.dead) == 0 and told.since == 40_000
