"""Times without an offset mean the same wherever a plant's files and settings give one."""

import json

import pandas as pd
import pytest

from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.config.files import file_layout
from pipeline.errors import ConfigError
from pipeline.jobs.reporting import label_folder
from tests.pipeline.plants import SETTINGS, plant, write_plants

BERLIN = '[ingestion]\ntime_zone = "Europe/Berlin"\n'
LOCAL_SETTINGS = SETTINGS.replace("2026-03-01T10:00:00Z", "2026-03-01T11:00:00")
LINEAR = '[detector]\nsources = ["pca"]\n'


@pytest.fixture
def local_files(tmp_path):
    """A plant whose historian writes what clocks in Berlin show."""
    frame = plant(1)
    frame["timestamp"] = frame["timestamp"].dt.tz_convert("Europe/Berlin").dt.tz_localize(None)
    return write_plants(tmp_path / "data", {"east": frame})


def configured(folder, text, site="east"):
    path = folder / "fedplant.toml"
    path.write_text(f'[[sites]]\nname = "{site}"\n{text}')
    return path


@pytest.mark.parametrize(
    ("until", "zone", "expected"),
    [
        ('"2026-03-01T11:00"', BERLIN, "2026-03-01 10:00"),
        ("2026-03-01T11:00:00", BERLIN, "2026-03-01 10:00"),
        ("2026-03-01", BERLIN, "2026-02-28 23:00"),
        ("2026-03-01T11:00:00Z", BERLIN, "2026-03-01 11:00"),
        ("2026-03-01T11:00:00+05:00", BERLIN, "2026-03-01 06:00"),
        ("2026-03-01T11:00:00", "", "2026-03-01 11:00"),
    ],
)
def test_a_configured_time_to_learn_until_is_in_the_zone_of_messages(tmp_path, until, zone, expected):
    found = load_config(configured(tmp_path, f"{zone}[dataset]\ntrain_until = {until}\n"), {})
    assert pd.Timestamp(found.dataset.train_until) == pd.Timestamp(expected, tz="UTC")


@pytest.mark.parametrize(
    ("until", "line"),
    [
        (
            "2026-10-25T02:30:00",
            "dataset.train_until = '2026-10-25 02:30:00': clocks in Europe/Berlin show it twice",
        ),
        ("'soon'", "dataset.train_until = 'soon': not a time; write it as 2026-03-01T06:00:00Z"),
    ],
)
def test_a_configured_time_that_is_none_is_one_line(tmp_path, until, line):
    with pytest.raises(ConfigError, match="train_until") as refused:
        load_config(configured(tmp_path, f"{BERLIN}[dataset]\ntrain_until = {until}\n"), {})
    assert line in str(refused.value)


def test_what_is_replayed_is_chosen_by_the_clock_of_the_files(tmp_path, local_files, capsys):
    config = configured(tmp_path, BERLIN)
    asked = ["replay", str(local_files), "--config", str(config), "--dry-run", "--json"]
    for until in ("2026-03-01T11:00", "2026-03-01T10:00Z"):
        assert run([*asked, "--until", until]) == 0
        assert json.loads(capsys.readouterr().out)["sites"]["east"]["messages"] == 600


def test_labels_are_of_the_instants_that_the_clock_of_the_files_showed(tmp_path, local_files):
    config = load_config(configured(tmp_path, BERLIN), {})
    labels = label_folder(config, local_files, file_layout(config), print)["east"]
    assert labels["timestamp"].iloc[0] == plant(1)["timestamp"].iloc[0]


def test_a_search_on_files_learns_until_the_time_their_clock_showed(tmp_path, local_files, capsys):
    config = configured(tmp_path, BERLIN + LOCAL_SETTINGS + LINEAR)
    asked = ["tune", str(config), "--data", str(local_files), "--by", "injected", "--budget", "1s", "--json"]
    assert run(asked) == 0
    [manifest] = (tmp_path / "fedplant-data" / "datasets").glob("*/manifest.json")
    outcome = json.loads(manifest.read_text())["sites"]["east"]["outcome"]
    assert outcome["train_rows"] + outcome["validation_rows"] == 600
