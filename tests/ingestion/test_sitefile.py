from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from ingestion.errors import InputDataError
from ingestion.layout import Layout
from ingestion.sitefile import read_site_dir, read_site_file


def write(folder, text, name="press-1.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def read(folder, text, layout=None, **options):
    return read_site_file(write(folder, text, **options), layout or Layout())


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


def test_an_export_may_call_and_write_its_special_columns_as_it_likes(tmp_path):
    layout = Layout("Zeit", "Anlage", "Störung", "%d.%m.%Y %H:%M", "Europe/Berlin")
    text = "Zeit;Anlage;Druck;Störung\n01.07.2026 12:00;P1;1,5;0\n01.07.2026 12:01;P1;1,6;1\n"
    file = read(tmp_path, text, layout)
    assert file.frame["timestamp"].iloc[0] == pd.Timestamp("2026-07-01T10:00:00Z")
    assert (file.sensors, file.frame["asset"].tolist(), file.labels.tolist()) == (
        ("Druck",),
        ["P1", "P1"],
        [0, 1],
    )


@pytest.mark.parametrize(
    "rows",
    [
        "2026-03-01;1;A.7;4\n2026-03-02;2;A.7;1,5\n2026-03-03;3;A.7;2,5\n",
        '2026-03-01 10:00:00.5;1;"B 1.2";"1,5"\n2026-03-02 10:00:00.5;2;"B 1.2";"2,5"\n',
        "2026-03-01;;;\n2026-03-02;2;12.03.2026;1,5\n",
    ],
)
def test_decimal_commas_are_seen_whatever_else_a_row_holds_and_wherever_they_begin(tmp_path, rows):
    file = read(tmp_path, "timestamp;count;batch;pressure\n" + rows)
    assert file.sensors == ("count", "pressure")
    assert 1.5 in file.frame["pressure"].tolist()


@pytest.mark.parametrize("odd", ["UTC;°C;bar", "2026-02-28;Bad Input;"])
def test_one_cell_of_text_costs_a_column_with_decimal_commas_that_cell_alone(tmp_path, odd):
    rows = "".join(f"2026-03-{day:02d};7{day % 3},5;{day}\n" for day in range(1, 29))
    file = read(tmp_path, f"timestamp;temp;count\n{odd}\n{rows}")
    assert file.sensors == ("temp", "count")
    assert file.frame["temp"].dropna().tolist() == [70.5 + day % 3 for day in range(1, 29)]
    assert "column 'temp': 1 cells are not numbers; they count as missing" in file.notes


@pytest.mark.parametrize(
    ("delimiter", "cells", "values", "told"),
    [
        (
            ";",
            ["1.234,5", "987,5", "2.000.000,25"],
            [1234.5, 987.5, 2000000.25],
            "'1.234,5' is read as 1234.5",
        ),
        (",", ['"1,234.5"', "987.5", '"2,000,000"'], [1234.5, 987.5, 2e6], "'1,234.5' is read as 1234.5"),
        (";", ["1\u202f234,5", "-1\u00a0000,5", "7,5"], [1234.5, -1000.5, 7.5], "is read as 1234.5"),
        (",", ["1'234.5", "7.5", "12"], [1234.5, 7.5, 12], "is read as 1234.5"),
        (",", ['"71,5"', '"1.072,25"', '"73"'], [71.5, 1072.25, 73], "'1.072,25' is read as 1072.25"),
        (",", ['"71,5"', '"72,25"', '"73"'], [71.5, 72.25, 73], None),
        (";", ["1e3", "12,5e-1", "-,5"], [1000, 1.25, -0.5], None),
    ],
)
def test_thousands_and_fractions_are_read_as_the_locale_writes_them(tmp_path, delimiter, cells, values, told):
    rows = "".join(f"2026-03-0{day}{delimiter}{cell}\n" for day, cell in enumerate(cells, 1))
    file = read(tmp_path, f"timestamp{delimiter}flow\n{rows}")
    assert file.frame["flow"].tolist() == values
    assert len(file.notes) == (told is not None) and (told or "") in "".join(file.notes)


def test_the_remark_on_thousands_tells_the_number_also_where_another_cell_tells_what_the_comma_is(tmp_path):
    rows = "".join(
        f"2026-03-01T00:0{minute}:00Z;{cell}\n" for minute, cell in enumerate(["71,234", "1,234.5", "2.5"])
    )
    file = read(tmp_path, "timestamp;x\n" + rows)
    assert file.frame["x"].tolist() == [71234.0, 1234.5, 2.5]
    assert file.notes == ("column 'x': thousands are set apart; '71,234' is read as 71234",)


def test_whole_thousands_beside_decimal_commas_are_no_fractions(tmp_path):
    file = read(tmp_path, "timestamp;temp;pieces\n2026-03-01;7,5;1.000\n2026-03-02;8,5;1.250\n")
    assert file.frame["pieces"].tolist() == [1000, 1250]
    points = read(tmp_path, "timestamp;temp;ratio\n2026-03-01;7,5;1.000\n2026-03-02;8,5;0.25\n")
    assert points.frame["ratio"].tolist() == [1, 0.25] and points.notes == ()


def test_cells_that_may_be_thousands_or_fractions_are_not_guessed(tmp_path):
    file = read(tmp_path, 'timestamp,temp,flow\n2026-03-01,1.5,"71,234"\n2026-03-02,2.5,"72,345"\n')
    assert file.sensors == ("temp",)
    assert file.notes == ("column 'flow' is not numeric (string); it was ignored",)


@pytest.mark.parametrize("start", ["sep=;\n", "\n\n", "\nSEP=;\n"])
def test_what_spreadsheets_write_before_a_header_is_passed_over(tmp_path, start):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        file = read(tmp_path, start + "timestamp;t;u\n2026-03-01;1,5;2\n", encoding=encoding)
        assert file.frame[["t", "u"]].to_numpy().tolist() == [[1.5, 2.0]]


def test_a_bar_separates_cells_too(tmp_path):
    assert read(tmp_path, "timestamp|t|u\n2026-03-01|1.5|2\n").sensors == ("t", "u")


@pytest.mark.parametrize(
    "above", ["PI export\nServer: PI01\n", '"PI export",,\n"Server",,\n', "a;b;c;d\n1\n"]
)
def test_a_header_below_other_lines_is_told_with_its_line(tmp_path, above):
    with pytest.raises(InputDataError, match="'timestamp' is named in line 3; remove the 2 lines above it"):
        read(tmp_path, above + "timestamp,t,u\n2026-03-01,1,2\n")


def test_columns_without_a_name_are_left_out_and_told_if_they_hold_anything(tmp_path):
    behind = read(tmp_path, "timestamp,t,,\n2026-03-01,1,,\n")
    assert behind.sensors == ("t",) and "no name" not in "".join(behind.notes)
    numbered = read(tmp_path, ",timestamp,t\n0,2026-03-01,1\n1,2026-03-02,2\n")
    assert numbered.sensors == ("t",) and numbered.notes == ("column 1 has no name; it was left out",)
    frame = pd.DataFrame({"timestamp": [MARCH, MARCH + pd.Timedelta("1min")], "t": [1.0, 2.0]}, index=[7, 3])
    frame.to_parquet(tmp_path / "press-2.parquet")
    assert read_site_file(tmp_path / "press-2.parquet").sensors == ("t",)


def test_a_line_end_within_a_name_is_a_blank(tmp_path):
    assert read(tmp_path, 'timestamp,"Temp\n(°C)"\n2026-03-01,1\n').sensors == ("Temp (°C)",)


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


def test_a_named_column_must_exist_and_take_nobodys_place(tmp_path):
    with pytest.raises(InputDataError, match="no column 'time'; found timestamp, t"):
        read(tmp_path, "timestamp,t\n2026-03-01,1\n", Layout(timestamp="time"))
    with pytest.raises(InputDataError, match="has 'fault' and also a column `label`"):
        read(tmp_path, "timestamp,t,label,fault\n2026-03-01,1,0,0\n", Layout(label="fault"))


def test_a_time_of_the_hour_that_a_clock_repeats_is_left_out_and_one_with_an_offset_is_not(tmp_path):
    berlin = Layout(time_zone="Europe/Berlin")
    text = (
        "timestamp,t\n2026-10-25 00:30,1\n2026-10-25 02:30,2\n2026-10-25 02:30+01:00,3\n2026-10-25 03:30,4\n"
    )
    file = read(tmp_path, text, berlin)
    assert file.frame["timestamp"].dt.strftime("%H:%M").tolist() == ["22:30", "01:30", "02:30"]
    assert file.frame["t"].tolist() == [1, 3, 4]
    assert "1 rows without a usable timestamp were left out" in file.notes


def test_semicolons_decimal_commas_and_a_byte_order_mark_read_as_numbers(tmp_path):
    file = read(tmp_path, "timestamp;temp;flow\n2026-03-01T10:00:00.250Z;71,25;-0,5\n", encoding="utf-8-sig")
    assert file.sensors == ("temp", "flow")
    assert file.frame[["temp", "flow"]].to_numpy().tolist() == [[71.25, -0.5]]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_file_that_is_not_utf8_is_read_as_windows_writes_it(tmp_path, encoding):
    file = read(tmp_path, "timestamp;Wärme [°C]\n2026-03-01T10:00:00Z;71,25\n", encoding=encoding)
    assert file.sensors == ("Wärme [°C]",) and file.frame["Wärme [°C]"].tolist() == [71.25]
    assert ("not UTF-8; read as Windows-1252" in file.notes) == (encoding == "cp1252")


def test_a_row_that_was_cut_off_is_left_out_and_counted_and_many_such_are_another_kind_of_file(tmp_path):
    rows = [f"2026-03-01T10:00:{second:02d}Z,{second},0.5" for second in range(40)]
    text = "timestamp,temp,flow\n" + "\n".join(rows)
    file = read(tmp_path, text[:-4])
    assert len(file.frame) == 39
    assert "1 rows have fewer cells than the header; they were left out" in file.notes
    with pytest.raises(InputDataError, match="2 of 42 rows have not the header's 3 cells, the first 1: '1'"):
        read(tmp_path, text + "\n1\n1,2\n")
    with pytest.raises(
        InputDataError, match="1 of 41 rows have not the header's 3 cells, the first 4: '1,2,3,4'"
    ):
        read(tmp_path, text + "\n1,2,3,4\n")
    with pytest.raises(InputDataError, match="1 of 1 rows have not the header's 3 cells"):
        read(tmp_path, "timestamp,temp,flow\n2026-03-01T10:00:00Z,1\n")


def test_rows_are_sorted_and_repeated_times_of_an_asset_kept_once_with_a_note(tmp_path):
    text = (
        "timestamp,asset,t\n"
        "2026-03-01T10:01:00Z,a,3\n2026-03-01T10:00:00Z,a,1\n2026-03-01T10:00:00Z,a,9\n2026-03-01T10:00:00Z,b,2\n"
    )
    file = read(tmp_path, text)
    assert file.frame["t"].tolist() == [1, 2, 3]
    assert file.frame["asset"].tolist() == ["a", "b", "a"]
    assert any("not in time order" in note for note in file.notes)
    assert any(note.startswith("1 rows repeat") for note in file.notes)


def test_missing_infinite_and_unreadable_cells_become_nan_and_are_named(tmp_path):
    text = "timestamp,ok,inf,part,text,dead\n" + "".join(
        f"2026-03-01T10:0{i}:00Z,{i},{'inf' if i == 1 else i},{'bad' if i == 2 else i},running,\n"
        for i in range(5)
    )
    file = read(tmp_path, text)
    assert file.sensors == ("ok", "inf", "part", "dead")
    assert np.isnan(file.frame["inf"].iloc[1]) and np.isfinite(file.frame["inf"].drop(1)).all()
    assert np.isnan(file.frame["part"].iloc[2]) and file.frame["part"].iloc[4] == 4
    assert file.frame["dead"].isna().all()
    joined = "\n".join(file.notes)
    assert "'inf': 1 infinite" in joined
    assert "'part': 1 cells are not numbers" in joined
    assert "'text' is not numeric" in joined
    assert "'dead' has no value at all" in joined


@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_whole_numbers_beyond_what_a_float_holds_exactly_are_the_nearest_one(tmp_path, kind):
    frame = pd.DataFrame({"timestamp": pd.date_range(MARCH, periods=3, freq="1min"), "flow": [1.0, 2.0, 3.0]})
    frame["meter"] = np.array([2**60 + 977, 2**53 + 1, 7], kind)
    frame.to_parquet(tmp_path / "press-1.parquet")
    file = read_site_file(tmp_path / "press-1.parquet", Layout())
    assert file.frame["meter"].tolist() == [float(2**60 + 977), float(2**53), 7.0]
    assert not file.notes


def test_labels_come_apart_from_the_sensors_and_unknown_stays_unknown(tmp_path):
    file = read(tmp_path, "timestamp,t,label\n2026-03-01,1,\n2026-03-02,2,1\n2026-03-03,3,0\n")
    assert file.sensors == ("t",)
    assert "label" not in file.frame
    assert file.labels is not None
    assert file.labels.isna().tolist() == [True, False, False]
    assert file.labels.tolist()[1:] == [1, 0]


def test_labels_follow_their_rows_when_these_are_sorted(tmp_path):
    file = read(tmp_path, "timestamp,t,label\n2026-03-03,3,1\n2026-03-01,1,0\n2026-03-02,2,0\n")
    assert file.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "cells,labels,note",
    [
        ("Normal Attack Attack", [0, 1, 1], "labels are words: 'Normal' read as 0, 'Attack' read as 1"),
        ("anomaly ok FAULT", [1, 0, 1], "'anomaly' read as 1, 'ok' read as 0, 'FAULT' read as 1"),
        ("True False True", [1, 0, 1], None),
        ("1.0 0 1", [1, 0, 1], None),
        ("good 1 0", [0, 1, 0], "'good' read as 0"),
    ],
)
def test_words_for_good_and_bad_are_read_and_told(tmp_path, cells, labels, note):
    rows = "".join(f"2026-03-0{day},{day},{cell}\n" for day, cell in enumerate(cells.split(), 1))
    file = read(tmp_path, "timestamp,t,label\n" + rows + "2026-03-09,9,\n")
    assert file.labels.tolist()[:-1] == labels and file.labels.isna().tolist() == [False] * 3 + [True]
    told = [each for each in file.notes if "labels are words" in each]
    assert len(told) == (note is not None) and all(note in each for each in told)


