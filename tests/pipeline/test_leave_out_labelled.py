"""Labelled incidents before the end of learning are left out of it if a backtest is asked to, and no later label ever has a say."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.main import run
from pipeline.config import load_config
from tests.pipeline.plants import UNTIL, backtest_of, linear_config, plant, write_plants
from tests.pipeline.test_leave_out import HOUR, S, backtest, stretch


def labelled_files(folder):
    """Two plants of which one was broken and labelled so while it learned, and until after learning ended."""
    broken = plant(1)
    broken.loc[200:289, "flow"] += 12.0
    broken.loc[200:289, "label"] = 1
    broken.loc[590:605, "label"] = 1
    return write_plants(folder / "data", {"east": broken, "west": plant(2)})


def test_labelled_incidents_before_learning_ends_are_left_out_if_asked_and_it_is_said_that_labels_had_a_say(
    tmp_path, capsys
):
    data, config = labelled_files(tmp_path), Path(linear_config(tmp_path))
    asked, page = ("--leave-out-labelled",), tmp_path / "page.html"
    as_ever = backtest(data, config, capsys, "--dry-run")["sites"]["east"]
    preview = backtest(data, config, capsys, "--dry-run", *asked)["sites"]["east"]
    counts = [
        [of[key] for key in ("learned_incidents", "left_out_incidents", "left_out")]
        for of in (as_ever, preview)
    ]
    assert counts == [[2, 0, 0], [0, 2, 100]]
    assert any(
        "leave them out with --leave-out-labelled" in note for note in backtest(data, config, capsys)["notes"]
    )
    found = backtest(data, config, capsys, *asked, "--report", str(page))
    assert "east: 100 of 600 readings are left out of learning (--leave-out-labelled)" in found["notes"]
    had = (
        "east: 2 labelled incidents before --train-until left out of learning, in which labels thus had a say"
    )
    assert any(note.startswith(had) for note in found["notes"])
    assert found["manifest"]["left_out"] == {"east": 100} and found["manifest"]["labels_in_learning"]
    assert "earlier ones to leave incidents out of learning" in page.read_text()
    # The one that learning ended in is no fault; the other is as plain as that of the training.
    assert found["sites"]["east"]["federated"]["event_recall"] == 0.5
    # By recipes too.
    plain = [*backtest_of(data, config), "--json"]
    assert run([*plain, *asked, "--recipe", "pca,baseline_pca"]) == 0
    recipes = json.loads(capsys.readouterr().out)["recipes"]
    assert all(of["manifest"]["left_out"] == {"east": 100} for of in recipes.values())


def exports_of(data, config, **asked):
    from ingestion.layout import Layout
    from pipeline.jobs.exports import read_exports
    from pipeline.watch import SilentWatch

    base = load_config(config, {}, sites_from_files=True)
    return read_exports(
        data, pd.Timestamp(UNTIL).to_pydatetime(), Layout(), base, None, SilentWatch(), **asked
    )


def test_no_label_behind_the_end_of_learning_changes_what_is_learned(tmp_path):
    data, config = labelled_files(tmp_path), Path(linear_config(tmp_path))
    snapshots = [exports_of(data, config, leave_out_labelled=True).snapshot()]
    east = pd.read_csv(data / "east.csv", float_precision="round_trip")
    for later in (0, 1):
        east.loc[600:, "label"] = later
        east.to_csv(data / "east.csv", index=False)
        snapshots.append(exports_of(data, config, leave_out_labelled=True).snapshot())
    assert len({each.id for each in snapshots}) == 1
    assert exports_of(data, config).snapshot().id != snapshots[0].id


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b[1]", "*"]), st.sampled_from([0.0, 1.0, np.nan])),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 45),
)
def test_every_labelled_reading_before_an_instant_is_left_out_and_none_but_those_between_two(rows, until):
    from ingestion.sitefile import SiteFile
    from pipeline.jobs.labelled import incidents, labelled_stretches, seen_by_learning

    times = pd.to_datetime(np.arange(len(rows)) * S, utc=True)
    frame = pd.DataFrame({"timestamp": times, "asset": [asset for asset, _ in rows], "x": 1.0})
    labels = pd.Series([pd.NA if np.isnan(label) else int(label) for _, label in rows], dtype="Int8")
    file = SiteFile("s", frame, ("x",), labels, ())
    stretches = labelled_stretches({"s": file}, until * S)
    assert all(each.labelled and each.to_ns <= until * S for each in stretches)
    seen = seen_by_learning(file, stretches, until * S)
    for at, (asset, label) in enumerate(rows):
        known = [of for a, of in rows[:at] if a == asset and of == of][-1:]
        behind = [of for a, of in rows[at + 1 : until] if a == asset and of == of][:1]
        if at >= until or label == 1:
            assert not seen[at]
        elif label == 0 or known != [1] or behind != [1]:
            assert seen[at]
    assert incidents(file, np.arange(len(rows)) < until) == len(stretches)


def test_an_incident_labelled_at_every_third_reading_is_left_out_as_one(tmp_path, capsys):
    """Its readings between, without a label, would be learned as ordinary."""
    broken = plant(1)
    broken.loc[201:291, "label"] = 1
    broken["label"] = broken["label"].where(broken.index % 3 == 0)
    data = write_plants(tmp_path / "data", {"east": broken, "west": plant(2)})
    asked = (data, Path(linear_config(tmp_path)), capsys, "--dry-run", "--leave-out-labelled")
    east = backtest(*asked)["sites"]["east"]
    assert (east["left_out_incidents"], east["left_out"], east["incidents"]) == (1, 91, 1)


def test_an_incident_that_settings_leave_out_is_no_more_taken_for_ordinary(tmp_path, capsys):
    data, config = labelled_files(tmp_path), Path(linear_config(tmp_path))
    with config.open("a") as file:
        file.write(stretch(**HOUR))
    east = backtest(data, config, capsys, "--dry-run")["sites"]["east"]
    assert (east["learned_incidents"], east["left_out"]) == (1, 90)


def test_nothing_labelled_to_leave_out_is_told(tmp_path, capsys):
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2).drop(columns="label")})
    asked = backtest_of(data, linear_config(tmp_path))
    assert run([*asked, "--leave-out-labelled", "--dry-run", "--json"]) == 0
    shown = capsys.readouterr()
    assert (
        "no incident is labelled before --train-until, so --leave-out-labelled leaves nothing out"
        in shown.err
    )
    assert json.loads(shown.out)["sites"]["west"]["left_out_incidents"] is None
