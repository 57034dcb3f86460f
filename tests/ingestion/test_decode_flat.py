"""Flat JSON: the documented forms, and columns that agree with the literal reader whatever stands beside what."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingestion.decode.columns import NotColumnar, parse
from ingestion.decode.flat import FlatJson
from ingestion.records import Decoded
from ingestion.settings import DecodeRules, EventTimeRules, Limits
from tests.ingestion.decoding import NOW_MS, batch_of, decoder, reasons, rows

TS = 1451649600512


def test_every_documented_form_is_read(tmp_path: Path) -> None:
    batch = batch_of(
        b'{"temperature":22.5,"humidity":61}',
        b'{"ts":1451649600512,"values":{"temperature":22.5,"vibration":0.02}}',
        b'[{"ts":1451649600000,"values":{"temperature":22.5}},{"ts":1451649601000,"values":{"temperature":22.7}}]',
        b'{"asset":"pump-03","ts":"2026-03-01T10:00:00.250Z","values":{"temperature":71.2,"vibration":0.02},"quality":192,"seq":42}',
    )
    found = decoder("flat", tmp_path).decode(batch)
    ms = 1_000_000
    assert rows(found) == [
        {"offset": 0, "event_time": NOW_MS * ms, "asset": "plant", "temperature": 22.5, "humidity": 61.0},
        {"offset": 1, "event_time": TS * ms, "asset": "plant", "temperature": 22.5, "vibration": 0.02},
        {"offset": 2, "event_time": 1451649600000 * ms, "asset": "plant", "temperature": 22.5},
        {"offset": 2, "event_time": 1451649601000 * ms, "asset": "plant", "temperature": 22.7},
        {"offset": 3, "event_time": 1772359200250 * ms, "asset": "pump-03", "seq": 42, "quality": 192}
        | {"temperature": 71.2, "vibration": 0.02},
    ]
    assert found.counts == {"unknown_time": 1} and not found.rejects


def test_clocks_that_are_ahead_or_booted_at_1970_and_five_megabytes_are_dead_letters(tmp_path: Path) -> None:
    values = b'"values":{"t":1}}'
    batch = batch_of(
        b'{"ts":%d,' % (NOW_MS + 86_400_000) + values,
        b'{"ts":60000,' + values,
        b'{"ts":%d,"pad":"' % TS + b"x" * 5_000_000 + b'",' + values,
        b'{"ts":%d,' % (NOW_MS + 60_000) + values,
    )
    found = decoder("flat", tmp_path).decode(batch)
    assert reasons(found) == [(0, "future_timestamp"), (1, "bad_timestamp"), (2, "too_large")]
    assert [row["offset"] for row in rows(found)] == [3]


def test_narrow_messages_are_no_flat_ones_whatever_stands_beside_them(tmp_path: Path) -> None:
    narrow = b'{"asset":"m","sensor":"temperature","ts":%d,"value":71.2,"unit":"C"}' % TS
    wide = b'{"asset":"m","name":"mixer","ts":%d,"value":3,"speed":4}' % TS
    alone = b'{"asset":"m","ts":%d,"value":5}' % TS
    found = decoder("flat", tmp_path).decode(batch_of(*[narrow] * 30, wide, alone, *[narrow] * 30))
    assert reasons(found) == [(index, "narrow") for index in (*range(30), *range(32, 62))]
    assert "names its sensor in 'sensor'" in found.rejects[0].message
    assert "format = 'narrow'" in found.rejects[0].message
    assert [{name: row.get(name) for name in ("offset", "value", "speed")} for row in rows(found)] == [
        {"offset": 30, "value": 3, "speed": 4},
        {"offset": 31, "value": 5, "speed": None},
    ]
    states = decoder("flat", tmp_path, states={"name": {"on": 1.0}})
    state = b'{"ts":%d,"name":"on","value":1}' % TS
    assert [row["name"] for row in rows(states.decode(batch_of(state, state)))] == [1.0, 1.0]


def test_text_beside_values_is_no_value_whatever_its_neighbours_look_like(tmp_path: Path) -> None:
    batch = batch_of(
        b'{"ts":1451649600512,"values":{"t":1},"note":"7"}',
        b'{"ts":1451649600512,"p":2,"note":"8"}',
        b'{"ts":1451649600512,"values":null,"p":3,"note":"on"}',
        b'{"ts":1451649600512,"values":{"t":4}}',
    )
    found = decoder("flat", tmp_path).decode(batch)
    assert [[row.get(name) for name in ("t", "p", "note")] for row in rows(found)] == [
        [1, None, None],
        [None, 2, 8],
        [None, 3, None],
        [4, None, None],
    ]
    assert found.counts == {"ignored_field": 1, "text_number": 1, "not_a_number": 1}


NAMES = st.sampled_from(["t", "p", "a.b", "state", "offset", "ts", ""])
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False, width=32)
ODD = (
    st.none() | st.booleans() | st.sampled_from(["1.5", "on", "", "NaN", "1e999"]) | st.integers(2**63, 2**70)
)
CELLS = (
    NUMBERS
    | NUMBERS
    | ODD
    | st.lists(NUMBERS, max_size=2)
    | st.dictionaries(st.just("x"), NUMBERS, max_size=1)
)
TIMES = st.sampled_from(
    [TS, TS / 1000, TS * 1000, "2026-03-01T10:00:00.25Z", "2026-03-01T10:00:00", None, 5, True, "x"]
)
READINGS = st.fixed_dictionaries(
    {},
    optional={
        "ts": TIMES,
        "asset": st.sampled_from(["pump", "7", "", None, 7, 0, -12, 2**63, 10**300, 1.5, True, "n" * 300]),
        "quality": st.sampled_from([192, 0, None, 1.0, 1.5, 70_000, "192"]),
        "seq": st.sampled_from([1, 2**62, None, 3.0, "4", 2**63]),
        "values": st.dictionaries(NAMES, CELLS, max_size=3) | st.none() | st.just(5),
        "t": CELLS,
        "note": st.just("text"),
        "name": st.sampled_from(["pump 3", "7", None, 5]),
        "value": CELLS,
    },
)
PLAIN = st.fixed_dictionaries(
    {"ts": st.just(TS), "values": st.fixed_dictionaries({"t": NUMBERS, "p": NUMBERS})}
)
TEXTS = st.fixed_dictionaries(
    {
        "ts": st.just(TS),
        "values": st.fixed_dictionaries(
            {
                "t": NUMBERS,
                "mode": st.sampled_from(["on", "off", "1.5", "NaN", "true", " 7 ", "", "1_0", "٣", "-inf"]),
            }
        ),
    }
)
BESIDE = st.fixed_dictionaries(
    {"ts": st.just(TS), "p": NUMBERS, "note": st.sampled_from(["7", "on", "1e3", None])},
    optional={"values": st.fixed_dictionaries({"t": NUMBERS})},
)
GATEWAYS = st.fixed_dictionaries(
    {
        "ts": st.sampled_from([TS, TS + 1, TS / 1000, "2026-03-01T10:00:00.25Z", str(TS)]),
        "asset": st.sampled_from(["pump", "7", 7, 0, -12, 2**63 - 1, None]),
        "t": NUMBERS,
    },
    optional={"values": st.fixed_dictionaries({"p": NUMBERS})},
)
MESSAGES = st.lists(TEXTS | BESIDE | GATEWAYS, min_size=2, max_size=20) | st.lists(
    PLAIN | TEXTS | READINGS | st.lists(PLAIN | READINGS, max_size=3), min_size=1, max_size=24
)


def told(found: Decoded) -> tuple[Any, ...]:
    return (
        [sorted(row.items()) for row in rows(found)],
        reasons(found),
        {name: count for name, count in found.counts.items() if count},
    )


@settings(max_examples=300)
@given(MESSAGES, st.booleans())
def test_columns_give_what_the_literal_reader_gives(messages: list[Any], states: bool) -> None:
    rules = DecodeRules(states={"state": {"on": 1.0}, "t": {"on": 2.0}} if states else {})
    batch = batch_of(*(json.dumps(message).encode() for message in messages))

    def fresh() -> FlatJson:
        return FlatJson(rules, EventTimeRules(), Limits())

    piece = fresh()._one_by_one(np.arange(len(messages)), batch)
    literal = Decoded(piece.readings, sorted(piece.rejects, key=lambda reject: reject.index), piece.counts)
    reader = fresh()
    assert told(reader.decode(batch)) == told(literal)
    backwards = np.arange(len(messages))[::-1].tolist()
    other = batch_of(*(batch.values[i] for i in backwards))
    piece = fresh()._one_by_one(np.arange(len(messages)), other)
    again = Decoded(piece.readings, sorted(piece.rejects, key=lambda reject: reject.index), piece.counts)
    assert told(reader.decode(other)) == told(again), "what it learned of the first batch shows in the second"


HALVES = st.lists(
    st.sampled_from(
        [
            '{"t":1}',
            '{"t":',
            '{"u":{"t":2}',
            '{"v":[{"t":1}',
            '"t":',
            '"',
            "\\",
            "x",
            "1",
            ",",
            ":",
            "{",
            "}",
            "[",
            "]",
            "\n",
            "\0",
            " ",
        ]
    ),
    max_size=7,
).map("".join)


@given(
    st.lists(
        HALVES.map(str.encode) | HALVES.map(lambda text: f"{{{text}}}".encode()) | st.just(b'{"t":1}'),
        min_size=2,
        max_size=5,
    )
)
@example([b'{"t":1', b',"u":2}', b'{"t":1}{"t":2}'])
@settings(max_examples=1500)
def test_messages_never_share_a_row(values: list[bytes]) -> None:
    try:
        found = parse(values, None)
    except NotColumnar:
        return
    documents = [json.loads(value) for value in values]
    assert len(found) == len(documents)
    for row, document in zip(found.to_pylist(), documents, strict=True):
        assert _without_nulls(row) == _without_nulls(document)


def _without_nulls(found: Any) -> Any:
    """Arrow gives every object the fields of all others, with nulls for those it has not."""
    if isinstance(found, list):
        return [_without_nulls(item) for item in found]
    if not isinstance(found, dict):
        return found
    return {name: _without_nulls(value) for name, value in found.items() if _without_nulls(value) is not None}