def test_one_row_is_read_and_said_to_be_too_little(tmp_path):
    file = read(tmp_path, "timestamp,t\n2026-03-01,1\n")
    assert len(file.frame) == 1
    assert "only one row: nothing can be learned from it" in file.notes


def test_a_header_without_rows_is_a_site_that_takes_no_part_and_a_folder_of_them_is_refused(tmp_path):
    (tmp_path / "press-2.csv").write_text("timestamp,t\n2026-03-01,1\n")
    file = read(tmp_path, "timestamp,asset,t,label\n")
    assert file.frame.empty and file.sensors == () and file.notes == ("no rows: this site takes no part",)
    assert {site: len(each.frame) for site, each in read_site_dir(tmp_path).items()} == {
        "press-1": 0,
        "press-2": 1,
    }
    (tmp_path / "press-2.csv").unlink()
    with pytest.raises(InputDataError, match="no file holds a row"):
        read_site_dir(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("time,t\n1,2\n", "no column `timestamp`"),
        ("timestamp,t,t\n2026-03-01,1,2\n", "'t' occurs twice"),
        ("timestamp,quality\n2026-03-01,1\n", "'quality' is reserved"),
        ("timestamp,state\n2026-03-01,running\n", "no numeric sensor"),
        ("timestamp,t\nyesterday,1\n", "'yesterday' is neither ISO 8601"),
        ("timestamp,t\n31/12/2026 10:00,1\n", "describe it (--time-format"),
        ("timestamp,t,label\n2026-03-01,1,7\n", "label 7; expected 0 (good), 1 (in an incident) or empty"),
        ("timestamp,t,label\n2026-03-01,1,-1\n2026-03-02,1,1\n", "label -1; expected 0 (good)"),
        ("timestamp,t,label\n2026-03-01,1,A4\n", "label 'A4'; expected 0 (good)"),
        ("timestamp,t,label\n2026-03-01,1,nan1\n", "name that (--label NAME)"),
        ("timestamp,t\n2026-03-01,1\n2026-03-02,1,5\n", "quote cells that hold ','"),
    ],
)
def test_an_unusable_file_is_refused_in_one_line_that_names_it(tmp_path, text, message):
    with pytest.raises(InputDataError) as refused:
        read(tmp_path, text)
    assert message in str(refused.value)
    assert "press-1.csv" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_that_could_leave_the_data_folder_is_refused(tmp_path):
    with pytest.raises(InputDataError, match="cannot be used"):
        read(tmp_path, "timestamp,t\n2026-03-01,1\n", name="press 1$.csv")


