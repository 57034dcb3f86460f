"""`fedplant backtest` as a user meets it: files in, figures out."""

import json
import math

import pytest

from pipeline.artefacts import MODES
from pipeline.cli.main import run
from tests.pipeline.plants import SETTINGS, plant, write_plants

UNTIL = "2026-03-01T10:00:00Z"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "fedplant.toml"
    path.write_text('[[sites]]\nname = "any"\n' + SETTINGS)
    return str(path)


def test_every_mode_is_judged_by_every_figure_and_a_plain_fault_is_found(tmp_path, settings, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    page = tmp_path / "report.html"
    arguments = ["backtest", "--data", str(data), "--train-until", UNTIL, "--config", settings, "--json"]
    assert run([*arguments, "--report", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["mean"]) == set(MODES)
    for figures in (*found["mean"].values(), *(m for site in found["sites"].values() for m in site.values())):
        assert {
            "auc_pr",
            "auc_roc",
            "precision",
            "recall",
            "f1",
            "false_alarms_per_day",
            "detection_delay",
        } <= set(figures)
        assert 0 <= figures["auc_pr"] <= 1
    # Chance is the share of anomalous steps, 60 of 300.
    assert found["mean"]["federated"]["auc_pr"] > 0.9
    assert found["sites"]["east"]["federated"]["anomaly_share"] == pytest.approx(0.2)
    assert len(found["sites"]["east"]["federated"]["detection_delay"]) == 1
    assert found["manifest"]["configuration"]["training"]["seed"] == 1
    assert "east" in page.read_text() and "<script src" not in page.read_text()


def test_without_labels_it_says_what_can_be_said(tmp_path, settings, capsys):
    sites = {name: plant(seed).drop(columns="label") for seed, name in enumerate(("east", "west"), 1)}
    data = write_plants(tmp_path / "data", sites)
    arguments = ["backtest", "--data", str(data), "--train-until", UNTIL, "--config", settings, "--json"]
    assert run([*arguments, "--mode", "zscore"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mean"]["zscore"]["auc_pr"] is None
    assert 0.1 < found["mean"]["zscore"]["flagged_share"] < 0.5
    assert "east: no incident is labelled after training, so only alarms could be counted" in found["notes"]


def test_sites_that_cannot_train_are_named_and_the_others_go_on(tmp_path, settings, capsys):
    constant = plant(3)
    constant["flow"] = 4.0
    sites = {"east": plant(1), "single": plant(2).head(1), "later": plant(2).tail(100), "stuck": constant}
    data = write_plants(tmp_path / "data", sites)
    arguments = ["backtest", "--data", str(data), "--train-until", UNTIL, "--config", settings, "--json"]
    assert run([*arguments, "--mode", "pca"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["sites"]) == {"east", "stuck"}
    assert any(note.startswith("single: too short") for note in found["notes"])
    assert any(note.startswith("later: no data") for note in found["notes"])
    assert math.isfinite(found["sites"]["stuck"]["pca"]["auc_pr"])


def test_a_time_before_all_data_is_one_clear_line(tmp_path, settings, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    code = run(["backtest", "--data", str(data), "--train-until", "2020-01-01", "--config", settings])
    assert code == 11
    assert "no site can train on readings before 2020-01-01 00:00 UTC" in capsys.readouterr().err


def test_an_unknown_mode_names_the_known_ones(tmp_path, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    assert run(["backtest", "--data", str(data), "--train-until", UNTIL, "--mode", "magic"]) == 2
    assert "--mode magic: choose from federated, local" in capsys.readouterr().err
