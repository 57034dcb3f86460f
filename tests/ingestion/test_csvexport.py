from __future__ import annotations

import pytest

from ingestion.errors import InputDataError
from ingestion.sitefile import read_site_file
from tests.ingestion.sitefiles import read


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


def test_a_line_end_within_a_name_is_a_blank(tmp_path):
    assert read(tmp_path, 'timestamp,"Temp\n(°C)"\n2026-03-01,1\n').sensors == ("Temp (°C)",)


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