def test_a_half_written_parquet_is_refused(tmp_path):
    whole = tmp_path / "whole.parquet"
    pd.DataFrame({"timestamp": [MARCH], "t": [1.0]}).to_parquet(whole)
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(InputDataError, match=r"torn\.parquet: cannot be read as parquet"):
        read_site_file(torn)


def test_a_folder_gives_its_sites_in_name_order_and_two_files_of_one_site_are_refused(tmp_path):
    for name in ("b.csv", "a.csv"):
        write(tmp_path, "timestamp,t\n2026-03-01,1\n", name=name)
    (tmp_path / "README.md").write_text("not a site")
    assert list(read_site_dir(tmp_path)) == ["a", "b"]
    pd.DataFrame({"timestamp": [MARCH], "t": [1.0]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputDataError, match="site a has two files"):
        read_site_dir(tmp_path)


def test_a_folder_without_site_files_is_refused(tmp_path):
    with pytest.raises(InputDataError, match=r"no \.parquet or \.csv"):
        read_site_dir(tmp_path)
    (tmp_path / "press-1.csv.gz").write_bytes(b"")
    (tmp_path / "README.md").write_text("not a site")
    with pytest.raises(InputDataError, match=r"file; only press-1\.csv\.gz; unpack or export them as such"):
        read_site_dir(tmp_path)
    with pytest.raises(InputDataError, match="is not a folder"):
        read_site_dir(tmp_path / "nowhere")


def test_the_example_machines_are_whole_and_regular():
    files = read_site_dir("examples/machines")
    assert list(files) == ["machine-1-6", "machine-1-8", "machine-2-1", "machine-3-4"]
    assert {site: int(file.labels.sum()) for site, file in files.items()} == {
        "machine-1-6": 3708,
        "machine-1-8": 763,
        "machine-2-1": 1170,
        "machine-3-4": 977,
    }
    for file in files.values():
        assert file.notes == ()
        assert len(file.sensors) == 38
        assert file.frame["timestamp"].iloc[0] == pd.Timestamp("2026-01-05T00:00:00Z")
        assert set(file.frame["timestamp"].diff().dropna()) == {pd.Timedelta("1min")}
        assert not file.frame.isna().any().any()


LONG = Layout(timestamp="time", asset="unit", label="alarm", sensor="tag", value="value")


def test_an_export_of_one_row_per_reading_becomes_one_row_per_time(tmp_path):
    text = (
        "time,unit,tag,value,quality,alarm\n"
        "2026-03-01T10:00:05Z,P1,TIC-1.PV,71.5,Good,0\n"
        "2026-03-01T10:00:00Z,P1,FIC-1.PV,3,Good,0\n"
        "2026-03-01T10:00:05Z,P1,FIC-1.PV,4,Good,1\n"
        "2026-03-01T10:00:05Z,P2,TIC-1.PV,20,Good,\n"
        "2026-03-01T10:00:10Z,P1,TIC-1.PV,Bad Input,Bad,0\n"
        "2026-03-01T10:00:15Z,P1,TIC-1.PV,72.5,Good,0\n"
        "2026-03-01T10:00:15Z,P1,TIC-1.PV,99,Good,0\n"
        "2026-03-01T10:00:15Z,P1,MODE,AUTO,Good,0\n"
        "2026-03-01T10:00:15Z,P1,,1,Good,0\n"
        "never,P1,TIC-1.PV,1,Good,0\n"
    )
    file = read(tmp_path, text, LONG)
    assert file.sensors == ("FIC-1.PV", "TIC-1.PV")
    times = file.frame["timestamp"].dt.strftime("%S").tolist()
    assert list(zip(times, file.frame["asset"], strict=True)) == [
        ("00", "P1"),
        ("05", "P1"),
        ("05", "P2"),
        ("10", "P1"),
        ("15", "P1"),
    ]
    nan = np.nan
    np.testing.assert_array_equal(
        file.frame[list(file.sensors)].to_numpy(), [[3, nan], [4, 71.5], [nan, 20], [nan, nan], [nan, 72.5]]
    )
    assert str(file.frame["timestamp"].dtype) == "datetime64[ns, UTC]"
    assert [None if label is pd.NA else int(label) for label in file.labels] == [0, 1, None, 0, 0]
    assert set(file.notes) == {
        "1 rows without a usable timestamp were left out",
        "1 rows name no sensor; they were left out",
        "1 rows repeat sensor and time of an earlier row; the first was kept",
        "column 'quality' is not looked at; if it tells good readings from bad, name it (--quality quality)",
        "sensor 'MODE' is mostly text; it was ignored",
        "sensor 'TIC-1.PV': 1 cells are not numbers; they count as missing",
    }


def test_a_wide_export_and_the_same_readings_one_by_one_are_one_file(tmp_path):
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(300, 4)).round(3), columns=list("dbca"))
    wide[rng.random(wide.shape) < 0.3] = np.nan
    wide.insert(0, "timestamp", pd.date_range("2026-03-01", periods=300, freq="s", tz="UTC"))
    wide = wide[wide[list("abcd")].notna().any(axis=1)]
    long = wide.melt("timestamp", var_name="tag", value_name="value").dropna().sample(frac=1, random_state=1)
    ours = read(tmp_path, wide.to_csv(index=False))
    theirs = read(tmp_path, long.to_csv(index=False), Layout(sensor="tag", value="value"))
    assert theirs.sensors == ("a", "b", "c", "d") and theirs.labels is None
    pd.testing.assert_frame_equal(ours.frame[["timestamp", "asset", *"abcd"]], theirs.frame)


