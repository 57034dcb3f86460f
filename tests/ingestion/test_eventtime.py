"""What plants write as a time, read as the one instant it means, or refused."""

from collections import Counter
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.eventtime import NS, from_numbers, from_text, one_time
from ingestion.settings import EventTimeRules

PER_UNIT = {"s": NS, "ms": 10**6, "us": 10**3, "ns": 1}
BERLIN = EventTimeRules(zone="Europe/Berlin")
INSTANTS = st.datetimes(datetime(1990, 1, 2), datetime(2199, 12, 30)).map(lambda t: t.replace(microsecond=0))


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * NS


@given(INSTANTS, st.sampled_from(sorted(PER_UNIT)), st.booleans())
def test_any_plausible_instant_is_read_alike_in_every_unit(
    moment: datetime, unit: str, as_text: bool
) -> None:
    seconds = int(moment.replace(tzinfo=timezone.utc).timestamp())
    sent = seconds * NS // PER_UNIT[unit]
    rules = EventTimeRules()
    assert one_time(str(sent) if as_text else sent, rules, Counter()) == seconds * NS
    assert from_numbers(np.array([sent]), rules).ns.tolist() == [seconds * NS]
    others = [u for u in PER_UNIT if u != unit]
    assert all(one_time(sent, EventTimeRules(unit=u), Counter()) is None for u in others)
    assert one_time(sent, EventTimeRules(unit=unit), Counter()) == seconds * NS


@pytest.mark.parametrize(
    "raw",
    [
        0,
        10,
        -1,
        86_400_000,
        2**63,
        10**30,
        1e300,
        float("nan"),
        True,
        None,
        [],
        "",
        "soon",
        "1970-01-01T00:00:10Z",
    ],
)
def test_a_clock_that_booted_at_1970_and_what_is_no_time_are_refused(raw: object) -> None:
    assert one_time(raw, EventTimeRules(), Counter()) is None


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T10:00:00.1234567Z",
        "2026-03-01T10:00:00,1234567Z",
        "2026-03-01 10:00:00.1234567Z",
        "20260301T100000.1234567Z",
        "2026-03-01T11:00:00.1234567+01:00",
        "2026-03-01T11:00:00.1234567 +0100",
        "2026-03-01T11:00:00.1234567+01",
        "2026-03-01t10:00:00.123456700000z",
        "  2026-03-01T10:00:00.1234567Z ",
        "2026-03-01T11:00:00.1234567",
    ],
)
def test_iso_8601_in_every_spelling_is_one_instant(text: str) -> None:
    expected = ns("2026-03-01T10:00:00+00:00") + 123_456_700
    assert one_time(text, BERLIN, Counter()) == expected
    assert from_text(pa.array([text]), BERLIN).ns.tolist() == [expected]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("2026-02-28T24:00:00Z", "2026-03-01T00:00:00+00:00"),
        ("2026-12-31T24:00+01:00", "2026-12-31T23:00:00+00:00"),
        ("2026-12-31T24:00:00.000Z", "2027-01-01T00:00:00+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("2016-12-31T18:59:60.5-05:00", "2017-01-01T00:00:00+00:00"),
        ("2026-W09-7T10:00:00Z", "2026-03-01T10:00:00+00:00"),
        ("2026W097T10:00:00Z", "2026-03-01T10:00:00+00:00"),
        ("2026-W53-5T10:00:00Z", "2027-01-01T10:00:00+00:00"),
        ("2026-060T10:00:00Z", "2026-03-01T10:00:00+00:00"),
        ("2024366 10:00:00Z", "2024-12-31T10:00:00+00:00"),
        ("2026-03-01T11:00:00+01:00[Europe/Berlin]", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01T10:00:00 UTC", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01 10:00 GMT", "2026-03-01T10:00:00+00:00"),
    ],
)
def test_the_corners_of_iso_8601_are_the_instants_they_mean(text: str, plain: str) -> None:
    assert one_time(text, EventTimeRules(), Counter()) == ns(plain)
    assert from_text(pa.array([text]), EventTimeRules()).ns.tolist() == [ns(plain)]


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T24:00:01Z",
        "2026-03-01T24:00:00.5Z",
        "2026-03-01T10:00:60Z",
        "9999-12-31T24:00:00Z",
        "2026-W54-1T10:00:00Z",
        "2025-W53-1T10:00:00Z",
        "2026-366T10:00:00Z",
        "2026-000T10:00:00Z",
        "0000-001T10:00:00Z",
        "2026-02-29T10:00:00Z",
    ],
)
def test_instants_that_no_calendar_or_clock_has_are_refused(text: str) -> None:
    assert one_time(text, EventTimeRules(), Counter()) is None


