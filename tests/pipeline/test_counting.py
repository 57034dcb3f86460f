"""Counters are left out before they raise false alarms, as if they were excluded by hand, and nothing else is taken for one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.sitefile import read_site_dir
from models.export import export_detector
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.datasets import shards
from pipeline.datasets.counting import counts
from pipeline.datasets.parts import counters, parts_of_sites
from pipeline.datasets.prepared import prepare
from pipeline.datasets.shards import build_dataset
from pipeline.datasets.snapshot import DatasetSettings, Source, take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.datasets.survey import SiteOutcome
from pipeline.jobs.settings import dataset_settings
from pipeline.manifest import run_id
from pipeline.scoring.model import ServingModel
from tests.pipeline.plants import START, backtest_of, learned_together, linear_config, write_plants

PIECES = np.floor(np.arange(300) / 3)


def told(values, cuts=(100, 200)):
    return bool(counts(np.split(np.asarray(values, float)[:, None], cuts))[0])


@given(
    st.lists(st.integers(0, 3), min_size=300, max_size=300), st.floats(-1e6, 1e6), st.sampled_from([-1, 1])
)
def test_what_only_rises_or_only_falls_counts_wherever_it_begins(steps, start, way):
    rows = start + way * np.cumsum(steps)
    moves = sum(np.count_nonzero(np.diff(part)) for part in np.split(rows, (100, 200)))
    assert told(rows) == (moves >= 50)


def test_a_reading_that_is_missing_and_a_gap_do_not_matter():
    values = PIECES.copy()
    values[::7] = np.nan
    assert told(values)


@pytest.mark.parametrize(
    "values",
    [
        np.full(300, 7.0),
        PIECES % 40,
        np.arange(300) + np.random.default_rng(1).normal(0, 2, 300),
        np.repeat(np.arange(10), 30),
        np.full(300, np.nan),
    ],
    ids=["constant", "begins anew", "noisy rise", "few steps", "silent"],
)
def test_what_comes_back_or_hardly_moves_is_no_counter(values):
    assert not told(values)


SENSORS = ("a", "b", "c", "d")
STATES = ["counting", "constant", "silent", "ordinary"]


def outcome(states, able=True):
    lists = {
        kind: tuple(name for name, state in zip(SENSORS, states, strict=True) if state == kind)
        for kind in STATES[:3]
    }
    return SiteOutcome("s", 1, 1, 1, 1, None if able else "no data", **lists)


@given(st.lists(st.tuples(st.lists(st.sampled_from(STATES), min_size=4, max_size=4), st.booleans())))
def test_what_counts_at_most_sites_that_know_it_is_left_out_of_all(sites):
    left_out = counters([outcome(*site) for site in sites], SENSORS, DatasetSettings(5))
    able = [states for states, can_train in sites if can_train]
    expected = []
    for at, name in enumerate(SENSORS):
        seen = [states[at] for states in able if states[at] in ("counting", "ordinary")]
        if seen.count("counting") > seen.count("ordinary"):
            expected.append(name)
    assert left_out == (tuple(expected) if len(expected) < len(SENSORS) else ())
    for kept in (DatasetSettings(5, counters="keep"), DatasetSettings(5, sensors=SENSORS)):
        assert counters([outcome(*site) for site in sites], SENSORS, kept) == ()


def readings(**columns):
    rows = len(next(iter(columns.values())))
    times = pa.array(np.arange(rows) * 10**9, pa.timestamp("ns", "UTC"))
    values = {name: pa.array(column, pa.float64(), from_pandas=True) for name, column in columns.items()}
    return pa.table({"event_time": times, "asset": ["m"] * rows, **values})


def taken(sites, **settings):
    """A snapshot of one table a site and the reader of them."""
    sources = {site: [Source(site, table.num_rows)] for site, table in sites.items()}
    return take_snapshot(sources, DatasetSettings(20, **settings)), lambda site: [sites[site]]


def noise(seed, rows=400):
    return np.random.default_rng(seed).normal(size=rows)


def only_when(said, values):
    return np.where(said, values, np.nan)


MET = np.arange(400.0)
SPOKE = np.arange(400) % 150 < 100
"""For fifty seconds of each hundred and fifty the counter alone reports."""
SITES = {
    "east": readings(a=only_when(SPOKE, noise(1)), b=only_when(SPOKE, noise(2)), met=MET),
    "north": readings(a=noise(3), met=only_when(np.arange(400) % 3 == 0, MET)),
    "west": readings(a=noise(4), b=noise(5)),
}


def test_left_out_is_excluded_by_hand_in_runs_rows_shards_and_scales(tmp_path):
    ours, theirs = (
        build_dataset(tmp_path / name, *taken(SITES, **by_hand))
        for name, by_hand in (("ours", {}), ("theirs", {"exclude": ("met",)}))
    )
    assert ours.sensors == theirs.sensors == ("a", "b")
    assert (ours.step_ns, ours.max_gap_ns, ours.hold_ns) == (
        theirs.step_ns,
        theirs.max_gap_ns,
        theirs.hold_ns,
    )
    assert (ours.scaling, ours.own_scaling) == (theirs.scaling, theirs.own_scaling)
    for name in (path.name for path in ours.folder.glob("*.tfrecord")):
        assert (ours.folder / name).read_bytes() == (theirs.folder / name).read_bytes()
    assert ours.outcomes["east"].runs == 3
    told = {site: of.counting for site, of in ours.outcomes.items()}
    assert told == {"east": ("met",), "north": ("met",), "west": ()}
    assert {site: replace(of, counting=()) for site, of in ours.outcomes.items()} == theirs.outcomes


def test_a_site_that_only_counts_takes_no_part_and_is_told_why():
    sites = {**SITES, "south": readings(met=MET)}
    grid, parts = parts_of_sites(*taken(sites))
    assert grid.sensors == ("a", "b")
    assert parts["south"].outcome.counting == ("met",)
    assert str(parts["south"].outcome.excluded).endswith(
        'left out, because they count: met (dataset.counters = "keep" keeps them)'
    )
    assert all(parts[site].outcome.excluded is None for site in SITES)


def test_a_site_that_is_lost_without_counters_has_no_say_in_what_counts_and_all_is_told():
    """`run` counts at one of two sites, until west has nothing that it reports often and is out."""
    sites = {
        "east": readings(a=noise(1), met=MET, run=MET),
        "west": readings(met=MET, run=only_when(np.arange(400) % 150 == 0, MET % 7)),
    }
    grid, parts = parts_of_sites(*taken(sites))
    assert grid.sensors == ("a",) and parts["east"].outcome.counting == ("met", "run")
    assert str(parts["west"].outcome.excluded).endswith(
        'count: met, run (dataset.counters = "keep" keeps them)'
    )


@pytest.mark.parametrize(
    ("sites", "settings"),
    [
        ({"east": readings(met=MET, more=2 * MET)}, {}),
        (SITES, {"sensors": ("a", "met")}),
        (SITES, {"counters": "keep"}),
        ({"east": SITES["east"], "north": readings(a=noise(1), met=MET % 30)}, {}),
    ],
    ids=["nothing else", "asked for", "kept", "no majority"],
)
def test_counters_stay_where_nothing_else_is_left_where_they_are_wanted_and_where_few_count(sites, settings):
    grid, parts = parts_of_sites(*taken(sites, **settings))
    assert "met" in grid.sensors and "met" in parts["east"].outcome.counting


def test_without_counters_a_data_set_keeps_its_name_and_one_that_has_them_from_before_is_made_anew(
    tmp_path, monkeypatch
):
    assert "counters" not in DatasetSettings(20).to_json()
    assert taken(SITES)[0].id != taken(SITES, counters="keep")[0].id
    plain, kept = (
        load_config(configured(tmp_path), {"FEDPLANT_DATASET__COUNTERS": how})
        for how in ("leave_out", "keep")
    )
    assert "counters" not in plain.fingerprint_fields()["dataset"]
    assert run_id("s", plain) != run_id("s", kept)
    with monkeypatch.context() as before:
        before.setattr("pipeline.datasets.parts.counters", lambda *_: ())
        before.setattr(shards, "counters", lambda *_: ())
        assert "met" in build_dataset(tmp_path, *taken(SITES)).sensors
    anew = build_dataset(tmp_path, *taken(SITES))
    assert anew.sensors == ("a", "b") and not anew.reused
    assert build_dataset(tmp_path, *taken(SITES)).reused


def test_a_stretch_left_out_and_a_pattern_of_logarithms_that_names_counters_alone_go_with_it(tmp_path):
    grid, parts = parts_of_sites(*taken(SITES, logarithms=("met",)))
    assert grid.sensors == ("a", "b") and parts["east"].outcome.excluded is None
    assert build_dataset(tmp_path, *taken(SITES, logarithms=("met",))).shards.keys() == SITES.keys()


def packer(seed, rows=1200):
    """One packaging machine, a reading a minute: three sensors that follow one slow load, an hour meter and the pieces made. From row 620 on,
    once an hour, one of the three leaves the load for ten minutes."""
    random = np.random.default_rng(seed)
    load = np.convolve(random.normal(size=rows + 99), np.full(100, 0.1), "valid")
    values = load[:, None] * [1, -1, 0.8] + 0.3 * random.normal(size=(rows, 3))
    label = np.zeros(rows, int)
    for number, at in enumerate(range(620, rows - 20, 60)):
        values[at : at + 10, number % 3] += random.choice([-0.8, 0.8])
        label[at : at + 10] = 1
    frame = pd.DataFrame(values, columns=["drive", "seal", "film"])
    frame["hours"] = np.round(10 * seed + np.arange(1, rows + 1) / 60, 2)
    frame["pieces"] = np.cumsum(random.poisson(2 * np.exp(0.6 * load)))
    frame.insert(0, "timestamp", START + pd.to_timedelta(np.arange(rows), "min"))
    frame["label"] = label
    return frame


@pytest.fixture(scope="module")
def packers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packers")
    return write_plants(
        folder, {name: packer(seed) for seed, name in enumerate(("east", "north", "west"), 1)}
    )


def configured(folder, dataset=""):
    folder.mkdir(exist_ok=True)
    path = Path(linear_config(folder))
    path.write_text(path.read_text().replace("[model]", f"{dataset}\n[model]", 1))
    return path


def backtested(packers, folder, capsys, dataset="", more=("--mode", "federated")):
    asked = backtest_of(packers, configured(folder, dataset))
    capsys.readouterr()
    assert run([*asked, "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_backtest_without_counters_is_the_one_without_them_by_hand_and_better_than_with_them(
    packers, tmp_path, capsys
):
    ours = backtested(packers, tmp_path / "ours", capsys)
    by_hand = backtested(packers, tmp_path / "by_hand", capsys, 'exclude = ["hours", "pieces"]')
    kept = backtested(packers, tmp_path / "kept", capsys, 'counters = "keep"')
    assert ours["manifest"]["sensors"] == by_hand["manifest"]["sensors"] == ["drive", "film", "seal"]
    assert ours["manifest"]["left_out_counters"] == ["hours", "pieces"]
    assert len(kept["manifest"]["sensors"]) == 5 and "left_out_counters" not in kept["manifest"]
    for found in (ours, by_hand):
        del found["manifest"]
    assert ours["sites"] == by_hand["sites"] and ours["expected"] == by_hand["expected"]
    ours, kept = (found["mean"]["federated"] for found in (ours, kept))
    assert ours["auc_pr"] > kept["auc_pr"] + 0.05
    assert ours["false_flagged_share"] < kept["false_flagged_share"] / 2


@pytest.mark.parametrize("more", [["--dry-run"], ["--mode", "pca"]])
@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ("", ", and is left out: hours, pieces; send its rate to have it watched"),
        ('counters = "keep"', ": hours, pieces; what it shows later was never learned"),
        ('sensors = ["drive", "seal", "hours"]', ": hours; what it shows later was never learned"),
    ],
    ids=["left out", "kept", "asked for"],
)
def test_a_backtest_and_its_dry_run_name_counters_of_all_sites_in_one_line(
    packers, tmp_path, capsys, more, dataset, says
):
    found = backtested(packers, tmp_path / "one", capsys, dataset, more)
    (line,) = (each for each in found.get("remarks") or found["notes"] if "as a counter does" in each)
    assert line.startswith(
        f"east, north, west: only rises or only falls while learning, as a counter does{says}"
    )
    if "--dry-run" in more:
        assert found["left_out_counters"] == ([] if dataset else ["hours", "pieces"])
        assert "hours" in found["sites"]["east"]["counting"]
        assert ("hours" in found["sensors"]) == bool(dataset)


def test_the_served_detector_does_not_listen_to_counters(packers, tmp_path):
    config = load_config(configured(tmp_path), {})
    files = FileReadings(read_site_dir(packers))
    prepared = prepare(tmp_path / "datasets", take_snapshot(files.sources(), dataset_settings(config)), files)
    learned = learned_together(config, prepared, tmp_path)
    folder = export_detector(learned.detector, tmp_path / "served", hold_ns=prepared.dataset.hold_ns)
    assert ServingModel.load(folder).sensors == ("drive", "film", "seal")
