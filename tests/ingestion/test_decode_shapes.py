"""What the columnar reader of flat JSON learns, and what it must not learn."""

import json
import time
from typing import Any

import pytest

from ingestion.decode import flat
from ingestion.decode.flat import FlatJson
from ingestion.decode.rows import MAX_DEPTH, depth_of
from ingestion.settings import DecodeRules, EventTimeRules, Limits
from tests.ingestion.decoding import batch_of, reasons, rows

START = 1_733_904_000_000


def decoder() -> FlatJson:
    return FlatJson(DecodeRules(), EventTimeRules(), Limits())


def message(**fields: Any) -> bytes:
    return json.dumps({"ts": START, "asset": "a", **fields}).encode()


@pytest.fixture
def only_columns(monkeypatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("read one by one")

    monkeypatch.setattr(flat, "rows_of", never)


def test_long_lists_of_readings_are_read_in_columns(only_columns) -> None:
    item = {"ts": START, "values": {"t": 1, "p": 2.5}}
    found = decoder().decode(batch_of(*[json.dumps([item] * 300).encode()] * 50))
    assert found.readings.num_rows == 15_000 and found.rejects == []


def test_fields_that_come_and_go_stay_in_columns(only_columns) -> None:
    reader = decoder()
    first = [message(values={"t": 1}, note="x")] * 500
    later = [message(values={"t": 2.5})] * 500
    more = [message(values={"t": 2, "p": None})] * 300 + [message(values={"p": 7})] * 300
    sizes = [reader.decode(batch_of(*part)).readings.num_rows for part in (first, later, more, first)]
    assert sizes == [500, 500, 600, 500]


def test_a_message_of_sixty_thousand_fields_costs_itself_and_little_time() -> None:
    names = {f"s{i}": i for i in range(60_000)}
    good = [message(t=1)] * 1000
    for wide in (message(**names), message(values=names)):
        reader = decoder()
        began = time.process_time()
        found = reader.decode(batch_of(*good, wide, *good))
        assert time.process_time() - began < 3
        assert found.readings.num_rows == 2000 and reasons(found) == [(1000, "too_many_sensors")]


def test_a_new_name_in_every_message_stays_bounded_in_time() -> None:
    began = time.process_time()
    found = decoder().decode(batch_of(*(message(**{f"n{i}": 1}) for i in range(3000))))
    assert time.process_time() - began < 6
    assert found.readings.num_rows == 2000 and len(found.rejects) == 1000


def test_times_beyond_a_float_stay_exact_beside_fractions() -> None:
    exact = 1_733_904_000_123_456_789
    batch = batch_of(b'{"ts": %d, "t": 1}' % exact, b'{"ts": 1733904000.5, "t": 1}')
    assert [row["event_time"] for row in rows(decoder().decode(batch))] == [exact, 1_733_904_000_500_000_000]


@pytest.mark.parametrize(
    ("value", "depth"),
    [
        (b"[[[]]]", 3),
        (b'{"a": "[[[[", "b": [1]}', 2),
        (b'{"a": "\\"[[[["}', 1),
        (b'["]]]]", [["]]"]]]', 3),
        (b"[" * 100, 100),
        (b"", 0),
    ],
)
def test_depth_counts_brackets_outside_text(value: bytes, depth: int) -> None:
    assert depth_of(value) == depth and MAX_DEPTH == 64
