from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ingestion.errors import InputDataError
from ingestion.layout import Layout
from ingestion.sitefile import read_site_dir, read_site_file
from tests.ingestion.sitefiles import read, write
from tests.measuring import processor_seconds

MARCH = pd.Timestamp("2026-03-01T10:00:00Z")


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


def test_columns_without_a_name_are_left_out_and_told_if_they_hold_anything(tmp_path):
    behind = read(tmp_path, "timestamp,t,,\n2026-03-01,1,,\n")
    assert behind.sensors == ("t",) and "no name" not in "".join(behind.notes)
    numbered = read(tmp_path, ",timestamp,t\n0,2026-03-01,1\n1,2026-03-02,2\n")
    assert numbered.sensors == ("t",) and numbered.notes == ("column 1 has no name; it was left out",)
    frame = pd.DataFrame({"timestamp": [MARCH, MARCH + pd.Timedelta("1min")], "t": [1.0, 2.0]}, index=[7, 3])
    frame.to_parquet(tmp_path / "press-2.parquet")
    assert read_site_file(tmp_path / "press-2.parquet").sensors == ("t",)


def test_a_named_column_must_exist_and_take_nobodys_place(tmp_path):
    with pytest.raises(InputDataError, match="no column 'time'; found timestamp, t"):
        read(tmp_path, "timestamp,t\n2026-03-01,1\n", Layout(timestamp="time"))
    with pytest.raises(InputDataError, match="has 'fault' and also a column `label`"):
        read(tmp_path, "timestamp,t,label,fault\n2026-03-01,1,0,0\n", Layout(label="fault"))


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
    def cost(columns: int) -> float:
        names = ",".join(f"s{number:04d}" for number in range(columns))
        rows = "".join(f"2026-03-0{day}" + ",1.5" * columns + "\n" for day in range(1, 9))

        def reading() -> None:
            assert len(read(tmp_path, f"timestamp,{names}\n{rows}").sensors) == columns

        return processor_seconds(reading)

    # Four times as many for five times as much; with the square of them it would be sixteen.
    assert cost(4000) < 10 * cost(1000)


def test_one_machine_after_the_other_is_in_order(tmp_path):
    text = "timestamp,asset,t\n2026-03-01,a,1\n2026-03-02,a,2\n2026-03-01,b,3\n2026-03-02,b,4\n"
    file = read(tmp_path, text)
    assert file.notes == () and file.frame["t"].tolist() == [1, 3, 2, 4]


def test_columns_of_text_alone_are_named_where_no_sensor_is_left(tmp_path):
    with pytest.raises(InputDataError, match="no numeric sensor column: 'state' is mostly text; expected"):
        read(tmp_path, "timestamp,state\n2026-03-01,running\n")
    with pytest.raises(InputDataError, match="no numeric sensor column: no column besides timestamp, label;"):
        read(tmp_path, "timestamp,label\n2026-03-01,0\n")
