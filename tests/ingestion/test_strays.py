"""A row that a clock dated decades away is told and changes nothing; an export with pauses is left as it is."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.sitefile import read_site_file
from ingestion.strays import without_strays
from tests.pipeline.plants import plant

YEAR = 365 * 24 * 60


def written(folder, frame, *strays):
    rows = [frame.iloc[[at]].assign(timestamp=pd.Timestamp(time)) for at, time in enumerate(strays)]
    path = folder / "east.csv"
    pd.concat([*rows, frame]).to_csv(path, index=False)
    return read_site_file(path)


@pytest.mark.parametrize(
    "strays",
    [["2093-03-01T05:00Z"], ["1971-03-01T05:00Z"], ["2005-06-01T00:00Z", "2093-03-01T05:00Z"]],
)
def test_rows_decades_away_are_left_out_and_told_in_one_line(tmp_path, strays):
    clean = plant(1)
    found = written(tmp_path, clean, *strays)
    assert found.frame["timestamp"].tolist() == clean["timestamp"].tolist()
    assert found.labels is not None and found.labels.tolist() == clean["label"].tolist()
    [note] = [note for note in found.notes if "clock" in note]
    first = pd.Timestamp(min(strays)).strftime("%Y-%m-%d %H:%M")
    assert note == (
        f"{len(strays)} rows lie far from all others in time, the first at {first} UTC: a wrong clock; they were left out"
    )


def test_a_stretch_with_a_wrong_clock_is_kept_and_told_and_so_is_a_short_file(tmp_path):
    found = written(tmp_path, plant(1), "1971-03-01T05:00Z", "1971-03-01T05:01Z", "1971-03-01T05:02Z")
    assert len(found.frame) == 903
    assert "3 rows lie before 1990 or after 2099: a wrong clock or unit of time" in found.notes
    assert len(written(tmp_path, plant(1).head(50), "2005-03-01T05:00Z").frame) == 51


@pytest.mark.parametrize(
    "minutes",
    [
        np.r_[np.arange(500), YEAR + np.arange(5_000)],
        np.r_[np.arange(5_000), 5_000 + 3 * 24 * 60, 5_001 + 3 * 24 * 60],
        np.repeat(np.arange(2), 100),
        np.zeros(200),
        np.array([]),
    ],
    ids=["a year's pause", "a weekend", "two times", "one time", "nothing"],
)
def test_pauses_are_no_strays(minutes):
    assert without_strays(minutes.astype(np.int64)) == slice(0, len(minutes))


@given(st.lists(st.integers(0, 10**6), max_size=300), st.integers(-(10**12), 10**12))
def test_at_most_one_row_in_a_thousand_is_stray_and_where_the_times_lie_does_not_matter(times, shift):
    ordered = np.sort(np.array(times, np.int64))
    kept = without_strays(ordered)
    assert without_strays(ordered + shift) == kept
    assert kept.start <= 1 and len(ordered) - kept.stop <= 1
    assert len(ordered) >= 100 or kept == slice(0, len(ordered))
