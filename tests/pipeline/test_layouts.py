"""Every command that reads site files reads them however an export is laid out."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from ingestion.layout import Layout
from pipeline.cli.layouts import AS_USUAL
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.config.files import file_layout
from pipeline.errors import NothingToDo
from pipeline.jobs.reporting import label_folder
from tests.pipeline.plants import SETTINGS, linear_config, plant

UNTIL = "2026-03-01T11:00"
LAID_OUT = [
    *("--time", "Zeit", "--asset", "Anlage", "--label", "Alarm", "--quality", "Status"),
    *("--time-format", "%d.%m.%Y %H:%M", "--time-zone", "Europe/Berlin"),
]
GERMAN = Layout("Zeit", "Anlage", "Alarm", "%d.%m.%Y %H:%M", "Europe/Berlin", quality="Status")


@pytest.fixture
def german(tmp_path):
    """Two plants as a German historian writes them; the flow's readings of forty rows of training are bad, and absurd."""
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, site in enumerate(("east", "west"), 1):
        frame = plant(seed)
        local = frame["timestamp"].dt.tz_convert("Europe/Berlin").dt.strftime("%d.%m.%Y %H:%M")
        frame = frame.assign(timestamp=local, asset="P1", Status=192)
        frame.loc[100:139, ["flow", "Status"]] = [1e5, 24]
        frame = frame.rename(columns={"timestamp": "Zeit", "asset": "Anlage", "label": "Alarm"})
        frame.to_csv(folder / f"{site}.csv", sep=";", decimal=",", index=False)
    return folder


def shown(capsys, *arguments):
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("rule", "left_out"), [("", 40), ("[ingestion]\nmin_quality = 0\n", 0)])
def test_bad_readings_are_left_out_once_their_column_is_named_down_to_the_configured_quality(
    german, tmp_path, capsys, rule, left_out
):
    config = Path(linear_config(tmp_path))
    config.write_text(config.read_text() + rule)
    asked = ["backtest", "--data", str(german), "--train-until", UNTIL, "--config", str(config), "--dry-run"]
    assert run([*asked, *LAID_OUT]) == 0
    remark = f"east, west: {left_out} rows are of a quality below 64 (column 'Status'); their values count as missing"
    assert (remark in capsys.readouterr().err) == (left_out > 0)


def test_what_is_replayed_is_the_rows_of_a_foreign_layout_without_its_labels(german, capsys):
    sent = shown(capsys, "replay", str(german), "--dry-run", "--until", UNTIL, *LAID_OUT)
    assert {site: of["messages"] for site, of in sent["sites"].items()} == {"east": 600, "west": 600}


def test_a_search_on_files_takes_a_foreign_layout(german, tmp_path, monkeypatch):
    asked = []

    def nothing(_config, data, layout, *_rest):
        asked.append((data, layout))
        raise NothingToDo("enough")

    monkeypatch.setattr("pipeline.jobs.tune.run_tuning", nothing)
    assert run(["tune", linear_config(tmp_path), "--data", str(german), *LAID_OUT]) == 11
    assert asked == [(german, GERMAN)]


def test_labels_of_a_report_come_from_a_foreign_layout(german, tmp_path):
    config = tmp_path / "fedplant.toml"
    config.write_text(
        '[ingestion]\ntime_zone = "Europe/Berlin"\nmin_quality = 192\n[[sites]]\nname = "east"\n'
    )
    usual = file_layout(load_config(config))
    assert usual == Layout(time_zone="Europe/Berlin", min_quality=192)
    labels = label_folder(load_config(config), german, GERMAN, print)["east"]
    assert labels["label"].sum() == 60
    assert labels["timestamp"].iloc[0] == pd.Timestamp("2026-03-01T00:00:00Z")


@pytest.mark.parametrize("command", ["backtest", "replay", "report", "tune"])
def test_every_command_that_reads_site_files_says_the_same_of_their_layout(command, capsys):
    assert run([command, "--help"]) == 0
    told = capsys.readouterr().out
    options = [f"--{option.replace('_', '-')}" for option in vars(AS_USUAL)]
    assert [option for option in options if not re.search(rf"^ +{option} ", told, re.MULTILINE)] == []


@pytest.mark.parametrize(("command", "option"), [("tune", "--data"), ("report", "--labels")])
def test_a_layout_of_no_files_is_one_clear_line(tmp_path, capsys, command, option):
    config = tmp_path / "fedplant.toml"
    config.write_text('[[sites]]\nname = "east"\n' + SETTINGS)
    assert run([command, str(config), "--time", "Zeit"]) == 2
    assert f"which {option} names" in capsys.readouterr().err
