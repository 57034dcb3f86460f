"""`fedplant backtest` as a user meets it: files in, figures out."""

import json
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from ingestion.alone import alone
from pipeline.artefacts import MODES
from pipeline.cli.main import run
from tests.pipeline.plants import SETTINGS, UNTIL, backtest_of, linear_config, plant, write_plants

_MAIN = "from pipeline.cli.main import main; main()"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "fedplant.toml"
    path.write_text('[[sites]]\nname = "any"\n' + SETTINGS)
    return str(path)


def test_every_mode_is_judged_by_every_figure_and_a_plain_fault_is_found(tmp_path, settings, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    page = tmp_path / "report.html"
    arguments = [*backtest_of(data, settings), "--json"]
    assert run([*arguments, "--report", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["mean"]) == set(MODES)
    for figures in (*found["mean"].values(), *(m for site in found["sites"].values() for m in site.values())):
        assert {
            "auc_pr",
            "auc_roc",
            "vus_pr",
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
    arguments = [*backtest_of(data, settings), "--json", "--report", str(tmp_path / "page.html")]
    assert run([*arguments, "--mode", "zscore"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mean"]["zscore"]["auc_pr"] is None
    page = (tmp_path / "page.html").read_text()
    assert "every alert is a false one" not in page and "noticed" not in page
    assert 0.1 < found["mean"]["zscore"]["flagged_share"] < 0.5
    assert (
        "east, west: no incident is labelled after training, so only alarms could be counted"
        in found["notes"]
    )


def test_sites_that_cannot_train_are_named_and_the_others_go_on(tmp_path, settings, capsys):
    constant = plant(3)
    constant["flow"] = 4.0
    sites = {"east": plant(1), "single": plant(2).head(1), "later": plant(2).tail(100), "stuck": constant}
    sites["unborn"] = plant(2).head(0)
    sites["east"].loc[90, "power"] = 1e26
    data = write_plants(tmp_path / "data", sites)
    arguments = [*backtest_of(data, settings), "--json"]
    assert run([*arguments, "--mode", "pca"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["sites"]) == {"east", "stuck"}
    assert any(note.startswith("single: too short") for note in found["notes"])
    assert any(note.startswith("later, unborn: no data") for note in found["notes"])
    odd = "values out of all proportion, left out of the scale: power"
    assert any(note.startswith(f"east: {odd}") for note in found["notes"])
    assert found["sites"]["east"]["pca"]["auc_pr"] > 0.9
    assert math.isfinite(found["sites"]["stuck"]["pca"]["auc_pr"])
    assert run([*arguments[:-1], "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "later, unborn: takes no part: no data" in shown.out and f"east: {odd}" in shown.out
    assert "unborn: no rows" in shown.err


@pytest.mark.parametrize(
    ("until", "line"),
    [
        (
            "2020-01-01",
            "nothing to learn from before 2020-01-01 00:00:00 UTC: the readings run from 2026-03-01",
        ),
        ("2030-01-01", "nothing to judge from 2030-01-01 00:00:00 UTC: the readings run from 2026-03-01"),
        (
            "2026-03-01T00:10:00Z",
            "no site can train on readings before 2026-03-01 00:10 UTC: east: too short",
        ),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_time_that_leaves_nothing_is_one_clear_line(tmp_path, settings, capsys, until, line, dry):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    code = run(["backtest", "--data", str(data), "--train-until", until, "--config", settings, *dry])
    assert code == 11
    assert line in capsys.readouterr().err


def test_an_export_as_historians_write_it_is_judged_like_a_clean_one(tmp_path, settings, capsys):
    """Semicolons, decimal commas, local times, own names, rows out of order, twice, without number or infinite."""
    clean = plant(1)
    odd = clean.copy()
    odd.loc[100, "load"] = np.nan
    odd.loc[200, "flow"] = np.inf
    odd = pd.concat([odd.iloc[450:], odd.iloc[:450], odd.iloc[10:20]])
    local = odd["timestamp"].dt.tz_convert("Europe/Berlin").dt.strftime("%d.%m.%Y %H:%M")
    odd = odd.assign(timestamp=local).rename(columns={"timestamp": "Zeit", "label": "gestört"})
    folder = tmp_path / "data"
    folder.mkdir()
    odd.to_csv(folder / "west.csv", sep=";", decimal=",", index=False)
    arguments = ["--train-until", UNTIL, "--config", settings, "--mode", "pca", "--json"]
    layout = [
        "--time",
        "Zeit",
        "--label",
        "gestört",
        "--time-format",
        "%d.%m.%Y %H:%M",
        "--time-zone",
        "Europe/Berlin",
    ]
    assert run(["backtest", "--data", str(folder), *arguments, *layout]) == 0
    shown = capsys.readouterr()
    assert "west: 10 rows repeat the time" in shown.err and "'flow': 1 infinite values" in shown.err
    found = json.loads(shown.out)
    assert (
        run(["backtest", "--data", str(write_plants(tmp_path / "clean", {"west": clean})), *arguments]) == 0
    )
    expected = json.loads(capsys.readouterr().out)
    ours, theirs = (each["sites"]["west"]["pca"] for each in (found, expected))
    assert (ours["rows"], ours["events"]) == (theirs["rows"], theirs["events"]) == (300, 1)
    assert ours["auc_pr"] == pytest.approx(theirs["auc_pr"], abs=0.02)


@pytest.mark.parametrize("how", ["option", "configuration"])
@pytest.mark.parametrize(
    ("until", "learned"),
    [("2026-03-01T11:00", 600), ("2026-03-01T10:00Z", 600), ("2026-03-01T12:00+02:00", 600)],
)
def test_a_time_to_learn_until_is_in_the_zone_of_the_export_unless_it_says_otherwise(
    tmp_path, capsys, how, until, learned
):
    local = plant(1)
    local["timestamp"] = local["timestamp"].dt.tz_convert("Europe/Berlin").dt.tz_localize(None)
    data = write_plants(tmp_path / "data", {"east": local})
    config = tmp_path / "fedplant.toml"
    zone = '[ingestion]\ntime_zone = "Europe/Berlin"\n' if how == "configuration" else ""
    config.write_text(zone + SETTINGS)
    asked = ["backtest", "--data", str(data), "--train-until", until, "--config", str(config), "--dry-run"]
    assert run([*asked, "--json", *(["--time-zone", "Europe/Berlin"] if how == "option" else [])]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["train_until"] == "2026-03-01T10:00:00Z"
    east = found["sites"]["east"]
    assert east["train_steps"] + east["validation_steps"] == learned and east["judged_rows"] == 300
    told = "learning ends before 2026-03-01 10:00:00 UTC, which is 2026-03-01 11:00:00 in Europe/Berlin"
    assert told in " ".join(shown.err.split())


@pytest.mark.parametrize(
    ("until", "line"),
    [
        (
            "2026-10-25T02:30",
            "clocks in Europe/Berlin show it twice; add the offset: 2026-10-25T02:30:00+02:00",
        ),
        (
            "2026-03-29T02:30",
            "clocks in Europe/Berlin show it never; add the offset: 2026-03-29T02:30:00+01:00",
        ),
    ],
)
def test_a_time_that_clocks_skip_or_repeat_is_one_clear_line(tmp_path, capsys, until, line):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    asked = ["backtest", "--data", str(data), "--train-until", until, "--time-zone", "Europe/Berlin"]
    assert run([*asked, "--dry-run"]) == 2
    assert line in " ".join(capsys.readouterr().err.split())


def test_a_dry_run_says_what_would_be_learned_and_imports_no_tensorflow(tmp_path, settings):
    other = plant(2).rename(columns={"flow": "heat"}).drop(columns="label")
    other["power"] = 4.0
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": other, "single": plant(3).head(1)})
    arguments = [
        *backtest_of(data, settings),
        "--dry-run",
        "--json",
    ]
    code = f"import sys; from pipeline.cli.main import run; run({arguments!r}); sys.exit('tensorflow' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    found = json.loads(asked.stdout)
    assert (found["step_seconds"], found["sensors"]) == (60.0, ["flow", "heat", "load", "power"])
    east, west, single = (found["sites"][site] for site in ("east", "west", "single"))
    assert (east["rows"], east["judged_rows"], east["incidents"]) == (900, 300, 1)
    assert east["train_steps"] + east["validation_steps"] == 600
    assert (west["incidents"], west["constant"], west["silent"]) == (None, ["power"], ["flow"])
    assert single["excluded"].startswith("too short") and single["train_steps"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_dry_run_of_times_with_nanoseconds_warns_of_nothing(tmp_path, settings):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    plant(2).assign(timestamp=plant(2)["timestamp"] + pd.Timedelta("7ns")).to_parquet(data / "west.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run([*backtest_of(data, settings), "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ('aggregation = "krum"', "aggregation krum needs at least 5 sites, 2 can train"),
        ("clusters = 3", "training.clusters = 3: expected 1 to 2"),
    ],
)
def test_a_dry_run_refuses_what_so_few_sites_cannot_do_together(tmp_path, capsys, training, reason):
    path = tmp_path / "fedplant.toml"
    path.write_text(SETTINGS.replace("[training]", f"[training]\n{training}"))
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2), "single": plant(3).head(1)})
    assert run([*backtest_of(data, str(path)), "--dry-run"]) == 2
    assert reason in capsys.readouterr().err


def test_settings_that_can_be_read_only_once_are_enough(tmp_path, capsys):
    write_plants(tmp_path / "data", {"north": plant(1, 640)})
    end, other = os.pipe()
    with os.fdopen(other, "w") as pipe:
        pipe.write(SETTINGS)
    asked = ["backtest", "--data", str(tmp_path / "data"), "--train-until", "2026-03-01T10:00:00Z"]
    try:
        assert run([*asked, "--config", f"/dev/fd/{end}", "--dry-run", "--json"]) == 0
    finally:
        os.close(end)
    assert json.loads(capsys.readouterr().out)["rounds"] == 3


def test_incidents_that_learning_takes_for_ordinary_are_told(tmp_path, settings, capsys):
    early = plant(1)
    early.loc[100:110, "label"] = 1
    early.loc[200:205, "label"] = 1
    data = write_plants(
        tmp_path / "data", {"east": early, "west": plant(2), "none": plant(3).drop(columns="label")}
    )
    arguments = backtest_of(data, settings)
    assert run([*arguments, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["sites"]
    assert {site: of["learned_incidents"] for site, of in found.items()} == {
        "east": 2,
        "west": 0,
        "none": None,
    }
    assert run([*arguments, "--dry-run"]) == 0
    assert "east: labelled incidents that learning takes for ordinary: 2" in capsys.readouterr().out
    assert run([*arguments, "--mode", "zscore"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "note: east: 2 labelled incidents before --train-until count as ordinary in learning" in told
    assert "west: 1 labelled" not in told


def test_an_unknown_mode_names_the_known_ones(tmp_path, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    assert run(["backtest", "--data", str(data), "--train-until", UNTIL, "--mode", "magic"]) == 2
    assert "--mode magic: choose from federated, local" in capsys.readouterr().err


def test_recipes_are_compared_in_one_table_and_share_the_network(tmp_path, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    config = tmp_path / "fedplant.toml"
    own = '[recipes.narrow]\nmodel.channels = 4\ndetector.sources = ["network", "pca"]\n'
    config.write_text('[[sites]]\nname = "any"\n' + SETTINGS + own)
    arguments = backtest_of(data, config)
    asked = [
        "--recipe",
        "default,linear,network",
        "--recipe",
        "narrow,baseline_zscore",
        "--work-dir",
        str(tmp_path / "w"),
    ]
    assert run([*arguments, *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["recipes"]
    assert list(found) == ["default", "linear", "network", "narrow", "baseline_zscore"]
    assert all(of["failed"] is None and set(of["sites"]) == {"east", "west"} for of in found.values())
    assert found["linear"]["mean"]["auc_pr"] > 0.9
    assert found["baseline_zscore"]["mode"] == "zscore" and found["linear"]["mode"] == "federated"
    # Ranks of five on each site add up to 1 + .. + 5.
    assert sum(of["mean_rank"] for of in found.values()) == pytest.approx(15)
    assert found["linear"]["manifest"]["configuration"]["detector"]["sources"] == [
        "ridge",
        "stiff_ridge",
        "pca",
        "excursion",
    ]
    assert found["narrow"]["manifest"]["configuration"]["model"]["channels"] == 4
    # `default` and `network` train the same network, `narrow` another, the rest none.
    assert len(list((tmp_path / "w" / "training").glob("*/federated"))) == 2
    assert run([*arguments, "--recipe", "linear,ridges"]) == 0
    lines = [
        line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("linear", "ridges"))
    ]
    assert {line[0] for line in lines} == {"linear", "ridges"} and float(lines[0][1]) <= float(lines[1][1])


def test_a_recipe_that_these_readings_refuse_is_told_and_the_others_are_compared(tmp_path, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    config = tmp_path / "fedplant.toml"
    own = '[recipes.logs]\ndetector.logarithms = ["vibration_*"]\n[recipes.krum]\ntraining.aggregation = "krum"\n'
    config.write_text(SETTINGS + own)
    arguments = backtest_of(data, config)
    assert run([*arguments, "--recipe", "logs,baseline_zscore,krum", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["recipes"]
    assert "'vibration_*' matches no sensor" in found["logs"]["failed"]
    assert "krum needs at least 5 sites, 2 can train" in found["krum"]["failed"]
    assert found["baseline_zscore"]["mean_rank"] == 1 and found["krum"]["mean_rank"] is None
    # Nothing that could be compared: as wrong as one backtest with such settings.
    assert run([*arguments, "--recipe", "krum"]) == 2
    assert "krum needs at least 5 sites" in capsys.readouterr().err


def test_a_recipe_by_itself_is_the_backtest(tmp_path, settings, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    arguments = [*backtest_of(data, settings), "--json"]
    assert run([*arguments, "--mode", "federated"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert run([*arguments, "--recipe", "default"]) == 0
    assert json.loads(capsys.readouterr().out)["recipes"]["default"]["mean"] == whole["mean"]["federated"]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["--recipe", "magic"], "--recipe magic: unknown; choose from default, linear, ridges, ridge,"),
        (["--recipe", ","], "--recipe: no name; choose from default,"),
        (["--recipe", "linaer,Tcn"], "--recipe linaer, Tcn: unknown (did you mean linear?); choose from"),
        (["--recipe", "linear", "--mode", "pca"], "not together with --mode"),
        (["--recipe", "linear", "--report", "x.html"], "not together with --report"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_clear_line(tmp_path, settings, capsys, asked, line):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    assert run([*backtest_of(data, settings), *asked]) == 2
    assert line in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_recipe_that_the_settings_refuse_is_one_line_before_any_file_is_read(tmp_path, capsys, dry):
    config = tmp_path / "fedplant.toml"
    config.write_text('[model]\narchitecture = "autoencoder"\nsteps = 10\n')
    asked = ["--data", str(tmp_path / "nowhere"), "--train-until", UNTIL, "--config", str(config)]
    assert run(["backtest", *asked, "--recipe", "default,tcn", *dry]) == 2
    told = capsys.readouterr().err
    assert "fedplant: recipe tcn: model.steps 10 must exceed the TCN's receptive field" in told
    assert "nowhere" not in told


def test_recipes_that_are_one_are_told_and_a_dry_run_names_what_it_would_compare(tmp_path, settings, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    config = tmp_path / "fedplant.toml"
    own = '[recipes.mine]\ndetector.sources = ["pca"]\n[recipes.linear]\ndetector.sources = ["excursion"]\n'
    config.write_text(SETTINGS + own)
    arguments = backtest_of(data, config)
    asked = ["--recipe", "mine,pca,mine,linear,baseline_pca"]
    told = [
        "mine, pca are recipes of equal settings, so their figures are equal and share a rank",
        "recipe linear is that of the configuration, not the built-in one of this name",
    ]
    assert run([*arguments, *asked, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recipes"], found["modes"]) == (
        ["mine", "pca", "linear", "baseline_pca"],
        ["federated", "pca"],
    )
    assert found["remarks"][-2:] == told
    assert run([*arguments, *asked, "--dry-run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "recipes mine, pca, linear, baseline_pca, at most 3 rounds each" in shown and told[0] in shown
    assert run([*arguments, *asked, "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["notes"][:2] == told
    assert compared["recipes"]["mine"]["mean_rank"] == compared["recipes"]["pca"]["mean_rank"]


@pytest.mark.parametrize("place", ["folder", "below a file"])
def test_a_report_that_cannot_be_written_is_told_before_anything_is_trained(
    tmp_path, settings, capsys, place
):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    out = tmp_path if place == "folder" else tmp_path / "file" / "page.html"
    (tmp_path / "file").write_text("")
    work = tmp_path / "w"
    arguments = backtest_of(data, settings)
    assert run([*arguments, "--report", str(out), "--work-dir", str(work)]) == 5
    reason = "Is a directory" if place == "folder" else "File exists"
    assert f"{out}: the report cannot be written ({reason}); choose another file" in capsys.readouterr().err
    assert not work.exists() and not list(tmp_path.glob(".*tmp"))


def test_a_work_folder_that_is_a_file_is_one_line_with_what_to_do(tmp_path, settings, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    (tmp_path / "file").write_text("mine")
    arguments = backtest_of(data, settings)
    assert run([*arguments, "--work-dir", str(tmp_path / "file")]) == 2
    line = "file: the folder for results cannot be made (File exists); choose another --work-dir"
    assert line in capsys.readouterr().err and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("more", [[], ["--recipe", "linear,pca"]])
def test_of_two_backtests_in_one_work_folder_the_later_is_refused(tmp_path, settings, capsys, more):
    """They would write the same shards, and the later one said that these hold no frame."""
    data, work = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)}), tmp_path / "w"
    with alone(work, "backtest"):
        assert run([*backtest_of(data, settings), "--work-dir", str(work), *more]) == 6
    assert f"another backtest runs on {work}; wait for it to end" in capsys.readouterr().err
    assert sorted(path.name for path in work.iterdir()) == ["locks"]


def test_a_command_that_learns_without_a_network_ends_in_silence(tmp_path):
    """TFF's executor must be let go of before the interpreter takes its modules apart, whichever module imported it."""
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    arguments = ["--train-until", UNTIL, "--config", linear_config(tmp_path), "--mode", "federated"]
    ran = subprocess.run(
        [sys.executable, "-c", _MAIN, "backtest", "--data", str(data), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=800,
    )
    assert "AUC-PR" in ran.stdout
    assert "Exception" not in ran.stderr and "Traceback" not in ran.stderr
