"""What the sensor mapping does to each value, against the same rules written out for one value at a time."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.consumer import ingest
from ingestion.errors import InputDataError
from ingestion.mapping import SensorRule, SiteMapping, by_sensor
from ingestion.records import Decoded
from ingestion.settings import DecodeRules
from ingestion.units import conversion
from tests.ingestion.decoding import batch_of, decoder, rows
from tests.ingestion.harness import on_disk, produce, reading, settings_for

STATES = {"running": 1.0, "stopped": 0.0, "fault": -1.0}
MACHINE = {"plant": {"state": SensorRule(states=STATES)}}


def table(quality: list[int | None], **sensors: list[float | None]) -> Decoded:
    size = len(quality)
    return Decoded(
        pa.table(
            {
                "offset": pa.array(range(size), pa.int64()),
                "event_time": pa.array(range(size), pa.timestamp("ns", tz="UTC")),
                "asset": pa.array(["a"] * size, pa.string()),
                "seq": pa.nulls(size, pa.int64()),
                "quality": pa.array(quality, pa.int16()),
                **{name: pa.array(values, pa.float64()) for name, values in sensors.items()},
            }
        )
    )


def one(value: float | None, quality: int | None, rule: SensorRule, counts: Counter[str]) -> float | None:
    """The documented order for a single value."""
    if value is None:
        return None
    if rule.states and value not in rule.states.values():
        counts["unknown_state"] += 1
        return None
    if rule.min_quality is not None and quality is not None and quality < rule.min_quality:
        counts["bad_quality"] += 1
        return None
    factor, shift = rule.linear
    value = value * factor + shift
    low = -math.inf if rule.minimum is None else rule.minimum
    high = math.inf if rule.maximum is None else rule.maximum
    if not (math.isfinite(value) and low <= value <= high):
        counts["out_of_range"] += 1
        return None
    return value


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
RULES = st.builds(
    SensorRule,
    scale=st.sampled_from([1.0, -2.5, 0.001, 1e300]),
    offset=st.sampled_from([0.0, 32.0]),
    unit=st.just("degF"),
    to=st.sampled_from(["degF", "degC", "K"]),
    minimum=st.none() | st.floats(-100, 0),
    maximum=st.none() | st.floats(0, 1e6),
    min_quality=st.none() | st.just(64),
) | st.just(SensorRule(states={"on": 1.0, "off": 0.0}))


@given(
    st.lists(st.tuples(st.none() | FLOATS | st.sampled_from([0.0, 1.0]), st.none() | st.integers(0, 255))),
    RULES,
)
def test_a_column_is_mapped_as_its_values_one_by_one(cells, rule):
    values, quality = [v for v, _ in cells], [q for _, q in cells]
    found = SiteMapping({"t": rule}).apply(table(quality, t=values, other=values))
    counts: Counter[str] = Counter()
    expected = [one(v, q, rule, counts) for v, q in cells]
    assert found.readings.column("t").to_pylist() == expected
    assert found.readings.column("other").to_pylist() == values
    assert by_sensor(found.counts).get("t", {}) == dict(sorted(counts.items()))
    assert len(found.readings) == len(cells)


def test_a_renamed_tag_joins_its_old_name_and_what_both_say_is_counted():
    rules = {"temp_new": SensorRule(name="temp"), "alone": SensorRule(name="b")}
    found = SiteMapping(rules).apply(
        table([None] * 3, temp=[1.0, None, 3.0], temp_new=[None, 2.0, 9.0], alone=[1.0, 1.0, None])
    )
    assert found.readings.column_names[5:] == ["temp", "b"]
    assert found.readings.column("temp").to_pylist() == [1.0, 2.0, 3.0]
    assert by_sensor(found.counts) == {"temp_new": {"conflict": 1}}


def test_a_renamed_machine_goes_on_under_one_name(tmp_path: Path) -> None:
    sent = [
        b'{"ts":1733904005123,"asset":"%s","values":{"t":%d}}' % (a, i)
        for i, a in enumerate((b"p-3", b"p-03", b"q"))
    ]
    reader = decoder("flat", tmp_path, assets={"plant": {"p-3": "p-03"}})
    found = rows(reader.decode(batch_of(*sent)))
    assert [(row["asset"], row["t"]) for row in found] == [("p-03", 0.0), ("p-03", 1.0), ("q", 2.0)]
    other = decoder("flat", tmp_path, assets={"elsewhere": {"p-3": "p-03"}})
    assert [row["asset"] for row in rows(other.decode(batch_of(*sent)))] == ["p-3", "p-03", "q"]


def test_a_quality_floor_for_all_leaves_values_of_unknown_quality():
    found = SiteMapping({"b": SensorRule(min_quality=192)}, 64).apply(
        table([192, 64, 0, None], a=[1.0, 2.0, 3.0, 4.0], b=[1.0, 2.0, None, 4.0])
    )
    assert found.readings.column("a").to_pylist() == [1.0, 2.0, None, 4.0]
    assert found.readings.column("b").to_pylist() == [1.0, None, None, 4.0]
    assert by_sensor(found.counts) == {"a": {"bad_quality": 1}, "b": {"bad_quality": 1}}


SENT = {
    "flat": lambda text: ("", b'{"ts":1733904005123,"state":"%s","t":1}' % text),
    "narrow": lambda text: ("", b'{"ts":1733904005123,"sensor":"state","value":"%s"}' % text),
    "csv": lambda text: ("", b"1733904005123,state,%s" % text),
    "uns": lambda text: (
        "umh.v1.a.b._historian.state",
        b'{"timestamp_ms":1733904005123,"value":"%s"}' % text,
    ),
    "opcua": lambda text: (
        "",
        b'{"Payload":{"state":{"Value":"%s"}},"Timestamp":"2022-03-18T12:55:21Z"}' % text,
    ),
    "edgex": lambda text: (
        "",
        b'{"readings":[{"origin":1733904005123456789,"resourceName":"state","valueType":"String","value":"%s"}]}'
        % text,
    ),
    "sparkplug": lambda text: (
        "spBv1.0/G/DDATA/E/D",
        b'{"timestamp":1638223073192,"metrics":[{"name":"state","dataType":"String","value":"%s"}]}' % text,
    ),
}


@pytest.mark.parametrize("name", sorted(SENT))
def test_texts_of_declared_states_are_codes_in_every_format(tmp_path: Path, name: str) -> None:
    texts = (b"running", b"stopped", b" fault ", b"melting", b"1", b"7")
    found = decoder(name, tmp_path, mapping=MACHINE).decode(batch_of(*map(SENT[name], texts)))
    assert [row.get("state") for row in rows(found)] == [1.0, 0.0, -1.0, None, 1.0, None]
    assert by_sensor(found.counts) == {"state": {"unknown_state": 2}}
    assert found.rejects == []
    plain = decoder(name, tmp_path).decode(batch_of(SENT[name](b"running")))
    assert "state" not in rows(plain)[0] and plain.counts["not_a_number"] == 1


@pytest.mark.parametrize("beside", [False, True])
def test_whole_columns_of_states_are_read_at_once(tmp_path: Path, beside: bool) -> None:
    place = b'"values":{"t":1.5},"state":"%s"' if beside else b'"values":{"t":1.5,"state":"%s"}'
    sent = [b'{"ts":1733904005123,%s}' % (place % text) for text in (b"running", b"stopped")] * 50
    reader = decoder("flat", tmp_path, mapping=MACHINE)
    for _ in range(2):
        found = reader.decode(batch_of(*sent, sent[0].replace(b"running", b"melting")))
        assert found.readings.column("state").to_pylist() == [1.0, 0.0] * 50 + [None]
        assert by_sensor(found.counts) == {"state": {"unknown_state": 1}}


@pytest.mark.parametrize(
    ("unit", "to", "factor", "shift"),
    [
        ("bar", "kPa", 100, 0),
        ("degF", "degC", 5 / 9, -160 / 9),
        ("°C", "K", 1, 273.15),
        ("l/min", "m^3/h", 0.06, 0),
    ],
)
def test_units_are_exact(unit: str, to: str, factor: float, shift: float) -> None:
    assert np.allclose(conversion(unit, to), (factor, shift), rtol=1e-15)


@pytest.mark.parametrize(
    ("unit", "to"), [("dBm", "W"), ("rpm", "Hz"), ("m**m", "m"), ("", "m"), ("bar", "s"), ("1/0", "m")]
)
def test_units_that_cannot_be_meant_are_refused(unit: str, to: str) -> None:
    with pytest.raises(InputDataError, match="not"):
        conversion(unit, to)


def test_a_mapped_site_is_ingested_and_its_drops_are_in_the_counts(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    rules = {
        "temperature": SensorRule("t", "degF", "degC", maximum=0.0),
        "mode": SensorRule(states={"run": 1}),
    }
    sent = [reading(s, values={"temperature": 20.0 + s, "mode": "run" if s else "?"}) for s in range(20)]
    produce(broker, name, sent)
    settings = settings_for(
        broker, site, tmp_path, close_open=True, decode=DecodeRules(mapping={site: rules})
    )
    counts = ingest(settings, until="end").sites[site]
    assert counts.kept == 20 and counts.balanced and sum(on_disk(tmp_path).values()) == 20
    assert counts.to_dict()["sensors"] == {"mode": {"unknown_state": 1}, "temperature": {"out_of_range": 7}}
    assert counts.to_dict()["repaired"] == {}
