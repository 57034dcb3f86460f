"""Sites that are nothing like the others: each ends in figures or in one clear line, and does not spoil the others'."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.cli.main import run
from pipeline.learning import cost
from tests.pipeline.plants import (
    FAULT,
    SETTINGS,
    START,
    UNTIL,
    backtest_of,
    linear_config,
    plant,
    write_plants,
)

SENSORS = ["load", "power", "flow"]


def every(frame: pd.DataFrame, step: str) -> pd.DataFrame:
    return frame.assign(timestamp=START + pd.to_timedelta(np.arange(len(frame)) * pd.Timedelta(step)))


def with_values(frame: pd.DataFrame, value: float) -> pd.DataFrame:
    return frame.assign(**dict.fromkeys(SENSORS, value))


def large() -> pd.DataFrame:
    """Forty days more than the others have."""
    frame = plant(5, 60_000, False)
    return frame.assign(timestamp=START + pd.to_timedelta(np.arange(60_000) - 59_100, "min"))


ODD = {
    "one row": lambda: plant(2).head(1),
    "one row a day": lambda: every(plant(2).head(40), "1d"),
    "constant": lambda: with_values(plant(2), 4.0),
    "zero": lambda: with_values(plant(2), 0.0),
    "nothing but gaps": lambda: with_values(plant(2), np.nan),
    "other sensors": lambda: plant(2).rename(columns={"load": "a", "power": "b", "flow": "c"}),
    "every four seconds": lambda: every(plant(2, 9000), "4s"),
    "every ten minutes": lambda: every(plant(2), "10min"),
    "much more data": large,
    "huge scale": lambda: plant(2).assign(load=plant(2)["load"] * 1e30),
    "huge values": lambda: plant(2).assign(power=np.where(np.arange(900) % 50 == 7, 1e30, plant(2)["power"])),
    "no float32": lambda: plant(2).assign(load=np.where(np.arange(900) % 3 == 0, 1.7e308, -1.7e308)),
    "tiny scale": lambda: plant(2).assign(load=plant(2)["load"] * 1e-300),
    "huge offset": lambda: plant(2).assign(load=plant(2)["load"] + 1e9),
}
TAKES_NO_PART = {
    "one row": "too short",
    "one row a day": "too short",
    "nothing but gaps": "too short",
    "every ten minutes": "too short",
}
TOLD = {
    "constant": ("none of its sensors moved in training", "nothing can be found but that one does"),
    "zero": ("none of its sensors moved in training", ""),
    "every ten minutes": (
        "too short",
        "readings are 10min apart and a value is held for 5min: set dataset.max_gap",
    ),
    "huge offset": ("moves by less than", "counts as constant: load (subtract an offset)"),
    "other sensors": ("no sensor in common with any other site", "names must be the same"),
}


def judged(data, config, capsys, *more: str) -> dict:
    arguments = [*backtest_of(data, config), "--json", *more]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        code = run(arguments)
    out = capsys.readouterr()
    assert code == 0, out.err
    return json.loads(out.out)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return linear_config(tmp_path_factory.mktemp("settings"))


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_site_has_a_clear_outcome_and_spoils_nobody(odd, tmp_path, config, capsys):
    good = {"east": plant(1), "north": plant(3), "south": plant(4)}
    data = write_plants(tmp_path / "data", {**good, "odd": ODD[odd]()})
    found = judged(data, config, capsys, "--mode", "federated", "--mode", "local")
    for site in good:
        assert found["sites"][site]["federated"]["auc_pr"] > 0.9
        assert found["sites"][site]["federated"]["auc_pr"] > found["sites"][site]["local"]["auc_pr"] - 0.03
    if odd in TAKES_NO_PART:
        assert "odd" not in found["sites"]
        assert any(note.startswith(f"odd: {TAKES_NO_PART[odd]}") for note in found["notes"])
    else:
        figures = found["sites"]["odd"]["federated"]
        assert np.isfinite(figures["threshold"]) and figures["rows"] > 0
    if odd in TOLD:
        assert any(
            note.startswith(f"odd: {TOLD[odd][0]}") and TOLD[odd][1] in note for note in found["notes"]
        )


def test_a_dry_run_says_already_who_learns_nothing_from_others(tmp_path, config, capsys):
    sites = {"east": plant(1), "other": ODD["other sensors"]()}
    lines = judged(write_plants(tmp_path / "data", sites), config, capsys, "--dry-run")["remarks"]
    assert any(
        line.startswith("east, other: no sensor in common") and "`name` under [sites.sensors.NAME]" in line
        for line in lines
    )
    lines = judged(write_plants(tmp_path / "one", {"east": plant(1)}), config, capsys, "--dry-run")["remarks"]
    assert lines == ["east: the only site that can learn, so federated is what it learns alone"]


def test_a_dry_run_says_what_ridges_of_many_sensors_will_cost(tmp_path, config, capsys, monkeypatch):
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    assert not any("sensors move" in line for line in judged(data, config, capsys, "--dry-run")["remarks"])
    monkeypatch.setattr(cost, "_WORTH_SAYING", 0.0)
    assert cost.cost([3, 3]) in judged(data, config, capsys, "--dry-run")["remarks"]


def test_the_network_too_learns_beside_odd_sites(tmp_path, capsys):
    path = tmp_path / "fedplant.toml"
    path.write_text('[[sites]]\nname = "any"\n' + SETTINGS)
    names = ("constant", "nothing but gaps", "other sensors", "no float32", "huge values")
    odd = {name.replace(" ", "-"): ODD[name]() for name in names}
    data = write_plants(tmp_path / "data", {"east": plant(1), "north": plant(3), **odd})
    found = judged(data, str(path), capsys, "--recipe", "network,default")["recipes"]
    assert found["network"]["failed"] is None
    assert {"east", "north", "constant", "other-sensors", "no-float32"} <= set(found["network"]["sites"])
    for site in ("east", "north"):
        assert found["network"]["sites"][site]["auc_pr"] > 0.5
        assert found["default"]["sites"][site]["auc_pr"] > 0.9


def test_a_sensor_too_small_for_float32_is_one_that_rests_and_flags_nothing(tmp_path, config, capsys):
    sites = {site: plant(site_seed) for site, site_seed in (("east", 1), ("north", 3))}
    small = {site: frame.assign(tiny=frame["load"] * 1e-40) for site, frame in sites.items()}
    data = write_plants(tmp_path / "data", small)
    found = judged(data, config, capsys, "--mode", "federated")
    plain = judged(write_plants(tmp_path / "plain", sites), config, capsys, "--mode", "federated")
    for site in sites:
        figures = found["sites"][site]["federated"]
        usual = plain["sites"][site]["federated"]
        assert figures["false_flagged_share"] <= usual["false_flagged_share"] + 0.02
    assert any("in training constant: tiny" in note for note in found["notes"])


def test_incidents_and_machines_that_no_figure_counts_are_told(tmp_path, config, capsys):
    silent, two, every_one = plant(1), plant(3), plant(4)
    silent.loc[FAULT, SENSORS] = np.nan
    silent.loc[800:830, "flow"] += 12
    silent.loc[800:830, "label"] = 1
    other = plant(2).assign(label=np.nan, asset="press 2")
    sites = {"east": silent, "north": pd.concat([two.assign(asset="press 1"), other]), "south": every_one}
    found = judged(write_plants(tmp_path / "data", sites), config, capsys, "--mode", "federated")
    assert found["sites"]["east"]["federated"]["events"] == 1
    assert [note for note in found["notes"] if "no figure counts" in note] == [
        "east: 1 of 2 labelled incidents after training cannot be scored (no readings, or too few since a gap), "
        "and no figure counts that they were missed",
        "north: no label after training, so that no figure counts them, nor their alarms: press 2",
    ]


NAMES_NOTHING = (
    "dataset.sensors, dataset.exclude: no site sends laod, speed: check the names, capitals matter"
)


def test_a_name_that_stands_for_no_sensor_is_told_before_and_after_learning(tmp_path, config, capsys):
    path = tmp_path / "fedplant.toml"
    wanted = 'sensors = ["laod", "power", "flow"]\nexclude = ["speed"]\n'
    path.write_text(Path(config).read_text().replace("[dataset]\n", f"[dataset]\n{wanted}"))
    data = write_plants(tmp_path / "data", {"east": plant(1), "north": plant(3)})
    assert NAMES_NOTHING in judged(data, str(path), capsys, "--dry-run")["remarks"]
    assert NAMES_NOTHING in judged(data, str(path), capsys, "--mode", "federated")["notes"]
    assert not any("no site sends" in line for line in judged(data, config, capsys, "--dry-run")["remarks"])


def test_leaving_out_every_sensor_names_the_setting_that_does(tmp_path, config, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1)})
    path = tmp_path / "fedplant.toml"
    for wanted, line in {
        'exclude = ["load", "power", "flow"]': "dataset.exclude leaves no sensor over; the data has flow, load, power: exclude fewer",
        'sensors = ["laod"]': "none of the sensors of dataset.sensors is there (laod); the data has flow, load, power",
    }.items():
        path.write_text(Path(config).read_text().replace("[dataset]\n", f"[dataset]\n{wanted}\n"))
        assert run([*backtest_of(data, path), "--dry-run"]) == 2
        assert line in capsys.readouterr().err


def test_a_site_faster_than_the_common_step_is_told_that_not_all_its_readings_count(tmp_path, config, capsys):
    sites = {
        "east": plant(1),
        "north": every(plant(3, 5400), "10s"),
        "south": plant(4),
        "west": every(plant(5), "50s"),
    }
    data = write_plants(tmp_path / "data", sites)
    told = [line for line in judged(data, config, capsys, "--dry-run")["remarks"] if "common step" in line]
    assert told == [
        "north: readings are 10s apart and the sites' common step is 1min: of those in one step only the last is looked at "
        "(dataset.step sets another, dataset.max_gap how long the values of slower sites then count)"
    ]
    assert told[0] in judged(data, config, capsys, "--mode", "federated")["notes"]
    path = tmp_path / "fedplant.toml"
    path.write_text(Path(config).read_text().replace("[dataset]\n", '[dataset]\nstep = "1min"\n'))
    assert not any("common step" in line for line in judged(data, path, capsys, "--dry-run")["remarks"])


@pytest.mark.parametrize("name", ["a b", "Werk-Süd", "-rf", "_", "a;b", "x" * 130, "con*"])
def test_a_name_that_cannot_be_is_one_line_with_the_rule(name, tmp_path, config, capsys):
    data = write_plants(tmp_path / "data", {name: plant(1), "west": plant(2)})
    code = run(backtest_of(data, config))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fedplant:")]
    assert code == 5 and len(lines) == 1
    assert "cannot be used: expected" in lines[0] and "rename" in lines[0]


def test_odd_but_allowed_names_are_sites_like_others(tmp_path, config, capsys):
    names = ["1", "A.b_c-d", "all", "x" * 100]
    data = write_plants(tmp_path / "data", {name: plant(seed) for seed, name in enumerate(names, 1)})
    found = judged(
        data, config, capsys, "--mode", "federated", "--mode", "local", "--work-dir", str(tmp_path / "w")
    )
    assert set(found["sites"]) == set(names)


def test_what_a_slow_site_is_told_to_set_lets_it_take_part(tmp_path, capsys):
    slow = every(plant(2, 600), "10min").assign(
        timestamp=lambda frame: frame["timestamp"] - pd.Timedelta("3d")
    )
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(3), "slow": slow})
    path = tmp_path / "gap.toml"
    path.write_text('[dataset]\nmax_gap = "10min"\n')
    arguments = ["backtest", "--data", str(data), "--train-until", UNTIL, "--dry-run", "--json"]
    assert run(arguments) == 0
    before = json.loads(capsys.readouterr().out)["sites"]["slow"]
    assert "set dataset.max_gap to more" in before["excluded"]
    assert run([*arguments, "--config", str(path)]) == 0
    after = json.loads(capsys.readouterr().out)["sites"]["slow"]
    assert after["excluded"] is None and after["train_steps"] > 3000


def test_what_a_site_of_many_short_stretches_is_told_to_set_lets_it_take_part(tmp_path, capsys):
    torn = plant(2)
    torn = torn[np.arange(len(torn)) % 40 < 30]
    data = write_plants(tmp_path / "data", {"east": plant(1), "torn": torn})
    path = tmp_path / "gap.toml"
    path.write_text('[dataset]\nmax_gap = "15min"\n')
    arguments = ["backtest", "--data", str(data), "--train-until", UNTIL, "--dry-run", "--json"]
    assert run(arguments) == 0
    before = json.loads(capsys.readouterr().out)["sites"]["torn"]
    assert before["excluded"].endswith(
        "a silence of more than 5min ends a stretch: set dataset.max_gap to more"
    )
    assert run([*arguments, "--config", str(path)]) == 0
    after = json.loads(capsys.readouterr().out)["sites"]["torn"]
    assert after["excluded"] is None and after["train_steps"] > 400


def test_the_same_remark_on_many_sites_is_one_line(tmp_path, config, capsys):
    sites = {f"p{number}": plant(number, faulty=False).assign(text="on") for number in range(7)}
    data = write_plants(tmp_path / "data", {**sites, "late": plant(9).tail(200), "later": plant(9).tail(100)})
    code = run([*backtest_of(data, config), "--mode", "zscore"])
    told = capsys.readouterr()
    assert code == 0
    assert "p0, p1, p2, p3, p4 and 2 more: column 'text' is not numeric" in told.err
    assert "late, later: takes no part: no data before" in told.err
    assert "note: p0, p1, p2, p3, p4 and 2 more: no incident is labelled" in told.out


def test_nothing_but_incidents_is_no_perfect_score(tmp_path, config, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1).assign(label=1), "west": plant(2)})
    found = judged(data, config, capsys, "--mode", "pca")
    figures = found["sites"]["east"]["pca"]
    assert figures["auc_pr"] is None and figures["auc_roc"] is None and figures["vus_pr"] is None
    assert found["mean"]["pca"]["auc_pr"] == found["sites"]["west"]["pca"]["auc_pr"]
    assert any(
        note.startswith("east: every labelled step after training is of an incident")
        for note in found["notes"]
    )


def test_a_site_by_itself_is_told_that_there_is_nobody_to_learn_from(tmp_path, config, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1), "short": plant(2).head(10)})
    found = judged(data, config, capsys, "--mode", "federated", "--mode", "local")
    assert "east: the only site that can learn, so federated is what it learns alone" in found["notes"]
    assert found["sites"]["east"]["federated"]["auc_pr"] == found["sites"]["east"]["local"]["auc_pr"] > 0.9


@pytest.mark.parametrize("more", [["--mode", "federated"], ["--recipe", "linear,pca"]])
def test_where_only_sites_that_cannot_learn_go_on_nothing_is_judged_and_it_says_so(
    more, tmp_path, config, capsys
):
    # Both are too sparse for a frame, or end before the time from which on is judged.
    sites = {"east": plant(1, 500), "north": plant(3, 500), "odd": every(plant(2).head(40), "1d")}
    data = write_plants(tmp_path / "data", sites)
    arguments = [*backtest_of(data, config), *more]
    assert run(arguments) == 11
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fedplant:")]
    assert "readings to be judged on from 2026-03-01 10:00:00 UTC" in line
    assert "east, north: the last reading is of 2026-03-01 08:19:00" in line
