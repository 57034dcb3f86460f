"""Stretches that learning is told not to see are seen by nothing that learns, and by everything that judges."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.config.change import changed
from pipeline.datasets.leaveout import Leaving, LeftOut, origin
from pipeline.datasets.resample import resample_site
from pipeline.datasets.snapshot import DatasetSettings
from pipeline.datasets.survey import SiteOutcome
from pipeline.errors import ConfigError
from pipeline.jobs.leftout import left_out_remarks
from pipeline.jobs.settings import dataset_settings, looked_at
from tests.pipeline.plants import START, UNTIL, backtest_of, linear_config, plant, write_plants

S = 1_000_000_000


def table(seconds, values, asset="m"):
    return pa.table(
        {
            "event_time": pa.array([int(s * S) for s in seconds], pa.timestamp("ns", "UTC")),
            "asset": pa.array([asset] * len(seconds)),
            "a": pa.array(values, pa.float64()),
        }
    )


def cells(runs):
    """By machine and grid time the row; a step in two runs would be lost, so their number is given too."""
    found = [
        ((run.asset, int(at)), row)
        for run in runs
        for at, row in zip(run.times_ns, run.values[:, 0], strict=True)
    ]
    return dict(found), len(found), [key for key, _ in found]


SPANS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 90)), max_size=5)


@given(st.sets(st.integers(0, 400), min_size=1, max_size=80), SPANS, st.integers(1, 7), st.integers(1, 4))
def test_no_reading_left_out_remains_and_every_other_one_does_once_in_order(times, spans, step, gap):
    times = sorted(times)
    stretches = [LeftOut(begin * S, (begin + length) * S) for begin, length in spans]
    asked = {"step_ns": step * S, "max_gap_ns": gap * step * S}
    values = [float(at) for at in times]
    readings = [table(times, values), table(times, values, "n")]
    found = resample_site("s", readings, **asked, leave_out=[*stretches, LeftOut(0, S, assets=("other",))])
    kept, count, order = cells(found.runs)
    said = [at for at in times if not any(begin <= at < begin + length for begin, length in spans)]
    assert count == len(kept) and order == sorted(order)
    assert found.left_out == 2 * (len(times) - len(said)) and found.readings == 2 * len(times)

    def cell(at):
        return -(-int(at) // step) * step * S

    for at in said:
        latest = max(each for each in said if cell(each) == cell(at))
        assert kept["m", cell(at)] == kept["n", cell(at)] == latest
    ends = [(begin + length) * S for begin, length in spans]
    for (_, at), value in kept.items():
        assert value in said and value * S <= at
        # Behind the end of a stretch nothing counts that was said before it, but in the step in which it ended.
        assert cell(value) == at or not any(value * S < end <= at for end in ends)


def test_nothing_is_held_over_a_stretch_neither_from_before_nor_from_within():
    seconds = list(range(20))
    fast = table(seconds, [float(at) for at in seconds])
    slow = [5.0 if at == 2 else 7.0 if at == 8 else 9.0 if at == 15 else None for at in seconds]
    both = fast.append_column("slow", pa.array(slow, pa.float64()))
    first, second = resample_site(
        "s", [both], step_ns=S, max_gap_ns=5 * S, hold_ns=(5 * S, 100 * S), leave_out=[LeftOut(6 * S, 11 * S)]
    ).runs
    assert (first.end_ns, second.start_ns) == (5 * S, 11 * S)
    assert first.values[2:, 1].tolist() == [5.0] * 4
    assert np.isnan(second.values[:4, 1]).all() and second.values[4:, 1].tolist() == [9.0] * 5


def test_stretches_count_what_they_touch_by_machine_and_overlapping_ones_count_a_reading_once():
    stretches = [
        LeftOut(0, 3 * S),
        LeftOut(2 * S, 5 * S, assets=("saw[1]",)),
        LeftOut(2 * S, 5 * S, assets=("press*",)),
        LeftOut(0, 9 * S, sites=("west",)),
    ]
    leaving = Leaving("east", stretches)
    time = np.arange(6) * S
    assert leaving.leave("saw[1]", time[::-1]).tolist() == [False, True, True, True, True, True]
    assert leaving.leave("lathe", time).tolist() == [True, True, True, False, False, False]
    assert (leaving.readings, leaving.touched.tolist(), leaving.end_ns) == (8, [6, 3, 0, 0], 4 * S)


def test_a_stretch_meets_what_shares_an_instant_with_it_and_neither_neighbour():
    stretch_of = LeftOut(10, 20)
    met = [stretch_of.meets(*span) for span in ((0, 10), (0, 11), (12, 13), (5, 30), (19, 25), (20, 25))]
    assert met == [False, True, True, True, True, False]


def test_a_reading_at_the_begin_of_a_stretch_is_counted_and_one_at_its_end_is_not():
    leaving = Leaving("east", [LeftOut(S, 5 * S // 2), LeftOut(S // 2, 2 * S)])
    leaving.leave("m", np.arange(4) * S)
    assert leaving.touched.tolist() == [2, 1] and leaving.readings == 2


def test_what_is_left_out_is_told_of_sites_that_learn_and_a_stretch_of_none_of_which_it_touches_any():
    stretches = [LeftOut(0, S), LeftOut(S, 2 * S), LeftOut(50 * S, 60 * S, sites=("east",))]
    outcomes = {
        "east": SiteOutcome("east", 900, 1, 90, 10, left_out=7, touched=(7, 0, 0)),
        "short": SiteOutcome("short", 90, 0, 0, 0, excluded="too short", left_out=5, touched=(0, 5, 0)),
        "west": SiteOutcome("west", 900, 1, 90, 10),
    }
    left, nothing = left_out_remarks(stretches, outcomes, 40 * S)
    assert left == ("east", "7 of 900 readings are left out of learning (dataset.leave_out)")
    assert nothing[0] == "east" and "1970-01-01 00:00:50Z to 1970-01-01 00:01:00Z" in nothing[1]
    assert nothing[1].endswith("it begins where learning has ended (train_until)")
    *_, earlier = left_out_remarks(stretches, outcomes, 55 * S)
    assert earlier[1].endswith("check its year, its zone and the names of sites and machines")


def test_what_says_that_readings_are_left_out_is_what_touches_any():
    said = [LeftOut(0, S), LeftOut(0, S, labelled=True), LeftOut(2 * S, 3 * S)]
    told = {touched: origin(said, touched) for touched in ((3, 0, 0), (0, 4, 0), (1, 2, 0), (0, 0, 5))}
    assert list(told.values()) == [
        "dataset.leave_out",
        "--leave-out-labelled",
        "dataset.leave_out and --leave-out-labelled",
        "dataset.leave_out",
    ]


def test_without_the_key_the_identity_is_that_of_releases_that_had_none(tmp_path):
    config = load_config(_written(tmp_path, ""), {})
    assert "leave_out" not in config.fingerprint_fields()["dataset"]
    assert "leave_out" not in DatasetSettings(5).to_json()


def _written(folder, text, sites=("east", "west")):
    path = folder / "fedplant.toml"
    path.write_text("".join(f'[[sites]]\nname = "{site}"\n' for site in sites) + text)
    return path


def stretch(table="leave_out", **keys):
    return f"[[dataset.{table}]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


TABLES = ["leave_out", "looked_at"]
"""Both hold stretches of time, and read and refuse them alike."""


def test_a_note_decides_nothing_and_a_stretch_does(tmp_path):
    plain, noted, other = (
        load_config(_written(tmp_path, stretch(**{"from": '"2026-03-01T01:00"', "to": end, **more})), {})
        for end, more in (
            ('"2026-03-01T02:00Z"', {}),
            ("2026-03-01T03:00:00+01:00", {"note": '"gearbox"'}),
            ("2026-03-02", {}),
        )
    )
    assert plain.fingerprint_fields() == noted.fingerprint_fields() != other.fingerprint_fields()
    assert dataset_settings(plain) == dataset_settings(noted) != dataset_settings(other)
    [found] = dataset_settings(plain).leave_out
    hour = 3600 * S
    assert found == LeftOut(int(START.value) + hour, int(START.value) + 2 * hour)
    # As recipes and tuning change a configuration.
    again = changed(noted, {"dataset": {"validation": 0.3}})
    assert again.dataset.leave_out == noted.dataset.leave_out


@pytest.mark.parametrize("table", TABLES)
def test_times_without_an_offset_are_what_the_clock_of_the_messages_shows(tmp_path, table):
    berlin = '[ingestion]\ntime_zone = "Europe/Berlin"\n'
    text = berlin + stretch(table, **{"from": "2026-03-01T01:00:00", "to": "2026-03-01T01:00:00Z"})
    config = load_config(_written(tmp_path, text), {})
    [found] = dataset_settings(config).leave_out if table == "leave_out" else looked_at(config)
    assert (found.from_ns, found.to_ns) == (START.value, START.value + 3600 * S)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"to": "2026-03-01"}, "dataset.leave_out.0.from: missing, but required"),
        (
            {"from": "2026-03-02", "to": "2026-03-01"},
            "dataset.leave_out.0: to = 2026-02-28 23:00:00 UTC is not after from = 2026-03-01 23:00:00 UTC",
        ),
        ({"from": "2026-03-01", "to": "2026-03-01"}, "is not after from"),
        (
            {"from": "20260301", "to": "2026-03-02"},
            "dataset.leave_out.0.from = 20260301: not a time; write it as",
        ),
        (
            {"from": "'20260301'", "to": "2026-03-02"},
            "dataset.leave_out.0.from = '20260301': not a time; write",
        ),
        ({"from": "07:00:00", "to": "2026-03-02"}, "dataset.leave_out.0.from: not a time; write it as"),
        ({"from": "'2026-03-01 late'", "to": "2026-03-02"}, "dataset.leave_out.0.from = '2026-03-01 late': "),
        ({"from": "2026-10-25T02:30:00", "to": "2026-10-26"}, "Europe/Berlin show it twice; add the offset"),
        ({"from": "0001-01-01", "to": "2026-10-26"}, "dataset.leave_out.0.from = '0001-01-01': "),
        ({"from": "2026-03-01", "to": "2026-03-02", "sites": "['wets']"}, "sites: 'wets' matches no site"),
        ({"from": "2026-03-01", "to": "2026-03-02", "sites": "[]"}, "dataset.leave_out.0.sites = []: "),
        ({"from": "2026-03-01", "to": "2026-03-02", "assets": "['']"}, "dataset.leave_out.0.assets"),
        (
            {"from": "2026-03-01", "until": "2026-03-02"},
            "until: unknown key; allowed here: assets, from, note, sites, to",
        ),
    ],
)
def test_what_is_no_stretch_is_one_line(tmp_path, table, keys, line):
    text = '[ingestion]\ntime_zone = "Europe/Berlin"\n' + stretch(table, **keys)
    with pytest.raises(ConfigError) as refused:
        load_config(_written(tmp_path, text), {})
    assert line.replace("leave_out", table) in str(refused.value)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '[dataset.leave_out]\nfrom = "2026-03-01"\nto = "2026-03-02"\n',
            "dataset.leave_out: one table; write [[dataset",
        ),
        ('[dataset]\nleave_out = "2026-03-01"\n', "dataset.leave_out = '2026-03-01': "),
        ("[dataset]\nleave_out = [7]\n", "dataset.leave_out.0 = 7: "),
    ],
)
def test_what_is_no_list_of_stretches_is_one_line(tmp_path, table, text, line):
    for zone in ("", '[ingestion]\ntime_zone = "Europe/Berlin"\n'):
        with pytest.raises(ConfigError) as refused:
            load_config(_written(tmp_path, zone + text.replace("leave_out", table)), {})
        assert line.replace("leave_out", table) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("table", TABLES)
def test_a_stretch_can_come_from_the_environment(tmp_path, table):
    value = '[{from = "2026-03-01T01:00", to = "2026-03-01T02:00Z", sites = ["east"]}]'
    config = load_config(_written(tmp_path, ""), {f"FEDPLANT_DATASET__{table.upper()}": value})
    assert [each.sites for each in getattr(config.dataset, table)] == [["east"]]


def test_a_stretch_without_begin_or_end_in_reach_is_the_whole_of_time(tmp_path):
    text = stretch(**{"from": "0001-01-01", "to": "9999-12-31"})
    [found] = dataset_settings(load_config(_written(tmp_path, text), {})).leave_out
    assert found.from_ns < 0 < START.value < found.to_ns < 2**63


@pytest.fixture
def faulty(tmp_path):
    """Two plants, one of which was broken for an hour and a half while it learned; the files, and a configuration without a network."""
    broken = plant(1)
    broken.loc[200:289, "flow"] += 12.0
    data = write_plants(tmp_path / "data", {"east": broken, "west": plant(2)})
    return data, tmp_path, Path(linear_config(tmp_path))


HOUR = {"from": '"2026-03-01T03:20"', "to": '"2026-03-01T04:50"'}


def backtest(data, config, capsys, *more, code=0):
    asked = [
        *backtest_of(data, config),
        "--mode",
        "federated",
    ]
    assert run([*asked, "--json", *more]) == code
    shown = capsys.readouterr()
    return json.loads(shown.out) if code == 0 else shown.err


def test_a_fault_that_learning_saw_hides_its_like_and_left_out_it_is_told_everywhere_and_hides_nothing(
    faulty, capsys
):
    data, folder, config = faulty
    dirty = backtest(data, config, capsys)
    with config.open("a") as file:
        file.write(stretch(**HOUR, sites='["ea*"]', note='"flow meter"'))
    page, work = folder / "page.html", folder / "work"
    found = backtest(data, config, capsys, "--report", str(page), "--work-dir", str(work))
    told = "east: 90 of 600 readings are left out of learning (dataset.leave_out)"
    assert told in found["notes"] and found["manifest"]["left_out"] == {"east": 90}
    assert told in page.read_text() and "Readings that learning did not see" in page.read_text()
    [summary] = work.glob("runs/*/summary.json")
    assert json.loads(summary.read_text())["left_out"] == {"east": 90}
    figures = [of["sites"]["east"]["federated"] for of in (dirty, found)]
    assert found["manifest"]["snapshot"] != dirty["manifest"]["snapshot"]
    assert [of["event_recall"] for of in figures] == [0.0, 1.0] and figures[0]["auc_pr"] < 0.9 < figures[1][
        "auc_pr"
    ]
    assert [of["rows"] for of in figures] == [300, 300]
    preview = backtest(data, config, capsys, "--dry-run")
    assert {site: of["left_out"] for site, of in preview["sites"].items()} == {"east": 90, "west": 0}
    assert told in preview["remarks"]


def prepared_of(data, config):
    from ingestion.sitefile import read_site_dir
    from pipeline.datasets.prepared import prepare
    from pipeline.datasets.snapshot import take_snapshot
    from pipeline.datasets.sources import FileReadings

    readings = FileReadings(read_site_dir(data))
    snapshot = take_snapshot(
        readings.sources(), dataset_settings(load_config(config, {}, sites_from_files=True))
    )
    return prepare(data.parent / "datasets", snapshot, readings)


def test_shards_calibration_and_looking_ahead_see_the_very_same_rows(faulty):
    import tensorflow as tf

    from models.scaling import SensorScaling

    data, _, config = faulty
    with config.open("a") as file:
        file.write(
            stretch(**HOUR, sites='["east"]') + stretch(**{"from": "2026-03-01T04:40:00", "to": UNTIL})
        )
    prepared = prepared_of(data, config)
    for site, lengths in (("east", [200]), ("west", [280])):
        assert [len(run.values) for run in prepared.seen(site)] == lengths
        assert [len(each) for each in prepared.training_rows()[site]] == lengths
        before, after = prepared.parts(site)
        shards, scaling = (
            prepared.dataset.shards[site],
            SensorScaling.from_dict(prepared.dataset.scaling[site]),
        )
        for path, runs in ((shards.train, before), (shards.validation, after)):
            records = [record.numpy() for record in tf.data.TFRecordDataset(path)]
            assert records == [scaling.apply(run.values).astype("<f4").tobytes() for run in runs]
        assert len(prepared.runs(site)) == 1 and len(prepared.runs(site)[0].values) == 900
        # What lies behind the rows learned from was known to be bad: it is nobody's future.
        assert prepared.learned_until(site) == pd.Timestamp(UNTIL).value


def test_an_end_that_is_left_out_does_not_become_what_is_judged(faulty):
    data, _, config = faulty
    text = config.read_text().replace('train_until = "2026-03-01T10:00:00Z"', "")
    config.write_text(text + stretch(**{"from": "2026-03-01T14:00:00", "to": "2027-01-01"}))
    prepared = prepared_of(data, config)
    assert [len(run.values) for run in prepared.seen("east")] == [840]
    assert prepared.learned_until("east") == int(START.value) + 899 * 60 * S + 1


@pytest.mark.parametrize(
    ("stretches", "reason"),
    [
        (
            [{"from": "2026-03-01T00:30:00", "to": "2026-03-02", "sites": '["east"]'}],
            "east: too short: its longest gap-free stretch has 30 steps, a frame needs 40; 570 of its 600 readings are left out (dataset.leave_out)",
        ),
        (
            [{"from": "2026-01-01", "to": "2027-01-01", "sites": '["east"]'}],
            "east: nothing left to learn from; 600 of its 600 readings are left out (dataset.leave_out): leave out less",
        ),
    ],
)
def test_a_site_of_which_too_little_is_left_is_named_with_the_key_and_the_others_go_on(
    faulty, capsys, stretches, reason
):
    data, _, config = faulty
    with config.open("a") as file:
        file.writelines(stretch(**each) for each in stretches)
    found = backtest(data, config, capsys)
    assert any(note.startswith(reason) for note in found["notes"]) and set(found["sites"]) == {"west"}


def test_pieces_that_are_shorter_than_a_frame_are_told(faulty, capsys):
    data, _, config = faulty
    with config.open("a") as file:
        for begin, end in (("03:20", "03:30"), ("04:00", "04:10")):
            file.write(
                stretch(**{"from": f'"2026-03-01T{begin}"', "to": f'"2026-03-01T{end}"', "sites": '["east"]'})
            )
    told = "east: 20 of 600 readings are left out of learning (dataset.leave_out); 30 steps are in pieces shorter than a frame"
    assert any(line.startswith(told) for line in backtest(data, config, capsys, "--dry-run")["remarks"])


def test_a_training_of_which_nothing_is_left_is_one_line(faulty, capsys):
    data, _, config = faulty
    with config.open("a") as file:
        file.write(stretch(**{"from": "2026-01-01", "to": "2027-01-01"}))
    line = "no site can train on readings before 2026-03-01 10:00 UTC: east, west: nothing left to learn from"
    for more in ((), ("--dry-run",)):
        assert line in backtest(data, config, capsys, *more, code=11)


def test_a_stretch_that_touches_nothing_is_told(faulty, capsys):
    data, _, config = faulty
    with config.open("a") as file:
        file.write(stretch(**{"from": "2025-03-01", "to": "2025-03-02", "sites": '["west"]'}))
        file.write(stretch(**HOUR, assets='["saw"]'))
        file.write(stretch(**{"from": "2026-03-01T11:00:00", "to": "2026-03-01T12:00:00"}))
    notes = backtest(data, config, capsys)["notes"]
    nothing = "of dataset.leave_out touches no reading that is learned from:"
    assert (
        f"west: the stretch 2025-03-01 00:00:00Z to 2025-03-02 00:00:00Z {nothing} check its year, its zone and the names of sites and machines"
        in notes
    )
    assert any(note.startswith("east, west: the stretch 2026-03-01 03:20:00Z") for note in notes)
    behind = [note for note in notes if note.endswith("it begins where learning has ended (train_until)")]
    assert len(behind) == 1 and not any("are left out of learning" in note for note in notes)


@pytest.mark.parametrize("table", TABLES)
def test_a_name_of_a_site_that_no_file_has_is_refused(faulty, capsys, table):
    data, _, config = faulty
    with config.open("a") as file:
        file.write(stretch(table, **HOUR, sites='["East"]'))
    error = backtest(data, config, capsys, code=2)
    assert (
        f"dataset.{table}.0.sites: 'East' matches no site (capitals matter); there are any, east, west"
        in error
    )
    asked = ["tune", str(config), "--data", str(data), "--by", "injected", "--budget", "1s", "--json"]
    assert run(asked) == 2
    capsys.readouterr()
