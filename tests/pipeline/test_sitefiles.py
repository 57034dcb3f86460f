"""What a command says about a folder of exports, whichever command it is."""

import gzip
from pathlib import Path

import pytest

from ingestion.layout import Layout
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.jobs.reporting import label_folder
from tests.pipeline.plants import backtest_of, linear_config, plant, write_plants

PASSED_OVER = "not read: south.CSV.GZ, west.xlsx; a site's file is .csv or .parquet, unpacked"


@pytest.fixture
def folder(tmp_path):
    data = write_plants(tmp_path / "data", {"east": plant(1).sample(frac=1, random_state=1)})
    (data / "south.CSV.GZ").write_bytes(gzip.compress(plant(2).to_csv(index=False).encode()))
    (data / "west.xlsx").write_bytes(b"PK")
    (data / "README.md").write_text("about these files")
    return data


@pytest.mark.parametrize("command", ["backtest", "replay", "tune"])
def test_files_of_another_form_and_what_was_tolerated_are_told_by_every_command(
    folder, tmp_path, capsys, command
):
    config = str(linear_config(tmp_path))
    arguments = {
        "backtest": [*backtest_of(folder, config), "--dry-run"],
        "replay": ["replay", str(folder), "--dry-run"],
        "tune": ["tune", config, "--data", str(folder), "--budget", "1s"],
    }
    run(arguments[command])
    told = " ".join(capsys.readouterr().err.split())
    assert PASSED_OVER in told
    assert "east: rows are not in time order; they were sorted" in told


def test_labels_of_a_report_come_with_the_same_remarks(folder, tmp_path):
    said: list[str] = []
    path = Path(linear_config(tmp_path))
    path.write_text(path.read_text().replace('"any"', '"east"'))
    label_folder(load_config(path), folder, Layout(), said.append)
    assert PASSED_OVER in said and "east: rows are not in time order; they were sorted" in said