def test_numbers_as_tag_names_and_decimal_commas_are_read_and_taken_names_are_not(tmp_path):
    layout = Layout(sensor="tag", value="Wert")
    file = read(tmp_path, "timestamp;tag;Wert\n2026-03-01;4711;1,5\n2026-03-01;0815;2,5\n", layout)
    assert file.sensors == ("0815", "4711") and file.frame[["0815", "4711"]].to_numpy().tolist() == [
        [2.5, 1.5]
    ]
    with pytest.raises(InputDataError, match=r"press-1\.csv: the name 'offset' is reserved"):
        read(tmp_path, "timestamp,tag,Wert\n2026-03-01,offset,1\n", layout)
    with pytest.raises(InputDataError, match="no column 'tag'; found timestamp, t"):
        read(tmp_path, "timestamp,t\n2026-03-01,1\n", layout)
    with pytest.raises(
        InputDataError, match=r"press-1\.csv: no row has a usable time, a sensor's name and a number"
    ):
        read(tmp_path, "timestamp,tag,Wert\n2026-03-01,MODE,AUTO\n", layout)


def test_a_file_whose_rows_mostly_repeat_a_time_is_refused_with_what_it_may_be(tmp_path):
    rows = "".join(f"2026-03-01T10:00:0{i // 3}Z,{'abc'[i % 3]},{i}\n" for i in range(9))
    with pytest.raises(InputDataError, match=r"6 of 9 rows repeat the time .*\(--sensor, --value\)"):
        read(tmp_path, "timestamp,tag,value\n" + rows)
    assert read(tmp_path, "timestamp,tag,value\n" + rows, Layout(sensor="tag", value="value")).sensors == (
        "a",
        "b",
        "c",
    )


