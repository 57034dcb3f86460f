"""What the columnar reader of flat JSON learns, and what it must not learn."""

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ingestion.decode import flat
from ingestion.decode.flat import FlatJson
from ingestion.decode.messages import MessageDecoder
from ingestion.decode.narrow import NarrowJson
from ingestion.decode.rows import MAX_DEPTH, depth_of
from ingestion.decode.shape import Shape
from ingestion.settings import DecodeRules, EventTimeRules, Limits
from tests.ingestion.compiling import compiled
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
    assert time.process_time() - began < 20
    assert found.readings.num_rows == 2000 and len(found.rejects) == 1000


def test_times_beyond_a_float_stay_exact_beside_fractions() -> None:
    exact = 1_733_904_000_123_456_789
    batch = batch_of(b'{"ts": %d, "t": 1}' % exact, b'{"ts": 1733904000.5, "t": 1}')
    assert [row["event_time"] for row in rows(decoder().decode(batch))] == [exact, 1_733_904_000_500_000_000]


@pytest.fixture
def alone(monkeypatch) -> list[bytes]:
    """The messages that are read one by one."""
    seen: list[bytes] = []
    for reader in (FlatJson, NarrowJson):
        usual = reader._one_by_one

        def noted(self: Any, indices: Any, batch: Any, usual: Any = usual) -> Any:
            seen.extend(batch.values[i] for i in indices.tolist())
            return usual(self, indices, batch)

        monkeypatch.setattr(reader, "_one_by_one", noted)
    return seen


def calls_of(monkeypatch: Any, kind: type, method: str, size: Callable[[Any], int]) -> list[int]:
    """How much each call of a method gets, from now on."""
    seen: list[int] = []
    usual = getattr(kind, method)

    def noted(self: Any, given: Any) -> Any:
        seen.append(size(given))
        return usual(self, given)

    monkeypatch.setattr(kind, method, noted)
    return seen


WRAPPED = [message(values={"v": i / 4}) for i in range(3000)]
STRAYS = {
    "the same sensor outside values": message(v=1),
    "another time field": b'{"timestamp": %d, "asset": "a", "values": {"v": 1}}' % START,
    "the same sensor outside and inside values": message(v=1, values={"v": 2}),
    "text as time": b'{"time": "soon", "asset": "a", "values": {"v": 1}}',
    "a nested value": message(values={"v": {"x": 1}}),
    "a name no column has": message(values={"v": 1, "": 2}),
}


@pytest.mark.parametrize("stray", STRAYS.values(), ids=STRAYS)
def test_one_message_of_another_shape_costs_itself_not_all_that_come_after(stray: bytes, alone) -> None:
    reader = decoder()
    reader.decode(batch_of(*WRAPPED))
    reader.decode(batch_of(*WRAPPED[:1501], stray, *WRAPPED[1501:]))
    reader.decode(batch_of(stray))
    reader.decode(batch_of(*WRAPPED[:5], stray))
    assert len(alone) <= 24
    alone.clear()
    assert reader.decode(batch_of(*WRAPPED)).readings.num_rows == 3000 and alone == []


def test_two_gateways_on_one_topic_are_read_in_columns(only_columns) -> None:
    reader = decoder()
    other = [b'{"timestamp": %d, "asset": "b", "v": %d}' % (START + i, i) for i in range(3000)]
    for _ in range(2):
        mixed = [value for pair in zip(WRAPPED, other, strict=True) for value in pair]
        assert reader.decode(batch_of(*mixed)).readings.num_rows == 6000


SPELLINGS = {
    "a number and text": lambda i: {"ts": START + i if i % 2 else "2026-03-01T10:00:00Z"},
    "seconds with and without a fraction": lambda i: {"ts": START / 1000 + (i % 2) / 2 if i % 3 else START},
    "numbered machines": lambda i: {"asset": i % 5},
    "numbered and named machines": lambda i: {"asset": i % 5 if i % 2 else "a"},
    "all of it": lambda i: {"ts": str(START + i) if i % 3 else START, "asset": i % 5 if i % 2 else "a"},
}


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_gateways_that_write_times_and_machines_their_own_way_are_read_in_columns(
    spelled: str, only_columns
) -> None:
    reader = decoder()
    values = [message(**{"values": {"v": i}, **SPELLINGS[spelled](i)}) for i in range(3000)]
    for _ in range(2):
        assert reader.decode(batch_of(*values)).readings.num_rows == 3000


NARROW = [b'{"asset": "a", "sensor": "v", "ts": %d, "value": %d}' % (START + i, i) for i in range(3000)]


@pytest.mark.parametrize("stray", [b"poison", b"[]", message(v=1), NARROW[0].replace(b"0}", b'"on"}')])
def test_a_poll_of_one_narrow_message_that_columns_do_not_take_is_no_reason_to_rest_for_thousands(
    stray, alone, monkeypatch
) -> None:
    literal = calls_of(monkeypatch, MessageDecoder, "decode", lambda batch: len(batch.values))
    reader = NarrowJson(DecodeRules(), EventTimeRules(), Limits())
    for part in (NARROW, [stray], NARROW, [stray] * 3, NARROW[:5], NARROW):
        reader.decode(batch_of(*part))
    assert sum(literal) <= 9


@compiled
@pytest.mark.parametrize("form", ["flat", "narrow"])
def test_poison_here_and_there_is_found_without_reading_its_neighbours_again_and_again(
    form, alone, monkeypatch
) -> None:
    parsed = calls_of(monkeypatch, Shape, "parse", len)
    reader: Any = decoder() if form == "flat" else NarrowJson(DecodeRules(), EventTimeRules(), Limits())
    values = list(WRAPPED if form == "flat" else NARROW)
    reader.decode(batch_of(*values))
    parsed.clear()
    bad = range(50, 3000, 100)
    for at in bad:
        values[at] = b"poison" if at % 200 else b'{"asset": "a", "ts": 17339'
    found = reader.decode(batch_of(*values))
    assert reasons(found) == [(at, "not_json") for at in bad] and found.readings.num_rows == 2970
    assert len(alone) == 30
    assert sum(parsed) < 2.2 * len(values)


UNUSUAL = {
    "every message cut off": lambda i: message(values={"v": i})[:-3],
    "every second one cut off": lambda i: message(values={"v": i})[: None if i % 2 else -3],
    "a sensor as number and text by turns": lambda i: message(values={"v": i if i % 2 else "n/a"}),
    "a key twice in every message": lambda i: message(values={"v": i})[:-2] + b', "v": 1}}',
}


@pytest.mark.parametrize("sent", UNUSUAL.values(), ids=UNUSUAL)
def test_messages_that_columns_do_not_take_are_not_halved_again_and_again(sent, monkeypatch) -> None:
    tried = calls_of(monkeypatch, Shape, "parse", len)
    values, reader = [sent(i) for i in range(1000)], decoder()
    found = reader.decode(batch_of(*values))
    assert len(tried) < 60
    alone = [FlatJson(DecodeRules(), EventTimeRules(), Limits()).decode(batch_of(value)) for value in values]
    assert [index for index, _ in reasons(found)] == [i for i, each in enumerate(alone) if each.rejects]
    assert [row.get("v") for row in rows(found)] == [row.get("v") for each in alone for row in rows(each)]
    assert found.counts == sum((each.counts for each in alone), Counter())


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
