"""A stretch of a training that somebody looked at and found ordinary stays in learning, and is counted but not named again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artefacts import read_evaluation, read_summary
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.datasets.leaveout import Period
from pipeline.evaluation.candidate import Candidate, candidate_remarks, instant
from pipeline.evaluation.lookedat import parted
from pipeline.jobs.settings import dataset_settings
from tests.pipeline.plants import linear_config
from tests.pipeline.test_leave_out import stretch
from tests.pipeline.test_standing_out import backtest, faulty_plants

US = 1000
SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 15)), max_size=6)
NAMES = st.sampled_from(["*", "east", "w*", "m", "n"])


def candidate(begin, length, asset="m"):
    return Candidate(asset, instant(begin * US), instant((begin + length) * US), 3.0)


@given(SPANS, st.lists(st.tuples(st.integers(0, 30), st.integers(1, 15), NAMES, NAMES), max_size=6))
def test_what_lies_in_entries_of_its_machine_for_at_least_half_of_its_time_is_not_named_and_nothing_is_lost(
    spans, entries
):
    found = {site: [candidate(*span) for span in spans] for site in ("east", "west")}
    periods = [Period(a * US, (a + n) * US, (site,), (asset,)) for a, n, site, asset in entries]
    named, before = parted(found, periods)
    for site, candidates in found.items():
        ours = [
            (a, a + n)
            for a, n, of, asset in entries
            if of in ("*", {"east": "east", "west": "w*"}[site]) and asset in ("*", "m")
        ]
        seen = [
            2 * sum(any(a <= at < b for a, b in ours) for at in range(begin, begin + length)) >= length
            for begin, length in spans
        ]
        for part, which in ((before, True), (named, False)):
            expected = [each for each, is_seen in zip(candidates, seen, strict=True) if is_seen is which]
            assert list(part.get(site, ())) == expected
    assert all(named.values()) and all(before.values())


def test_a_site_says_in_a_word_how_many_were_looked_at_before_and_where_nothing_else_is_one_line_is_all():
    one, two = [candidate(0, 5)], [candidate(0, 5), candidate(9, 5)]
    lines = dict(candidate_remarks({"east": one}, {"east": two, "north": one, "west": two}))
    assert "3.0 times its usual largest score), beside 2 looked at before; look, and" in lines["east"]
    told = "far out of the rest, looked at before (dataset.looked_at)"
    assert lines["north"] == f"a stretch of its training stands {told}"
    assert lines["west"] == f"2 stretches of its training stand {told}"
    assert "before" not in dict(candidate_remarks({"east": one}, {}))["east"]


def test_what_was_looked_at_decides_neither_data_set_nor_run(tmp_path):
    path = tmp_path / "fedplant.toml"
    configs = []
    for text in (
        "",
        stretch("looked_at", **{"from": "2026-03-01", "to": "2026-03-02", "note": '"cold start"'}),
    ):
        path.write_text('[[sites]]\nname = "east"\n' + text)
        configs.append(load_config(path, {}))
    plain, looked = configs
    assert len(looked.dataset.looked_at) == 1
    assert plain.fingerprint_fields() == looked.fingerprint_fields()
    assert dataset_settings(plain) == dataset_settings(looked)


@pytest.fixture
def plants(tmp_path):
    """Two plants, of which one was broken twice while it learned; the files, and a configuration without a network."""
    return faulty_plants(tmp_path), Path(linear_config(tmp_path))


def look_back(page):
    """The page's section on it; the page shows the configuration elsewhere."""
    assert '<a href="#lookback">' in page.read_text()
    return page.read_text().split('id="lookback"')[1].split("</section>")[0]


def test_what_was_looked_at_is_learned_from_as_ever_and_not_named_again_anywhere(plants, tmp_path, capsys):
    data, config = plants
    page = tmp_path / "page.html"
    first = backtest(data, config, capsys, "--report", str(page))
    assert first["looked_at_before"] == {} and "[[dataset.looked_at]]" in look_back(page)
    assert first["looked_at"] == first["leave_out"].replace("leave_out", "looked_at") != ""
    flow, power = first["candidates"]["east"]
    plain = config.read_text()
    config.write_text(plain + first["looked_at"].split("\n\n")[0])
    again = backtest(data, config, capsys, "--report", str(page))
    assert (again["candidates"], again["looked_at_before"]) == ({"east": [power]}, {"east": [flow]})
    assert any(", beside 1 looked at before; look, and leave out" in note for note in again["notes"])
    shown = look_back(page)
    assert flow["from"] not in shown and power["from"] in shown
    assert "1 more was looked at before (east 1; " in shown

    config.write_text(plain + 2 * first["looked_at"])
    last = backtest(data, config, capsys, "--report", str(page))
    assert (last["candidates"], last["looked_at_before"]) == ({}, first["candidates"])
    assert last["leave_out"] == last["looked_at"] == ""
    told = "east: 2 stretches of its training stand far out of the rest, looked at before (dataset.looked_at)"
    assert told in last["notes"] and not any("touches no reading" in note for note in last["notes"])
    shown = look_back(page)
    assert "2 stretches that stand out of it were looked at before (east 2; " in shown
    assert "<table>" not in shown and "<pre>" not in shown
    # The same was learned, to the last figure.
    assert last["sites"] == first["sites"] and "left_out" not in last["manifest"]
    assert last["manifest"]["snapshot"] == first["manifest"]["snapshot"]