def test_the_same_oddity_in_many_columns_is_one_line_and_every_column_is_kept(tmp_path):
    names = [f"T{number}" for number in range(8)]
    rows = "".join(f"2026-03-0{day},{day},{','.join(['Bad'] + [str(day)] * 7)},{',' * 7}\n" for day in (1, 2))
    rows += f"2026-03-03,3,{','.join(['3'] + ['Bad'] * 7)},{',' * 7}\n"
    wide = ",".join(f"{name}.PV" for name in names)
    file = read(tmp_path, f"timestamp,ok,{wide},{','.join(names)}\n{rows}")
    assert len(file.sensors) == 1 + 7 + 8
    assert set(file.notes) == {
        "column 'T0.PV' is not numeric (string); it was ignored",
        "7 columns hold 7 cells that are not numbers; they count as missing ('T1.PV', 'T2.PV', 'T3.PV', 'T4.PV', 'T5.PV' and 2 more)",
        "8 columns have no value at all ('T0', 'T1', 'T2', 'T3', 'T4' and 3 more)",
    }


def test_four_thousand_columns_cost_in_proportion(tmp_path):
    names = ",".join(f"s{number:04d}" for number in range(4000))
    rows = "".join(f"2026-03-0{day}" + ",1.5" * 4000 + "\n" for day in range(1, 9))
    began = time.process_time()
    assert len(read(tmp_path, f"timestamp,{names}\n{rows}").sensors) == 4000
    assert time.process_time() - began < 3


