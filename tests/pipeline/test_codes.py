"""Codes for no reading are told with the setting that cures them, and nothing else is taken for one."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.main import run
from pipeline.datasets.codes import CODES, codes_of
from tests.pipeline.plants import SETTINGS, backtest_of, plant, write_plants

WIDTH = 10.0


def column(*codes, rows=500):
    """A sensor between 15 and 25, [rows, 1], with codes over its first rows."""
    values = np.random.default_rng(1).uniform(20 - WIDTH / 2, 20 + WIDTH / 2, (rows, 1))
    values[: len(codes), 0] = codes
    return values


def told(values):
    return [(code.value, code.count) for code in codes_of(("s",), [values[:100], values[100:]])]


@pytest.mark.parametrize(
    "code",
    [-9999, -999.25, 9999, 999.9, -99.9, 32767, -32768, 65535, 3276.7, -327.68, 655.35, 2**31 - 1, -(2**31)],
)
def test_a_code_is_told_whether_it_was_kept_in_single_or_double_precision(code):
    for as_kept in (float(code), float(np.float32(code))):
        assert told(column(as_kept, as_kept)) == [(as_kept, 2)]


def test_one_code_alone_is_told_if_it_is_so_far_away_that_it_hides_its_sensor():
    assert told(column(-9999.0)) == [(-9999.0, 1)]
    assert told(column(-99.0)) == []
    assert told(column(-99.0, -99.0)) == [(-99.0, 2)]


def test_every_code_of_a_sensor_is_told_on_both_sides_and_behind_another():
    found = codes_of(("s",), [column(-9999.0, -9999.0, -999.25, -999.25, 32767.0, 32767.0)])
    assert [code.value for code in found] == [-9999.0, -999.25, 32767.0]
    assert [code.below for code in found] == [True, True, False]
    assert {code.values for code in found} == {500}


def test_nothing_is_told_of_what_comes_near_a_code_by_itself_or_is_nothing_else():
    counter = np.arange(30_000, dtype=float)[:, None] % 10_000
    whole = np.random.default_rng(2).integers(0, 65_536, (5_000, 1)).astype(float)
    whole[:2] = 65_535
    for values in (counter, whole, np.full((50, 1), -9999.0), np.full((50, 1), np.nan), np.empty((0, 1))):
        assert told(values) == []
    assert told(column(-9998.0, -9998.0, 7777.0)) == []
    # A reading beyond it shows that the sensor reaches 9999 by itself.
    assert told(column(-9999.0, -9999.0, 9999.0, 9999.0, 20_000.0)) == [(-9999.0, 2)]


@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")) | st.just(float("inf")), max_size=60))
def test_values_that_are_no_codes_are_never_told_however_far_they_are(values):
    whole = np.array(values, np.float64)[:, None]
    whole[np.isin(whole.astype(np.float32), CODES)] = 0.0
    assert told(whole) == []


@given(
    st.lists(
        st.sampled_from([-9999.0, 999.9, 32767.0, 65535.0, float("nan")]) | st.floats(-100, 100), max_size=40
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_does_not_matter_and_what_is_told_is_beyond_all_else(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    first, second = (codes_of(("s",), [np.array(each, np.float64)[:, None]]) for each in (values, shuffled))
    assert first == second
    rest = [value for value in values if not np.isin(np.float32(value), CODES) and np.isfinite(value)]
    for code in first:
        assert code.count == values.count(code.value)
        assert code.value < min(rest) or code.value > max(rest)
        edge = min(rest) if code.below else max(rest)
        assert min(code.value, edge) < code.limit < max(code.value, edge)


def with_codes(seed, code=-9999.0, sensor="flow"):
    frame = plant(seed)
    frame.loc[np.random.default_rng(seed).choice(900, 30, replace=False), sensor] = code
    return frame


def cure(text):
    """The table that a remark asks for, as TOML."""
    setting = re.search(r"set (.+?) under (\[.+?\])(,|$)", text)
    assert setting, text
    return f"{setting[2]}\n" + setting[1].replace(" and ", "\n") + "\n"


def test_a_backtest_tells_a_code_and_does_what_its_remark_says(tmp_path, capsys):
    clean = write_plants(tmp_path / "clean", {"east": plant(1), "west": plant(2)})
    data = write_plants(tmp_path / "data", {"east": with_codes(1), "west": with_codes(2)})
    config = tmp_path / "fedplant.toml"
    config.write_text(SETTINGS)

    def backtest(folder, *more):
        asked = [*backtest_of(folder, config), *more]
        assert run([*asked, "--json"]) == 0
        shown = capsys.readouterr()
        return json.loads(shown.out), " ".join(shown.err.split())

    previewed, _ = backtest(data, "--dry-run")
    [remark] = previewed["remarks"]
    assert re.match(
        r"east, west: looks like a code for no reading, .*: flow -9999 \(60 of 1,800 values\)", remark
    )
    assert previewed["sites"]["east"]["codes"][0]["value"] == -9999
    before, _ = backtest(data, "--mode", "pca")
    assert remark in before["notes"]
    config.write_text(SETTINGS + cure(remark))
    after, said = backtest(data, "--mode", "pca")
    assert not any("code for no reading" in note for note in after["notes"])
    assert "east, west: values left out by the sensors' rules: flow out_of_range 30" in said
    expected, _ = backtest(clean, "--mode", "pca")
    reached = [found["mean"]["pca"]["auc_pr"] for found in (before, after, expected)]
    assert reached[0] < 0.8 < 0.9 < reached[1] and reached[1] == pytest.approx(reached[2], abs=0.05)
    assert backtest(data, "--dry-run")[0]["remarks"] == []


def test_a_code_that_comes_only_after_what_is_learned_from_is_told_too(tmp_path, capsys):
    late = plant(1)
    late.loc[[800, 810, 820], "flow"] = 999.9
    data = write_plants(tmp_path / "data", {"east": late, "west": plant(2)})
    config = tmp_path / "fedplant.toml"
    config.write_text(SETTINGS + '[detector]\nsources = ["pca"]\n')
    asked = [*backtest_of(data, config), "--json"]
    remark = 'set max = 500 under [ingestion.sensors."flow"]'
    for more in (["--dry-run"], ["--mode", "federated"], ["--recipe", "default,baseline_pca"]):
        assert run([*asked, *more]) == 0
        found = json.loads(capsys.readouterr().out)
        [told] = [line for line in found.get("remarks", found.get("notes")) if "code for no reading" in line]
        assert told.startswith("east: ") and "flow 999.9 (3 of 900 values)" in told and told.endswith(remark)


def test_a_sensor_that_is_left_out_is_not_told_of(tmp_path, capsys):
    data = write_plants(tmp_path / "data", {"east": with_codes(1), "west": with_codes(2)})
    config = tmp_path / "fedplant.toml"
    config.write_text(SETTINGS.replace("[dataset]\n", '[dataset]\nexclude = ["flow"]\n'))
    asked = [*backtest_of(data, config), "--dry-run"]
    assert run([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["remarks"] == []


def test_a_backtest_reads_sensors_as_ingestion_would(tmp_path, capsys):
    """Names, units and a site's own rule; a rule of a sensor that no file has is told."""
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    config = tmp_path / "fedplant.toml"
    rules = '[ingestion.sensors.flow]\nname = "stream"\nscale = 2.0\n[ingestion.sensors.Flow]\nmax = 9\n'
    own = '[[sites]]\nname = "west"\n[sites.sensors.flow]\nname = "own"\nmax = 1e6\n'
    config.write_text(own + SETTINGS + rules)
    asked = [*backtest_of(data, config), "--dry-run"]
    assert run([*asked, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["sensors"] == ["load", "own", "power", "stream"]
    assert (found["sites"]["east"]["silent"], found["sites"]["west"]["silent"]) == (["own"], ["stream"])
    assert "no file has the sensors 'Flow' that the configuration has rules for" in " ".join(
        shown.err.split()
    )