def test_what_is_left_out_stays_left_out_where_it_was_looked_at_as_well(plants, capsys):
    data, config = plants
    with config.open("a") as file:
        for table in ("leave_out", "looked_at"):
            file.write(stretch(table, **{"from": "2026-03-01T03:00:00", "to": "2026-03-01T04:00:00"}))
    found = backtest(data, config, capsys)
    assert found["manifest"]["left_out"] == {"east": 60, "west": 60}
    assert [each["sensors"][0] for each in found["candidates"]["east"]] == ["power"]
    assert found["looked_at_before"] == {}
    assert not any("touches no reading" in note for note in found["notes"])


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_an_entry_that_touches_nothing_is_told(plants, capsys, more):
    data, config = plants
    with config.open("a") as file:
        file.write(stretch("looked_at", **{"from": "2025-03-01", "to": "2025-03-02", "sites": '["west"]'}))
        file.write(stretch("looked_at", **{"from": "2026-03-01", "to": "2026-03-02", "assets": '["lathe"]'}))
        file.write(stretch("looked_at", **{"from": "2026-03-01T18:00:00", "to": "2027-03-01"}))
        file.write(stretch("looked_at", **{"from": "2026-03-01T17:59:00", "to": "2027-03-01"}))
    found = backtest(data, config, capsys, *more)
    nothing = "of dataset.looked_at touches no reading that is learned from:"
    told = [note for note in found["remarks" if more else "notes"] if nothing in note]
    check = "check its year, its zone and the names of sites and machines"
    assert told == [
        f"west: the stretch 2025-03-01 00:00:00Z to 2025-03-02 00:00:00Z {nothing} {check}",
        f"east, west: the stretch 2026-03-01 00:00:00Z to 2026-03-02 00:00:00Z {nothing} {check}",
        f"east, west: the stretch 2026-03-01 18:00:00Z to 2027-03-01 00:00:00Z {nothing} it begins where learning has ended (train_until)",
    ]


def test_a_run_that_is_there_is_told_anew_without_training_and_again_once_the_entry_is_gone(
    plants, tmp_path, capsys
):
    data, config = plants
    work, page = tmp_path / "work", tmp_path / "page.html"
    text = config.read_text().replace('name = "any"', 'name = "east"\n[[sites]]\nname = "west"')
    plain = f'[project]\ndata_dir = "{work}"\n' + text
    config.write_text(plain)
    first = backtest(data, config, capsys, "--work-dir", str(work))
    [folder] = (work / "runs").iterdir()
    files = [folder / name for name in ("evaluation.json", "summary.json")]
    as_made = [file.read_bytes() for file in files]

    def report():
        assert run(["report", str(config), "--run", folder.name, "--out", str(page)]) == 0
        capsys.readouterr()
        return read_evaluation(folder), read_summary(folder).warnings, page.read_text()

    evaluation, warnings, _ = report()
    assert [file.read_bytes() for file in files] == as_made
    config.write_text(plain + first["looked_at"])
    looked, told, shown = report()
    assert looked.candidates == {} and looked.looked_at_before == evaluation.candidates
    line = "east: 2 stretches of its training stand far out of the rest, looked at before (dataset.looked_at)"
    assert line in told and line in looked.notes and line in shown
    assert len(told) == len(warnings) and len(looked.notes) == len(evaluation.notes)
    assert not any("look, and leave out" in each for each in (*told, *looked.notes))
    # Killed between the two files: the summary is written first.
    files[0].write_bytes(as_made[0])
    assert report() == (looked, told, shown)
    config.write_text(plain)
    report()
    assert [file.read_bytes() for file in files] == as_made
    files[0].write_text(files[0].read_text().replace(first["candidates"]["east"][0]["from"], "yesterday"))
    assert "yesterday" in report()[2]
