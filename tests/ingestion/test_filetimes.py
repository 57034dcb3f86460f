from __future__ import annotations

import pandas as pd
import pytest

from ingestion.errors import InputDataError
from ingestion.layout import Layout
from tests.ingestion.sitefiles import read

MARCH = pd.Timestamp("2026-03-01T10:00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T10:00:00Z",
        "2026-03-01 10:00:00",
        "2026-03-01T12:00:00+02:00",
        "1772359200",
        "1772359200000",
        "1772359200000000",
        "1772359200000000000",
    ],
)
def test_every_documented_form_of_time_is_the_same_instant(tmp_path, text):
    file = read(tmp_path, f"timestamp,temp\n{text},1.5\n")
    assert file.frame["timestamp"].tolist() == [MARCH]
    assert str(file.frame["timestamp"].dtype) == "datetime64[ns, UTC]"


def test_offsets_may_differ_from_row_to_row(tmp_path):
    file = read(tmp_path, "timestamp,t\n2026-03-29T01:30:00+01:00,1\n2026-03-29T03:30:00+02:00,2\n")
    assert file.frame["timestamp"].diff().iloc[1] == pd.Timedelta("1h")


@pytest.mark.parametrize("cells", [("46082.5", "46082.75"), ("46082,5", "46082,75")])
def test_days_of_a_spreadsheet_are_local_times_and_told(tmp_path, cells):
    rows = "".join(f"{cell};{number},5\n" for number, cell in enumerate(cells))
    file = read(tmp_path, "timestamp;t\n" + rows, Layout(time_zone="Europe/Berlin"))
    assert file.frame["timestamp"].tolist() == [
        pd.Timestamp("2026-03-01T11:00:00Z"),
        pd.Timestamp("2026-03-01T17:00:00Z"),
    ]
    assert "days of a spreadsheet: 46082.5 is read as 2026-03-01 12:00:00" in "\n".join(file.notes)


def test_numbers_that_only_run_through_days_are_seconds(tmp_path):
    file = read(tmp_path, "timestamp,t\n100,1\n46082,2\n")
    assert file.frame["timestamp"].iloc[0] == pd.Timestamp("1970-01-01T00:01:40Z")


@pytest.mark.parametrize("form", ["%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d"])
def test_dates_without_marks_are_refused_with_their_form_which_reads_them(tmp_path, form):
    rows = "".join(f"{day:{form}},{day.day}\n" for day in pd.date_range("2026-03-01", periods=3))
    with pytest.raises(InputDataError, match=f"no epoch number; describe it .--time-format '{form}'"):
        read(tmp_path, "timestamp,t\n" + rows)
    file = read(tmp_path, "timestamp,t\n" + rows, Layout(time_format=form))
    assert file.frame["timestamp"].iloc[0] == pd.Timestamp("2026-03-01T00:00:00Z")


def test_seconds_with_a_fraction_are_told_to_the_microsecond(tmp_path):
    file = read(tmp_path, "timestamp,t\n1772359200.123,1\n1772359201.123,2\n")
    assert file.frame["timestamp"].iloc[0] == MARCH + pd.Timedelta("123ms")


def test_a_time_of_the_hour_that_a_clock_repeats_is_left_out_and_one_with_an_offset_is_not(tmp_path):
    berlin = Layout(time_zone="Europe/Berlin")
    text = (
        "timestamp,t\n2026-10-25 00:30,1\n2026-10-25 02:30,2\n2026-10-25 02:30+01:00,3\n2026-10-25 03:30,4\n"
    )
    file = read(tmp_path, text, berlin)
    assert file.frame["timestamp"].dt.strftime("%H:%M").tolist() == ["22:30", "01:30", "02:30"]
    assert file.frame["t"].tolist() == [1, 3, 4]
    assert "1 rows without a usable timestamp were left out" in file.notes


@pytest.mark.parametrize(
    ("times", "form", "hint"),
    [
        (("31/12/2026 10:00", "01/01/2027 10:00"), None, "(--time-format '%d/%m/%Y %H:%M')"),
        (
            ("01/02/2026 10:00 PM",),
            None,
            "(--time-format '%d/%m/%Y %I:%M %p' or '%m/%d/%Y %I:%M %p')",
        ),
        (("25.12.2026 10:00:17",), "%d.%m.%Y %H:%M", "(--time-format '%d.%m.%Y %H:%M:%S')"),
        (("01-Feb-26 00:00:00",), None, "(--time-format '%d-%b-%y %H:%M:%S')"),
        (("2026-03-01 10:00 CEST",), None, "(such as --time-format '%d/%m/%Y %H:%M')"),
        (("soon",), "%d.%m.%Y", "describe it (--time-format)"),
        # Half of the days could be months: reading those would take them for others.
        (
            ("01/05/2026", "01/13/2026", "01/14/2026"),
            "%d/%m/%Y",
            "'01/13/2026' is not as %d/%m/%Y; convert the column or describe it (--time-format '%m/%d/%Y')",
        ),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_times_of_another_form_are_refused_with_the_form_that_fits(tmp_path, times, form, hint, zone):
    rows = "".join(f"{time},1\n" for time in times)
    with pytest.raises(InputDataError) as refused:
        read(tmp_path, f"timestamp,t\n{rows}", Layout(time_format=form, time_zone=zone))
    assert str(refused.value).endswith(hint)


def test_a_time_that_a_clock_skips_takes_nobodys_place_and_the_remark_says_how_to_read_such_a_clock(tmp_path):
    text = "timestamp,t\n2026-03-29 01:59,1\n2026-03-29 02:00,2\n2026-03-29 02:59,3\n2026-03-29 03:00,4\n"
    file = read(tmp_path, text, Layout(time_zone="Europe/Berlin"))
    assert file.frame["t"].tolist() == [1, 4]
    assert "2 rows lie in an hour that clocks in Europe/Berlin skip or repeat" in "\n".join(file.notes)
    assert "the first at 2026-03-29 02:00" in "\n".join(file.notes)
    steady = read(tmp_path, text, Layout(time_zone="Etc/GMT-1"))
    assert steady.frame["t"].tolist() == [1, 2, 3, 4] and steady.notes == ()
