"""Rows that an export itself calls bad are not learned from, however it says so."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import InputDataError
from ingestion.layout import Layout
from ingestion.quality import poor_rows
from ingestion.sitefile import read_site_file

LONG = Layout(sensor="tag", value="value", quality="Quality")


def poor(cells, lowest=64):
    return poor_rows("Quality", pa.chunked_array([pa.array(cells)]), lowest, []).tolist()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([192, 64, 24, 0, None], [False, False, True, True, False]),
        (["192", "64", "24", "0", ""], [False, False, True, True, False]),
        ([0x01C0, 0x0518], [False, True]),
        ([0, 0x40000000, 0x80000000, 0x803E0000], [False, False, True, True]),
        ([0, 0x80000000 - 2**32], [False, True]),
        (["Good", "GOOD [Non-Specific]", "uncertain", "Bad, Not Connected"], [False, False, False, True]),
    ],
)
def test_opc_numbers_status_codes_and_words_say_what_is_bad(cells, expected):
    assert poor(cells) == expected


def test_the_lowest_quality_that_is_kept_can_be_chosen():
    assert poor([192, 100, 64, 0], 192) == [False, True, True, True]
    assert poor([192, 100, 64, 0], 0) == [False] * 4


@given(st.lists(st.integers(0, 255), min_size=1))
def test_numbers_below_the_lowest_are_poor_and_no_others(cells):
    if any(cell >= 64 for cell in cells):
        assert poor(cells) == [cell < 64 for cell in cells]
    else:
        with pytest.raises(InputDataError, match="calls every row worse than 64"):
            poor(cells)


@pytest.mark.parametrize("cells", [["O.K.", "Good", "fine"], [1.5, 2.5], ["nan", "inf"]])
def test_a_column_of_something_else_is_refused(cells):
    with pytest.raises(InputDataError, match="expected an OPC quality"):
        poor(cells)


def test_bad_readings_of_a_row_each_become_missing_and_are_counted(tmp_path):
    path = tmp_path / "east.csv"
    path.write_text(
        "timestamp,tag,value,Quality\n"
        "2026-03-01,t,20,192\n2026-03-01,p,-9999,0\n2026-03-02,t,I/O Timeout,8\n2026-03-02,p,3,192\n2026-03-03,p,4,?\n"
    )
    file = read_site_file(path, LONG)
    nan = np.nan
    np.testing.assert_array_equal(file.frame[["p", "t"]].to_numpy(), [[nan, 20], [3, nan], [4, nan]])
    assert set(file.notes) == {
        "2 rows are of a quality below 64 (column 'Quality'); their values count as missing",
        "column 'Quality': 1 cells are no quality; their rows are kept",
    }


def test_a_bad_row_of_a_column_for_each_sensor_holds_nothing_and_quality_is_no_sensor(tmp_path):
    path = tmp_path / "east.csv"
    path.write_text("timestamp,t,p,quality\n2026-03-01,20,3,192\n2026-03-02,999,bad,0\n")
    with pytest.raises(InputDataError, match=r"'quality' is reserved; .* \(--quality quality\)"):
        read_site_file(path)
    file = read_site_file(path, Layout(quality="quality"))
    assert file.sensors == ("t", "p")
    assert file.frame[["t", "p"]].isna().all(axis=1).tolist() == [False, True]
    assert file.frame["timestamp"].is_monotonic_increasing and len(file.frame) == 2
    with pytest.raises(InputDataError, match="no column 'status'"):
        read_site_file(path, Layout(quality="status"))


def test_a_frame_of_parquet_says_it_as_a_csv_does(tmp_path):
    frame = pd.DataFrame(
        {
            "timestamp": pd.to_datetime(["2026-03-01", "2026-03-02"], utc=True),
            "t": [1.0, 2.0],
            "quality": pd.Categorical(["Good", "Bad"]),
        }
    )
    frame.to_parquet(tmp_path / "east.parquet")
    file = read_site_file(tmp_path / "east.parquet", Layout(quality="quality"))
    assert file.frame["t"].isna().tolist() == [False, True]
