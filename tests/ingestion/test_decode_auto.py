import logging
from pathlib import Path

import pytest

from ingestion.errors import InputDataError
from tests.ingestion.decoding import batch_of, decoder, reasons, rows
from tests.ingestion.test_decode_avro import encoded
from tests.ingestion.test_decode_sparkplug import ALIASED, BIRTH_KEY, NAMED, birth
from tests.ingestion.test_decode_values import EDGEX, OPC, PATH

SAMPLES = [
    ("flat", b'{"temperature":22.5,"humidity":61}'),
    ("flat", b'[{"ts":1451649600000,"values":{"temperature":22.5}}]'),
    ("narrow", b'{"sensor":"t","ts":1451649600512,"value":1}'),
    ("csv", b"timestamp,asset,t\n1451649600512,p,1"),
    ("sparkplug", NAMED),
    ("sparkplug", ALIASED),
    ("sparkplug", birth("x")),
    ("opcua", OPC),
    ("edgex", EDGEX),
    ("uns", (PATH + "x", b'{"timestamp_ms":1733904005123,"value":23.4}')),
    ("avro", encoded()),
]


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_each_example_is_recognised_and_the_choice_is_said_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, sample: bytes
) -> None:
    with caplog.at_level(logging.INFO, "ingestion.decode"):
        auto = decoder("auto", tmp_path, schema_registry=str(tmp_path))
        auto.decode(batch_of(b"\xff\xfe poison", *[sample] * 12))
        assert auto.chosen == name and not caplog.text  # type: ignore[attr-defined]
        auto.decode(batch_of(*[sample] * 12, first=13))
    assert auto.chosen == name  # type: ignore[attr-defined]
    assert f"recognised format {name} from 24 of the first 25 records" in caplog.text
    later = decoder("auto", tmp_path, schema_registry=str(tmp_path))
    later.decode(batch_of(*[value for other, value in SAMPLES if other != name][:2], first=3))
    assert later.chosen == name  # type: ignore[attr-defined]


def test_one_odd_message_at_the_start_does_not_decide_how_all_others_are_read(tmp_path: Path) -> None:
    auto = decoder("auto", tmp_path)
    assert reasons(auto.decode(batch_of(b"stop, look, listen"))) == [(0, "bad_timestamp")]
    assert auto.chosen == "csv"  # type: ignore[attr-defined]
    for first in range(1, 25):
        found = auto.decode(batch_of(b'{"ts":1451649600512,"values":{"t":%d}}' % first, first=first))
        assert first < 2 or [row["t"] for row in rows(found)] == [first]
    assert auto.chosen == "flat"  # type: ignore[attr-defined]
    auto.decode(batch_of(*[b"stop, look, listen"] * 200, first=25))
    assert auto.chosen == "flat"  # type: ignore[attr-defined]


def test_bytes_that_look_like_avro_do_not_end_an_ingestion_that_has_no_registry(tmp_path: Path) -> None:
    auto = decoder("auto", tmp_path)
    assert reasons(auto.decode(batch_of(encoded(), encoded()))) == [(0, "not_json"), (1, "not_json")]
    assert auto.chosen == ""  # type: ignore[attr-defined]


def test_nothing_readable_leaves_the_choice_open(tmp_path: Path) -> None:
    auto = decoder("auto", tmp_path)
    assert reasons(auto.decode(batch_of(b"\xff\xff", None))) == [(0, "not_json"), (1, "null_value")]
    auto.decode(batch_of((BIRTH_KEY, birth("x")), first=2))
    assert auto.chosen == "sparkplug"  # type: ignore[attr-defined]


def upper_pressure(value: bytes, key: bytes | None, topic: str) -> dict[str, object]:
    return {"asset": topic, "ts": 1451649600512, "values": {"pressure": float(value)}}


def test_a_users_function_is_a_format_and_its_failures_cost_one_message(tmp_path: Path) -> None:
    found = decoder(f"{__name__}:upper_pressure", tmp_path).decode(batch_of(b"1.5", b"x", b"2.5"))
    assert [(row["offset"], row["asset"], row["pressure"]) for row in rows(found)] == [
        (0, "t", 1.5),
        (2, "t", 2.5),
    ]
    assert reasons(found) == [(1, "decoder_failed")]


@pytest.mark.parametrize(
    "name", ["nothing", "no.such.module:function", f"{__name__}:absent", f"{__name__}:SAMPLES"]
)
def test_unknown_formats_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputDataError, match=f"format = '{name}'"):
        decoder(name, tmp_path)
