import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.decode.messages import MessageDecoder
from ingestion.decode.narrow import NarrowJson
from ingestion.settings import DecodeRules, EventTimeRules, Limits
from tests.ingestion.decoding import batch_of, reasons, rows

START = 1_733_904_000_000
USUAL = st.fixed_dictionaries(
    {
        "asset": st.sampled_from(["a", "b", "ü"]),
        "sensor": st.sampled_from(["t", "p", "v"]),
        "ts": st.integers(START, START + 1000),
        "value": st.floats(-1e6, 1e6) | st.integers(-5, 5),
    }
)
ODD = st.fixed_dictionaries(
    {},
    optional={
        "asset": st.sampled_from(["a", "", None, 7, True, "x" * 300]),
        "sensor": st.sampled_from(["t", "offset", "", "\n", None, 5, "t2"]),
        "tag": st.sampled_from(["t", "p", 3]),
        "name": st.sampled_from(["t", {"a": 1}]),
        "ts": st.sampled_from([START, START / 1000, "2024-12-11T09:00:00Z", "1733904000123", "x", None, 5]),
        "timestamp": st.sampled_from([START, None]),
        "value": st.sampled_from([1, 2.5, "7", "on", True, None, [1, 2], {"a": 1}, 10**25, "1e400"]),
        "val": st.sampled_from([1, None]),
        "values": st.sampled_from([None, {"w": 1}, 5]),
        "seq": st.sampled_from([1, 2**62, 2**70, "5", 1.0, None]),
        "quality": st.sampled_from([192, 70000, "64", None]),
        "note": st.sampled_from(["x", 1, None, {"deep": [1]}]),
    },
)
RULES = {
    "open": DecodeRules(format="narrow"),
    "dropping": DecodeRules(format="narrow", sensors=("t", "p"), unknown_sensors="drop"),
    "rejecting": DecodeRules(format="narrow", sensors=("t", "p"), unknown_sensors="reject"),
    "full": DecodeRules(format="narrow", max_sensors=2),
}


def encoded(item: Any) -> bytes:
    return item if isinstance(item, bytes) else json.dumps(item, ensure_ascii=False).encode()


@pytest.mark.parametrize("rules", RULES)
@settings(max_examples=60)
@given(
    usual=st.lists(USUAL, min_size=1, max_size=12),
    odd=st.lists(
        ODD | st.lists(USUAL | ODD, max_size=3) | st.sampled_from([b"\xff", b"", b"[1]", b'{"a":1,"a":2}']),
        max_size=4,
    ),
    dice=st.randoms(use_true_random=False),
)
def test_columns_give_what_message_by_message_gives(rules: str, usual, odd, dice) -> None:
    fast = NarrowJson(RULES[rules], EventTimeRules(), Limits())
    slow = NarrowJson(RULES[rules], EventTimeRules(), Limits())
    for turn in (usual, [*usual, *odd], usual):
        values = [encoded(item) for item in turn]
        dice.shuffle(values)
        one = fast.decode(batch_of(*values))
        other = MessageDecoder.decode(slow, batch_of(*values))
        assert rows(one) == rows(other)
        assert reasons(one) == reasons(other)
        assert +one.counts == +other.counts


def test_usual_narrow_messages_are_read_in_columns(tmp_path: Path, monkeypatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("read one by one")

    decoder = NarrowJson(RULES["open"], EventTimeRules(), Limits())
    monkeypatch.setattr(MessageDecoder, "decode", never)
    named = {"tag": "signal", "v": 5, "ts": "2024-12-11T09:00:00Z", "seq": 4, "unit": "bar"}
    values = [encoded({**named, "tag": f"s{i % 7}", "v": i / 8, "device": {"id": i}}) for i in range(1000)]
    found = decoder.decode(batch_of(*values))
    assert found.readings.num_rows == 1000 and len(found.readings.column_names) == 5 + 7
    lists = [encoded([{"name": "t", "value": 1, "time": START}] * 3)] * 200
    decoder = NarrowJson(RULES["open"], EventTimeRules(), Limits())
    assert decoder.decode(batch_of(*lists)).readings.num_rows == 600
