"""`fedplant tune`: a search that ends in time, goes on where it was, and writes what it found."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ingestion.alone import alone
from ingestion.layout import USUAL
from pipeline.cli.main import run
from pipeline.config import Config, SiteConfig, load_config
from pipeline.jobs import tune as tuning
from pipeline.jobs.tune import run_tuning
from pipeline.watch import SilentWatch
from tests.pipeline.plants import SETTINGS, plant, write_plants


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A configuration with two plants, and a search over two values of one key."""
    data = write_plants(tmp_path / "data", {"east": plant(1, 300), "west": plant(2, 300)})
    config = tmp_path / "fedplant.toml"
    config.write_text('[[sites]]\nname = "east"\n[[sites]]\nname = "west"\n' + SETTINGS)
    stages = [("training", "client_learning_rate", (1e-5, 1e-2)), ("training", "algorithm", ("krum",))]
    monkeypatch.setattr(tuning, "stages", lambda *_: stages)
    return config, data


def test_the_best_settings_are_written_and_a_second_call_only_reads(here, tmp_path, capsys):
    config, data = here
    text = config.read_text().replace("[training]", "[training]\nclient_learning_rate = 1e-5")
    config.write_text(text)
    arguments = ["tune", str(config), "--data", str(data), "--json"]
    assert run(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["finished"] and len(first["trials"]) == 3
    assert first["trials"][0]["changes"] == {}
    assert first["best"]["changes"] == {"training.client_learning_rate": 1e-2}
    assert first["best"]["validation"] < first["trials"][0]["validation"]
    assert "algorithm" in first["trials"][2]["failed"]
    # The snippet is what the configuration reads.
    config.write_text(
        text.replace("client_learning_rate = 1e-5\n", "").replace("[training]\n", first["toml"])
    )
    assert load_config(config).training.client_learning_rate == 1e-2
    config.write_text(text)
    assert run([*arguments, "--budget", "1s"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    trial = next((tmp_path / "fedplant-data" / "tuning").glob("*/trials/*.json"))
    trial.write_text("{")
    assert run(arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert [t["validation"] for t in again["trials"]] == [t["validation"] for t in first["trials"]]


def test_the_budget_ends_a_search_in_the_middle_of_a_trial_which_goes_on_at_the_next_call(here, monkeypatch):
    config, data = here
    seen = []

    class Heard(SilentWatch):
        def say(self, text):
            seen.append(text)

    settings = load_config(config)
    ticks = itertools.count()
    original = tuning.tune
    monkeypatch.setattr(tuning, "tune", lambda *a, **k: original(*a, **k, clock=lambda: float(next(ticks))))
    stopped = run_tuning(settings, data, USUAL, 2.0, Heard())
    assert not stopped.finished and stopped.trials == () and "goes on" in stopped.text()
    assert "a longer --budget" in stopped.text() and "more data" not in stopped.text()
    assert Path(stopped.path).read_text() == "# no trial could be measured\n"
    monkeypatch.setattr(tuning, "tune", original)
    done = run_tuning(settings, data, USUAL, 600.0, Heard())
    assert done.finished and done.trials[0].rounds == 3
    whole = run_tuning(settings, data, USUAL, 600.0, Heard())
    assert whole == done


def test_of_two_searches_in_one_folder_the_later_is_refused(here, tmp_path, capsys):
    """They would write the same shards, and what failed for it would count as tried."""
    config, data = here
    arguments = ["tune", str(config), "--data", str(data), "--budget", "1s"]
    assert run(arguments) == 0
    folder = next((tmp_path / "fedplant-data" / "tuning").iterdir())
    capsys.readouterr()
    with alone(folder, "tuning"):
        assert run(arguments) == 6
    assert f"another tuning runs on {folder}; wait for it to end" in capsys.readouterr().err


def test_where_no_trial_can_be_measured_the_reason_is_told_and_not_another(here, capsys):
    config, data = here
    config.write_text(config.read_text().replace("[training]", '[training]\naggregation = "krum"'))
    assert run(["tune", str(config), "--data", str(data)]) == 0
    last = " ".join(capsys.readouterr().out.split()).partition("no trial could be measured: ")[2]
    assert last.startswith("aggregation krum needs at least 5 sites, 2 can train") and "more data" not in last


def test_without_windows_it_says_what_to_do(here, capsys):
    config, _ = here
    assert run(["tune", str(config)]) != 0
    assert "fedplant ingest" in capsys.readouterr().err


def test_injected_faults_decide_where_they_are_asked_for_and_need_no_network(
    here, tmp_path, capsys, monkeypatch
):
    config, data = here
    monkeypatch.setattr(tuning, "stages", lambda *_: [("detector", "sources", (["excursion"], ["ridge"]))])
    config.write_text(config.read_text() + '[detector]\nsources = ["stiff_ridge"]\n')
    assert run(["tune", str(config), "--data", str(data)]) == 2
    assert "no validation loss to tune by; use --by injected" in capsys.readouterr().err
    # Three hundred rows hold back sixty, which are too few to inject into.
    assert run(["tune", str(config), "--data", str(data), "--by", "injected", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] is None
    longer = write_plants(tmp_path / "longer", {"east": plant(1, 1500), "west": plant(2, 1500)})
    until = 'train_until = "2026-03-01T10:00:00Z"'
    config.write_text(config.read_text().replace(until, ""))
    assert run(["tune", str(config), "--data", str(longer), "--by", "injected", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scores = {str(t["changes"].get("detector.sources")): t["injected"] for t in found["trials"]}
    assert all(t["validation"] is None and t["rounds"] == 0 for t in found["trials"])
    assert scores["['ridge']"] > scores["['excursion']"] + 0.1
    assert run(["tune", str(config), "--by", "luck"]) == 2


@pytest.mark.parametrize("best", [["pca"], ["ridge", "network"]])
def test_how_a_network_learns_is_varied_only_where_the_best_detector_has_one(monkeypatch, best):
    found = [("detector", "sources", (best,)), ("training", "local_epochs", (4,))]
    monkeypatch.setattr(tuning, "stages", lambda *_: found)
    search = tuning._search(Config(sites=[SiteConfig(name="east")]), tuning.INJECTED)
    asked, choice = [], next(search)
    while choice is not None:
        changes = tuning.changes_of(choice)
        asked.append(changes)
        choice = search.send(
            tuning.Trial(changes, None, 0.9 if changes.get("detector.sources") == best else 0.1)
        )
    more = [{"detector.sources": best, "training.local_epochs": 4}] if "network" in best else []
    assert asked == [{}, {"detector.sources": best}, *more]


def test_injected_faults_are_found_by_who_sees_them_and_not_by_chance():
    from pipeline.evaluation.injection import found_faults

    random = np.random.default_rng(3)
    values = random.normal(size=(400, 3))

    class Knows:
        def score(self, _, faulty):
            return SimpleNamespace(score=np.abs(faulty - values).max(axis=1))

    class Guesses:
        def score(self, _, faulty):
            return SimpleNamespace(score=random.random(len(faulty)))

    seen, guessed = (found_faults(each, "a", [values], np.ones(3), seed=1) for each in (Knows(), Guesses()))
    assert seen > 0.95 > 0.5 > guessed
    assert found_faults(Knows(), "a", [values[:150]], np.ones(3), seed=1) is None
