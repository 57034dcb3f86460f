"""What is to be expected of alarms is said before there is a label, from the training alone."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.detection_recipes import looked_ahead
from benchmarks.detection_sets import Machine
from models.architectures import build
from models.scaling import moments
from models.sources.grouped import GroupedNetwork
from pipeline.artefacts import Curves, Evaluation, Expected
from pipeline.cli.main import run
from pipeline.config.change import changed
from pipeline.evaluation import expectation
from pipeline.evaluation.expectation import held_against_later, loud
from pipeline.evaluation.metrics import Metrics
from pipeline.learning.configured import architecture, calibration
from pipeline.learning.learned import Learned
from pipeline.learning.sharing import young_scaling
from tests.pipeline.plants import SETTINGS, backtest_of, linear_config, plant, write_plants
from tests.pipeline.test_learning import prepared_plants

ROWS = 600
"""Of training; the first three fifths end at row 360."""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return linear_config(tmp_path_factory.mktemp("settings"))


def judged(tmp_path, config, capsys, sites, *more):
    data = write_plants(tmp_path / "data", sites)
    arguments = backtest_of(data, config)
    assert run([*arguments, "--mode", "federated", *more]) == 0
    return capsys.readouterr().out


def shifted(seed: int) -> pd.DataFrame:
    """Like others, but from two thirds of the training on its flow does not follow the load as before."""
    frame = plant(seed)
    frame.loc[400:, "flow"] += 3.0 * (1 + seed)
    return frame


def test_a_site_that_changed_within_its_training_is_told_and_calm_ones_keep_the_promise(
    tmp_path, config, capsys
):
    sites = {"calm": plant(1), "moody": shifted(2), "other": plant(3)}
    found = json.loads(judged(tmp_path, config, capsys, sites, "--json"))
    expected = found["expected"]
    assert expected["promised"] == 0.005 and expected["promised_per_week"] is None
    flagged = {site: of["flagged_share"] for site, of in expected["sites"].items()}
    assert flagged["moody"] > 0.5
    assert flagged["calm"] < 0.05 and flagged["other"] < 0.05
    assert expected["mean"]["flagged_share"] == pytest.approx(sum(flagged.values()) / 3)
    # Two fifths of the training are looked at, and nothing behind it.
    assert {of["rows"] for of in expected["sites"].values()} == {ROWS * 2 // 5}
    (told,) = (note for note in found["notes"] if "are to be expected" in note)
    assert "0.005 promised" in told and "most of all moody" in told


@pytest.mark.parametrize("noise", [False, True])
def test_what_is_held_against_later_rows_is_the_exported_detector_of_the_first_three_fifths(
    noise, tmp_path, monkeypatch
):
    settings = '[detector]\nsources = ["ridge", "network"]\nfollow_from = "20h"\n'
    config, prepared = prepared_plants(tmp_path, settings)
    if noise:
        private = {"dataset": {"share_scale": False}, "training": {"statistics_noise": 1.0}}
        config = changed(config, private)
    common, own, gone = (build(architecture(config), 40, 3, seed=seed).get_weights() for seed in range(3))
    learned = Learned({}, None, Curves({}), network=common, own_networks={"north": own, "gone": gone})
    held = {}

    def spy(detector, seen, parts, *more):
        held.update(detector=detector, parts=parts)
        return held_against_later(detector, seen, parts, *more)

    monkeypatch.setattr(expectation, "held_against_later", spy)
    assert set(expectation.expect(config, prepared, learned).sites) == {"east", "north", "west"}
    detector = held["detector"]
    # 20 hours of a whole training are 12 of its first three fifths.
    assert detector.options.follow_from == 12 * 60
    assert detector.options.prior_rows == (0.0 if noise else calibration(config).prior_rows)
    network = (
        detector.sources[-1] if isinstance(detector.sources[-1], GroupedNetwork) else detector.sources[0]
    )
    assert network.group[:3].tolist() == [0, 1, 0] and len(network.networks) == 2
    np.testing.assert_array_equal(network.networks[1].weights[0], own[0])
    earlier = {site: [run.values for run in before] for site, (before, _) in held["parts"].items()}
    young = young_scaling(config, prepared.dataset, earlier)
    for row, (site, runs) in enumerate(sorted(earlier.items())):
        assert sum(map(len, runs)) == 360
        known = moments(runs, 3)
        scaling = known.scaling() if young is None else young(site, known)
        np.testing.assert_array_equal(detector.scale[row], scaling.scale)


def test_benchmarks_look_ahead_on_arrays_with_the_same_outcome():
    machines = []
    for name, frame in {"calm": plant(1), "moody": shifted(2)}.items():
        values = frame[["load", "power", "flow"]].to_numpy()
        machines.append(Machine(name, values[:ROWS], values[ROWS:], np.zeros(300, np.bool_), 60.0))
    found = looked_ahead("default", machines, 0.005)
    assert found["moody"][0] > 0.5 and found["calm"][0] < 0.05
    assert {rows for _, rows in found.values()} == {ROWS * 2 // 5}


def test_nothing_behind_the_training_is_looked_at(tmp_path, config, capsys):
    sites = {"east": plant(1), "west": plant(2)}
    first = json.loads(judged(tmp_path / "a", config, capsys, sites, "--json"))["expected"]
    for frame in sites.values():
        frame.loc[ROWS + 1 :, ["load", "power", "flow"]] *= 7.0
    second = json.loads(judged(tmp_path / "b", config, capsys, sites, "--json"))["expected"]
    assert first == second and set(first["sites"]) == {"east", "west"}


def test_promise_expectation_and_outcome_stand_in_one_line(tmp_path, config, capsys):
    shown = judged(tmp_path, config, capsys, {"east": plant(1), "west": plant(2)})
    (line,) = (line for line in shown.splitlines() if "promised" in line)
    assert line.startswith("normal steps flagged: 0.005 promised, 0.0")
    assert "expected by looking ahead within the training, 0.0" in line and line.rstrip().endswith("after it")


def test_what_a_whole_training_is_long_enough_for_its_earlier_part_is_too(tmp_path, config, capsys):
    """With 1,500 rows slow changes are followed; with 900, the first three fifths, they would not be."""
    slow = plant(1, 1600, False)
    slow["flow"] += np.linspace(0, 2.0, len(slow))
    data = write_plants(tmp_path / "data", {"slow": slow, "other": plant(2, 1600, False)})
    arguments = ["backtest", "--data", str(data), "--train-until", "2026-03-02T01:00:00Z", "--config", config]
    assert run([*arguments, "--mode", "federated", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["expected"]["sites"]
    assert expected["slow"]["rows"] == 600 and expected["slow"]["flagged_share"] < 0.1


def test_where_alarms_a_week_are_promised_these_are_held_against_it(tmp_path, capsys):
    path = tmp_path / "fedplant.toml"
    linear = '[detector]\nsources = ["ridge", "pca"]\nthreshold = "alarms_per_week"\nalarms_per_week = 4.0\n'
    path.write_text('[[sites]]\nname = "any"\n' + SETTINGS + linear)
    found = json.loads(judged(tmp_path, str(path), capsys, {"calm": plant(1), "moody": shifted(2)}, "--json"))
    expected = found["expected"]
    assert expected["promised"] is None and expected["promised_per_week"] == 4.0
    moody = expected["sites"]["moody"]["alarms_per_day"]
    assert moody > 4.0 / 7
    assert any("false alarms a week" in note and f"moody {7 * moody:.3g}" in note for note in found["notes"])


def test_sites_too_short_to_be_parted_are_left_out_and_nothing_fails(tmp_path, config, capsys):
    short = plant(2).iloc[500:]
    found = json.loads(
        judged(tmp_path, config, capsys, {"east": plant(1), "short": short, "west": plant(3)}, "--json")
    )
    assert set(found["expected"]["sites"]) == {"east", "west"} and "short" in found["sites"]
    alone = json.loads(judged(tmp_path / "one", config, capsys, {"short": short}, "--json"))
    assert alone["expected"] is None


def test_later_rows_count_also_behind_a_gap(tmp_path, config, capsys):
    gone = plant(1).drop(index=range(450, 480))
    found = json.loads(judged(tmp_path, config, capsys, {"east": gone, "west": plant(2)}, "--json"))
    # The first three behind the gap have no past.
    assert found["expected"]["sites"]["east"]["rows"] == (ROWS - 30) * 2 // 5 - 3


def test_a_training_of_which_only_the_end_is_in_one_piece_is_not_looked_ahead_in(tmp_path, config, capsys):
    torn = plant(1)
    torn = torn[(torn.index >= 400) | (torn.index % 60 < 30)]
    assert json.loads(judged(tmp_path, config, capsys, {"torn": torn}, "--json"))["expected"] is None


def test_it_is_kept_with_the_evaluation_and_older_files_have_none():
    expected = Expected(0.01, None, {"east": Metrics(flagged_share=0.03)}, Metrics(flagged_share=0.03))
    evaluation = Evaluation(expected=expected)
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation
    assert Evaluation.from_json({"sites": {}}).expected is None and loud(Evaluation()) == []
    assert len(loud(evaluation)) == 1
    quiet = Expected(0.02, None, expected.sites, expected.mean)
    assert loud(Evaluation(expected=quiet)) == []