def test_one_machine_after_the_other_is_in_order(tmp_path):
    text = "timestamp,asset,t\n2026-03-01,a,1\n2026-03-02,a,2\n2026-03-01,b,3\n2026-03-02,b,4\n"
    file = read(tmp_path, text)
    assert file.notes == () and file.frame["t"].tolist() == [1, 3, 2, 4]


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + bytes(2000), "is not text"),
        (bytes(range(256)) * 40, "is not text"),
        ("timestamp,t\n2026-03-01,1\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (
            "timestamp,\u00fcber\n2026-03-01,1\n".encode("cp850"),
            "byte 0x81 in line 1 is neither UTF-8 nor Windows-1252",
        ),
    ],
    ids=["workbook", "program", "utf-16 without mark", "cp850"],
)
def test_a_csv_that_is_no_text_is_refused_as_that(tmp_path, content, message):
    path = tmp_path / "press-1.csv"
    path.write_bytes(content)
    with pytest.raises(InputDataError, match=r"press-1\.csv") as refused:
        read_site_file(path)
    assert message in str(refused.value)


def test_zeros_at_the_end_of_a_long_text_do_not_refuse_what_was_written_before(tmp_path):
    rows = "".join(
        f"2026-03-01T{hour:02d}:{minute:02d},{minute}\n" for hour in range(3) for minute in range(60)
    )
    file = read(tmp_path, f"timestamp,t\n{rows}" + "\0" * 40 + "\n")
    assert len(file.frame) == 180
    assert "1 rows have fewer cells than the header; they were left out" in file.notes


def test_columns_of_text_alone_are_named_where_no_sensor_is_left(tmp_path):
    with pytest.raises(InputDataError, match="no numeric sensor column: 'state' is mostly text; expected"):
        read(tmp_path, "timestamp,state\n2026-03-01,running\n")
    with pytest.raises(InputDataError, match="no numeric sensor column: no column besides timestamp, label;"):
        read(tmp_path, "timestamp,label\n2026-03-01,0\n")
