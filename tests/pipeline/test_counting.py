"""Counters are told before they raise false alarms, and nothing else is taken for one."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.main import run
from pipeline.datasets.counting import counts
from tests.pipeline.plants import backtest_of, linear_config, plant, write_plants

PIECES = np.floor(np.arange(300) / 3)


def told(values, cuts=(100, 200)):
    return bool(counts(np.split(np.asarray(values, float)[:, None], cuts))[0])


@given(
    st.lists(st.integers(0, 3), min_size=300, max_size=300), st.floats(-1e6, 1e6), st.sampled_from([-1, 1])
)
def test_what_only_rises_or_only_falls_counts_wherever_it_begins(steps, start, way):
    rows = start + way * np.cumsum(steps)
    moves = sum(np.count_nonzero(np.diff(part)) for part in np.split(rows, (100, 200)))
    assert told(rows) == (moves >= 50)


def test_a_reading_that_is_missing_and_a_gap_do_not_matter():
    values = PIECES.copy()
    values[::7] = np.nan
    assert told(values)


@pytest.mark.parametrize(
    "values",
    [
        np.full(300, 7.0),
        PIECES % 40,
        np.arange(300) + np.random.default_rng(1).normal(0, 2, 300),
        np.repeat(np.arange(10), 30),
        np.full(300, np.nan),
    ],
    ids=["constant", "begins anew", "noisy rise", "few steps", "silent"],
)
def test_what_comes_back_or_hardly_moves_is_no_counter(values):
    assert not told(values)


@pytest.mark.parametrize("more", [["--dry-run"], ["--mode", "pca"]])
def test_a_backtest_and_its_dry_run_name_counters_of_all_sites_in_one_line(tmp_path, capsys, more):
    sites = {name: plant(seed) for seed, name in enumerate(("east", "west"), 1)}
    for frame in sites.values():
        frame["pieces"] = np.arange(len(frame)) // 2
    data = write_plants(tmp_path / "data", sites)
    asked = [
        *backtest_of(data, linear_config(tmp_path)),
        "--json",
    ]
    assert run([*asked, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    (line,) = (each for each in found.get("remarks") or found["notes"] if "as a counter does" in each)
    assert line.startswith("east, west: only rises or only falls while learning, as a counter does: pieces;")
