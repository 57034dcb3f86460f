"""A job that repeats for years does not fill the disk, and loses no result."""

import json
import os

from pipeline.jobs.tidying import drop_old_work


def made(data_dir, number, finished=True, snapshot=None):
    """A run of day `number` with its working files, as old as the day."""
    at = 1_767_225_600 + number * 86_400
    run, snapshot = f"run{number}", snapshot or f"snapshot{number}"
    for folder in (data_dir / "datasets" / snapshot, data_dir / "training" / run, data_dir / "runs" / run):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "content").write_text("x")
        os.utime(folder, (at - 60, at - 60))
    if finished:
        summary = {"run_id": run, "snapshot": snapshot, "finished": f"2026-01-{number + 1:02d}T00:00:00Z"}
        (data_dir / "runs" / run / "summary.json").write_text(json.dumps(summary))


def names(folder):
    return sorted(path.name for path in folder.glob("*"))


def test_only_the_newest_runs_keep_their_working_files_and_every_result_stays(tmp_path):
    made(tmp_path, 1, finished=False)
    for number in (2, 3, 4, 5):
        made(tmp_path, number)
    made(tmp_path, 6, finished=False)
    removed = drop_old_work(tmp_path, 2)
    assert names(tmp_path / "datasets") == ["snapshot4", "snapshot5", "snapshot6"]
    assert names(tmp_path / "training") == ["run4", "run5", "run6"]
    assert names(tmp_path / "runs") == [f"run{number}" for number in range(1, 7)]
    assert len(removed) == 6
    assert drop_old_work(tmp_path, 2) == []


def test_a_data_set_that_a_newer_run_shares_stays_and_a_damaged_run_is_passed_over(tmp_path):
    made(tmp_path, 1, snapshot="shared")
    made(tmp_path, 2)
    made(tmp_path, 3, snapshot="shared")
    (tmp_path / "runs" / "run2" / "summary.json").write_text("{")
    drop_old_work(tmp_path, 1)
    assert names(tmp_path / "datasets") == ["shared"]
    assert names(tmp_path / "training") == ["run3"]


def test_nothing_goes_before_so_many_runs_have_finished_and_nothing_is_missed(tmp_path):
    assert drop_old_work(tmp_path, 1) == []
    made(tmp_path, 1, finished=False)
    made(tmp_path, 2)
    assert drop_old_work(tmp_path, 2) == []
    assert names(tmp_path / "datasets") == ["snapshot1", "snapshot2"]