def test_a_time_without_offset_and_without_a_zone_is_refused_and_counted() -> None:
    found = from_text(pa.array(["2026-03-01T10:00:00", "2026-03-01T10:00:00Z"]), EventTimeRules())
    assert found.bad.tolist() == [True, False] and found.counts == {"naive_time": 1}


def test_the_skipped_and_the_repeated_hour_are_decided_and_counted() -> None:
    texts = [
        "2026-03-29T01:59:59",
        "2026-03-29T02:30:00",
        "2026-03-29T03:00:00",
        "2026-10-25T02:30:00",
        "2026-10-25T03:00:00",
    ]
    found = from_text(pa.array(texts), BERLIN)
    assert found.ns.tolist() == [
        ns("2026-03-29T00:59:59+00:00"),
        ns("2026-03-29T01:30:00+00:00"),
        ns("2026-03-29T01:00:00+00:00"),
        ns("2026-10-25T00:30:00+00:00"),
        ns("2026-10-25T02:00:00+00:00"),
    ]
    assert found.counts == {"dst_gap": 1, "dst_fold": 1} and not found.bad.any()


@given(
    st.lists(INSTANTS, min_size=1, max_size=20),
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"]),
)
def test_a_column_of_local_times_is_read_as_its_texts_one_by_one(moments: list[datetime], zone: str) -> None:
    rules, counts = EventTimeRules(zone=zone), Counter[str]()
    texts = [moment.isoformat() for moment in moments]
    found = from_text(pa.array(texts), rules)
    assert found.ns.tolist() == [one_time(text, rules, counts) for text in texts]
    assert found.counts == counts
    for moment, instant in zip(moments, found.ns.tolist(), strict=True):
        local = datetime.fromtimestamp(instant // NS, ZoneInfo(zone)).replace(tzinfo=None)
        assert local == moment or (
            local > moment and local - moment <= timedelta(hours=1) and counts["dst_gap"]
        )


def test_a_declared_first_year_decides_what_is_plausible() -> None:
    sent = int(datetime(2005, 6, 1, tzinfo=timezone.utc).timestamp())
    assert one_time(sent, EventTimeRules(), Counter()) == sent * NS
    assert one_time(sent, EventTimeRules(earliest_year=2020), Counter()) is None


@pytest.mark.parametrize("instant", [1_767_571_200_123_456_000, 1_767_571_200_999_999_000, 10**18])
def test_fractions_are_read_to_the_microsecond_that_was_meant(instant: int) -> None:
    rules = EventTimeRules()
    for unit in ("s", "ms"):
        sent = instant / PER_UNIT[unit]
        assert one_time(sent, rules, Counter()) == instant
        assert one_time(repr(sent), rules, Counter()) == instant
    # A float of us or ns has no decimals to keep.
    assert one_time(float(instant // 1000), rules, Counter()) == instant


def test_years_are_plausible_up_to_the_last_second_of_2199_in_numbers_and_texts() -> None:
    last = int(datetime(2199, 12, 31, 23, 59, 59, tzinfo=timezone.utc).timestamp())
    rules = EventTimeRules(earliest_year=2005)
    first = int(datetime(2005, 1, 1, tzinfo=timezone.utc).timestamp())
    for second, plausible in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
        text = datetime.fromtimestamp(second, timezone.utc).isoformat()
        expected = second * NS if plausible else None
        assert one_time(text, rules, Counter()) == expected == one_time(second, rules, Counter())
        found = from_text(pa.array([text, None]), rules)
        assert found.bad.tolist() == [not plausible, True] and found.ns.tolist() == [expected or 0, 0]
        numbers = from_numbers(np.array([second]), rules)
        assert numbers.bad.tolist() == [not plausible] and numbers.ns.tolist() == [expected or 0]
