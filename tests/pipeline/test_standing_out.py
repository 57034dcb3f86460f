"""Stretches of a training that do not belong to the rest of it are named, ready to be left out, and an ordinary training is hardly ever accused."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from pipeline.artefacts import Evaluation
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.datasets.leaveout import concerns, matches
from pipeline.datasets.run import Run
from pipeline.evaluation.candidate import Candidate, as_toml, candidate_remarks, instant
from pipeline.evaluation.standing_out import LEAST_STEPS, Stretch, _candidate, _loudest, standing_out
from pipeline.jobs.settings import dataset_settings, looked_at
from tests.pipeline.plants import START, linear_config, plant, write_plants

APART = 30


def ordinary(seed, steps=4000, sensors=5):
    """Scores as of squared residuals, averaged over 3, 10 and 30 steps."""
    energy = (np.random.default_rng(seed).normal(size=(steps, sensors)) ** 2).sum(axis=1) / sensors
    averages = [lfilter([2 / (n + 1)], [1, 2 / (n + 1) - 1], energy) for n in (3, 10, APART)]
    return np.mean(averages, axis=0)[APART:]


@pytest.mark.parametrize("sensors", [1, 5, 40])
def test_an_ordinary_training_is_hardly_ever_accused(sensors):
    assert sum(bool(standing_out([ordinary(seed, 1000, sensors)], APART)) for seed in range(200)) <= 2


def test_scores_with_the_heaviest_tail_that_is_continued_are_accused_as_rarely_as_promised():
    accused = 0
    for seed in range(300):
        looks = np.random.default_rng(seed).pareto(2.0, 100) + 1.0
        accused += bool(standing_out([np.repeat(looks, APART)], APART))
    # One in fifty, within three standard errors; a third more for slopes that a hundred looks tell badly.
    assert accused / 300 <= 0.02 * 4 / 3 + 3 * (0.02 / 300) ** 0.5


@given(
    st.integers(0, 500), st.integers(0, 3000), st.integers(1, 60), st.floats(8.0, 1e3), st.floats(1e-2, 1e4)
)
def test_what_is_far_out_is_named_exactly_whatever_the_unit(seed, begin, length, times, unit):
    score = ordinary(seed)
    score[begin : begin + length] = times * score.max()
    [found] = (
        standing_out([unit * score[:2000], unit * score[2000:]], APART)
        if begin + length <= 2000
        else (standing_out([unit * score], APART))
    )
    assert (found.begin, found.end) == (begin, begin + length) and found.times > 4


def test_the_strongest_comes_first_and_steps_without_a_score_end_a_stretch():
    first, second = ordinary(1), ordinary(2)
    first[100:120], second[50:90], second[70] = 40.0, 90.0, np.nan
    found = standing_out([first, second], APART)
    assert [(each.run, each.begin, each.end) for each in found] == [(1, 50, 70), (1, 71, 90), (0, 100, 120)]


def expected_once(score, fewer=1.0):
    """The score beyond which the bulk lets expect `fewer` independent looks, by whichever of the two slopes says more."""
    found = []
    for high in (0.8, 0.95):
        first, last = np.quantile(score, [0.5, high])
        slope = np.log(last / first) / np.log(0.5 / (1 - high))
        found.append(last * ((1 - high) * len(score) / APART / fewer) ** slope)
    return max(found)


@pytest.mark.parametrize("lively", [0.0, 0.12])
def test_a_stretch_is_as_long_and_as_many_times_as_far_out_as_it_lies_beyond_what_is_expected_once(lively):
    score = ordinary(4) * np.where(np.arange(3970) % 1000 < 1000 * lively, 2.0, 1.0)
    once = expected_once(score)
    score[500:540] = 0.999 * once
    score[510:530] = np.linspace(4, 8, 20) * once
    once = expected_once(score)
    [found] = standing_out([score], APART)
    assert found.times == pytest.approx(score.max() / once)
    assert (found.begin, found.end) == (510, 530)


def test_of_several_stretches_a_weaker_one_is_named_that_would_not_be_alone():
    """One in fifty of those that are named may be chance: with two that is twice as much as with one."""
    score = ordinary(5)
    weak = expected_once(score, fewer=0.03)
    score[1000] = weak
    assert standing_out([score], APART) == []
    for stronger in (1.001, 10.0):
        score[2000] = stronger * weak
        assert [each.begin for each in standing_out([score], APART)] == [2000, 1000]


@pytest.mark.parametrize(
    "score",
    [
        np.zeros(0),
        np.full(5000, np.nan),
        np.full(5000, 0.3),
        np.zeros(5000),
        np.r_[np.full(LEAST_STEPS - 2, 0.1), 50.0],
        # A machine at rest: a tenth more than always is much beside a thousandth, and little.
        np.r_[np.exp(1e-3 * ordinary(3)), 1.1],
        # What a machine does in a tenth of its time is no incident.
        np.where(np.arange(5000) % 500 < 50, 20.0, 0.2) * np.exp(0.1 * ordinary(3, 5000 + APART)),
    ],
)
def test_where_nothing_can_stand_out_nothing_does(score):
    with np.errstate(all="raise"):
        assert standing_out([score], APART) == [] and standing_out([], APART) == []


def test_a_stretch_covers_the_readings_of_its_first_and_of_its_last_step():
    minute, start = 60 * 10**9, int(START.value)
    machine = Run("s", "m", start, minute, np.zeros((100, 1)))
    begin, end = _candidate(machine, Stretch(0, 10, 20, 3.0), ()).span_ns
    # A step stands for the readings since the one before it.
    assert begin <= start + 9 * minute + 1 and start + 19 * minute < end <= start + 20 * minute


def test_three_sensors_are_named_that_say_most_over_the_whole_stretch_and_none_that_says_nothing():
    detector = SimpleNamespace(sensors=("a", "b", "c", "d", "e"))
    said = np.zeros((4, 5), np.float32)
    said[0, 0], said[:, 1], said[:, 3], said[:, 4] = 5.0, 2.0, 1.0, 0.5
    assert _loudest(detector, said) == ("b", "a", "d")
    said[:, [0, 1, 3]] = 0.0
    assert _loudest(detector, said) == ("e",)


def faulty_plants(folder):
    broken = plant(1, 1500, faulty=False)
    broken.loc[200:219, "flow"] += 12.0
    broken.loc[600:609, "power"] -= 6.0
    # Between the two the machine was silent: each is of a run of its own.
    broken = broken.drop(index=range(400, 440))
    plants = {"east": broken, "west": plant(2, 1500, faulty=False)}
    plants = {site: frame.drop(columns="label") for site, frame in plants.items()}
    plants["east"].insert(1, "asset", 'saw "2" [new]')
    return write_plants(folder / "data", plants)


def backtest(data, config, capsys, *more):
    asked = ["backtest", "--data", str(data), "--train-until", "2026-03-01T18:00Z", "--config", str(config)]
    assert run([*asked, "--mode", "federated", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_faults_in_a_training_are_named_with_machine_time_and_sensor_and_left_out_once_pasted(
    tmp_path, capsys
):
    data, config, page = faulty_plants(tmp_path), Path(linear_config(tmp_path)), tmp_path / "page.html"
    found = backtest(data, config, capsys, "--report", str(page))
    assert set(found["candidates"]) == {"east"}
    first, second = found["candidates"]["east"]
    assert (first["asset"], first["sensors"][0]) == ('saw "2" [new]', "flow")
    assert first["from"] == "2026-03-01T03:19:00Z" and "2026-03-01T03:40" <= first["to"] <= "2026-03-01T03:50"
    assert (second["from"], second["sensors"][0]) == ("2026-03-01T09:59:00Z", "power")
    told = 'east: 2 stretches of its training stand far out of the rest: saw "2" [new] 2026-03-01 03:19:00Z to 03:'
    assert any(note.startswith(told) for note in found["notes"])
    assert (
        '<a href="#lookback">' in page.read_text()
        and "What stands out of the training" in page.read_text()
        and "2026-03-01T03:19:00Z" in page.read_text()
    )
    config.write_text(config.read_text() + found["leave_out"])
    again = backtest(data, config, capsys, "--report", str(page))
    assert again["candidates"] == {} and again["leave_out"] == ""
    assert again["manifest"]["left_out"]["east"] >= 30
    assert "What stands out of the training" not in page.read_text() and "#lookback" not in page.read_text()


def test_candidates_are_read_back_from_the_file_and_an_older_file_has_none():
    candidates = {"east": (Candidate("m", "2026-03-01T00:00:00Z", "2026-03-01T01:00:00Z", 4.25, ("a", "b")),)}
    evaluation = Evaluation(candidates=candidates, looked_at_before={"west": candidates["east"]})
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation
    assert Evaluation.from_json({"sites": {}}).candidates == {}


@pytest.mark.parametrize("table", ["leave_out", "looked_at"])
@settings(max_examples=30)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    st.integers(0, 2**40),
    st.integers(1, 10**9),
)
@example("saw [2]\x7f", 0, 1)
@example("saw*", 0, 1)
def test_what_is_to_be_pasted_means_that_machine_and_that_time_alone(
    tmp_path_factory, table, asset, begin_us, length_us
):
    begin, end = (int(START.value) + 1000 * us for us in (begin_us, begin_us + length_us))
    found = Candidate(asset, instant(begin), instant(end), 3.0)
    pasted = as_toml({"east": [found]}, table)
    path = tmp_path_factory.getbasetemp() / "pasted.toml"
    path.write_text('[[sites]]\nname = "east"\n[[sites]]\nname = "west"\n' + pasted, encoding="utf-8")
    config = load_config(path, {})
    [stretch] = dataset_settings(config).leave_out if table == "leave_out" else looked_at(config)
    assert (stretch.from_ns, stretch.to_ns) == found.span_ns
    assert (stretch.from_ns, stretch.to_ns) == (begin, end)
    assert concerns(stretch, "east") and not concerns(stretch, "west")
    assert matches(asset, stretch.assets) and not matches(asset + "x", stretch.assets)


def test_a_site_is_one_line_of_three_stretches_at_most():
    many = [
        Candidate("m", f"2026-03-0{n}T23:00:00Z", f"2026-03-0{n + 1}T01:00:00Z", 9.0 - n, ("a",))
        for n in range(1, 6)
    ]
    [(site, line)] = candidate_remarks({"east": many, "west": []}, {})
    assert site == "east" and line.startswith(
        "5 stretches of its training stand far out of the rest: m 2026-03-01 23:00:00Z to"
    )
    assert line.count(" to 2026") == 3 and "and 2 more; look, and leave out what was not ordinary" in line
    assert "mark as looked at what was (dataset.leave_out, dataset.looked_at; ready to paste" in line
