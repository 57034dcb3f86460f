"""What clients send that no format allows: read where it can only mean one thing, refused with a reason where not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingestion.records import RecordBatch
from tests.ingestion.decoding import NOW_MS, batch_of, decoder, reasons, rows

T_MS, T_NS = 1_733_904_005_123, 1_733_904_005_123_000_000
BOM = b"\xef\xbb\xbf"
BOTH = pytest.mark.parametrize("name", ["flat", "narrow"])


def one(name: str, value: bytes, time: bytes = b"%d" % T_MS) -> bytes:
    """A reading of sensor `t` in either form, the value as JSON text."""
    if name == "flat":
        return b'{"ts":%s,"t":%s}' % (time, value)
    return b'{"ts":%s,"tag":"t","value":%s}' % (time, value)


@BOTH
@pytest.mark.parametrize(
    ("sent", "value", "count"),
    [
        (b"1e400", None, "non_finite"),
        (b"-1e400", None, "non_finite"),
        (b"1e-400", 0.0, ""),
        (b"9223372036854775808", 2.0**63, ""),
        (b"1" + b"0" * 400, None, "non_finite"),
        (b"NaN", None, "non_finite"),
        (b"-Infinity", None, "non_finite"),
        (b"true", 1.0, ""),
        (b'"true"', 1.0, "text_number"),
        (b'"FALSE"', 0.0, "text_number"),
        (b'" 1.5 "', 1.5, "text_number"),
        (b'"1e3"', 1000.0, "text_number"),
        (b'"21,5"', None, "not_a_number"),
        (b'"1.234,5"', None, "not_a_number"),
        (b'"1_000"', None, "not_a_number"),
        (b'"0x10"', None, "not_a_number"),
        ('"\u0661\u0662"'.encode(), None, "not_a_number"),
        (b'""', None, "not_a_number"),
        (b"null", None, ""),
    ],
)
def test_a_value_is_what_it_says_or_nothing_and_counted(
    tmp_path: Path, name: str, sent: bytes, value: float | None, count: str
) -> None:
    found = decoder(name, tmp_path).decode(batch_of(one(name, sent), one(name, b"7")))
    assert [row.get("t") for row in rows(found)] == [value, 7.0] and not found.rejects
    assert found.counts == ({count: 1} if count else {})


@BOTH
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty_value"),
        (b" \r\n", "empty_value"),
        (None, "null_value"),
        (b"null", "wrong_shape"),
        (b'"text"', "wrong_shape"),
        (b"5", "wrong_shape"),
        (b"[[]]", "wrong_shape"),
        (b"{}", "no_values"),
        (b"[]", "no_values"),
        (b"\x00", "not_json"),
        (b'{"ts":1733904005123,"t":1}\x00\x00', "not_json"),
        (b'{"ts":1733904005123,"t":1,}', "not_json"),
        (b'{"ts":1733904005123,"t":1}\n{"ts":1733904005123,"t":1}', "not_json"),
        (b'{"ts":1733904005123,"t":0123}', "not_json"),
        ('{"ts":1733904005123,"t":1}'.encode("utf-16"), "not_json"),
        ('{"ts":1733904005123,"t":1}'.encode("utf-16-le"), "not_json"),
        ('{"ts":1733904005123,"t":1}'.encode("utf-32"), "not_json"),
        (b'{"ts":1733904005123,"t":1,"t":2}', "duplicate_key"),
        (b'{"ts":1733904005123,"t":1,"\\u0074":2}', "duplicate_key"),
        (b'{"ts":1733904005123,"ts":1733904005124,"t":2}', "duplicate_key"),
        (b'{"ts":1733904005123,"values":{"t":1,"t":2}}', "duplicate_key"),
        (b'{"ts":1733904005123,"values":{"offset":1}}', "reserved_name"),
        (b'{"ts":1733904005123,"values":{"":1}}', "bad_sensor_name"),
        (b'{"ts":1733904005123,"values":{"a\\u0000b":1}}', "bad_sensor_name"),
        (b'{"ts":1733904005123,"values":{"\\u202eabc":1}}', "bad_sensor_name"),
        (b'{"ts":1733904005123,"asset":"\\ud800","t":1}', "not_json"),
        (b'{"ts":1733904005123,"\\udfff":1}', "not_json"),
        (b'{"ts":"\\ud83d","t":1}', "not_json"),
        (b'{"ts":1733904005123,"asset":true,"t":1}', "bad_asset"),
        (b'{"ts":1733904005123,"asset":7.5,"t":1}', "bad_asset"),
        (b'{"ts":1733904005123,"t":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "too_deep"),
    ],
)
def test_a_message_that_cannot_be_read_costs_itself(
    tmp_path: Path, name: str, value: bytes | None, reason: str
) -> None:
    found = decoder(name, tmp_path).decode(batch_of(one(name, b"1"), value, one(name, b"2")))
    assert reasons(found) == [(1, reason)] and [row["t"] for row in rows(found)] == [1.0, 2.0]


@BOTH
def test_a_byte_order_mark_is_passed_over(tmp_path: Path, name: str) -> None:
    marked = [BOM + one(name, b"%d" % i) for i in range(300)]
    found = decoder(name, tmp_path).decode(batch_of(*marked, one(name, b"300"), BOM + one(name, b"301")))
    assert [row["t"] for row in rows(found)] == [float(i) for i in range(302)] and not found.rejects


@BOTH
@pytest.mark.parametrize(
    ("time", "ns"),
    [
        ("1733904005123", T_NS),
        ("1733904005", T_NS - 123_000_000),
        ("1733904005.123", T_NS),
        (1733904005.123, T_NS),
        (1733904005123.25, T_NS + 250_000),
        (1.733904005e9, T_NS - 123_000_000),
        (T_NS + 1, T_NS + 1),
        ("2024-12-11T08:00:05.123Z", T_NS),
        ("2024-12-11 09:00:05,123 +01:00", T_NS),
        ("2024-12-11T08:00:05.123 UTC", T_NS),
        ("2024-12-11T09:00:05.123+01:00[Europe/Berlin]", T_NS),
        ("2024-W50-3T08:00:05.123Z", T_NS),
        ("2024W503T080005.123Z", T_NS),
        ("2024-346T08:00:05.123Z", T_NS),
        ("2024-12-10T24:00:00Z", T_NS - 123_000_000 - 28_805 * 10**9),
        ("2016-12-31T23:59:60Z", 1_483_228_800 * 10**9),
        (None, NOW_MS * 10**6),
        ("2024-W54-3T08:00:05Z", None),
        ("2024-12-11T24:00:01Z", None),
        ("2024-12-11T08:00:60Z", None),
        ("2024-12-11T08:00:05+99:00", None),
        ("2024-12-11T08:00:05", None),
        ("11.12.2024 08:00:05", None),
        ("Wed, 11 Dec 2024 08:00:05 GMT", None),
        ("\u0661\u0667\u0663\u0663\u0669\u0660\u0664\u0660\u0660\u0665", None),
        ("9999-12-31T24:00:00Z", None),
        ("", None),
        (0, None),
        (-1_733_904_005_123, None),
        (2**63, None),
        (True, None),
        ({"$date": T_MS}, None),
    ],
)
def test_a_time_is_one_instant_or_refused(tmp_path: Path, name: str, time: Any, ns: int | None) -> None:
    sent = one(name, b"1", json.dumps(time).encode())
    found = decoder(name, tmp_path).decode(batch_of(one(name, b"2"), sent))
    if ns is None:
        assert reasons(found) == [(1, "bad_timestamp")]
    else:
        assert [row["event_time"] for row in rows(found)] == [T_NS, ns] and not found.rejects


@BOTH
def test_records_without_a_time_anywhere_are_refused_and_odd_keys_are_no_assets(
    tmp_path: Path, name: str
) -> None:
    values: list[bytes | None] = [one(name, b"1"), one(name, b"2", b"null"), one(name, b"3")]
    keys: list[bytes | None] = [b"\xff\xfe", b"\xff", b"k" * 300]
    batch = RecordBatch("plant", "t", 0, np.arange(3), np.full(3, -1), keys, values, 3)
    found = decoder(name, tmp_path).decode(batch)
    assert [(row["asset"], row["event_time"], row["t"]) for row in rows(found)] == [
        ("plant", T_NS, 1.0),
        ("plant", T_NS, 3.0),
    ]
    assert reasons(found) == [(1, "bad_timestamp")]


@BOTH
@pytest.mark.parametrize(
    "asset", ["a/b", "..", "a\0b", "CON", "\u0440ump", "a\u200bb", "\u202eabc", "x" * 256]
)
def test_an_assets_name_is_kept_to_the_letter(tmp_path: Path, name: str, asset: str) -> None:
    sent = json.loads(one(name, b"1"))
    found = decoder(name, tmp_path).decode(batch_of(json.dumps({**sent, "asset": asset}).encode()))
    assert [row["asset"] for row in rows(found)] == [asset]


def _surrogates(value: bytes, *_: object) -> dict[str, Any]:
    return {"ts": "\udcff" if value == b"t" else T_MS, "asset": "\udcff" if value == b"a" else "m", "t": 1}


def test_half_characters_of_a_users_decoder_cost_one_message(tmp_path: Path) -> None:
    found = decoder(f"{__name__}:_surrogates", tmp_path).decode(batch_of(b"a", b"t", b"good"))
    assert reasons(found) == [(0, "bad_asset"), (1, "bad_timestamp")] and len(rows(found)) == 1
