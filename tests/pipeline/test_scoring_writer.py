"""Score files appear whole, keep sensor values only around alerts, and can be continued by a later call."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artefacts import Unwritable
from pipeline.scoring.writer import ScoreWriter

SENSORS = ("a", "b")


def write(run, first, count, flagged=(), parts=1, seen=None, **options):
    """Write a machine's steps in parts; `seen(steps so far)` looks at the files after each part was published."""
    time = (np.arange(first, first + count)).astype(np.int64) * 60 * 10**9
    score = np.where(np.isin(np.arange(first, first + count), flagged), 9.0, 0.5)
    values = np.column_stack([np.arange(first, first + count), np.full(count, np.nan)])
    with ScoreWriter(run, "s", SENSORS, **options) as writer:
        for part in np.array_split(np.arange(count), parts):
            writer.write(
                "m",
                time[part],
                score[part],
                np.full(len(part), 2.0),
                np.tile([1.0, 3.0], (len(part), 1)),
                values[part],
            )
            if seen is not None:
                writer.publish()
                seen(part[-1] + 1)


def minutes(path):
    return (pq.read_table(path)["event_time"].cast("int64").to_numpy() // (60 * 10**9)).tolist()


def test_only_flagged_steps_name_sensors(tmp_path):
    write(tmp_path, 0, 10, flagged=[4])
    rows = pq.read_table(tmp_path / "scores" / "s.parquet").to_pylist()
    assert rows[4]["top_sensors"] == ["b", "a"]
    assert rows[4]["top_contributions"] == [3.0, 1.0]
    assert [r["is_anomaly"] for r in rows] == [i == 4 for i in range(10)]
    assert rows[3]["top_sensors"] is None
    assert rows[3]["label"] is None


@settings(max_examples=60)
@given(st.sets(st.integers(0, 59), max_size=5), st.integers(1, 25), st.integers(0, 9))
def test_values_are_kept_around_flagged_steps_however_they_come(tmp_path_factory, flagged, parts, context):
    run = tmp_path_factory.mktemp("run")
    write(run, 0, 60, flagged=sorted(flagged), parts=parts, context=context)
    near = [i for i in range(60) if any(abs(i - f) <= context for f in flagged)]
    assert minutes(run / "signals" / "s.parquet") == near


def test_what_is_published_in_between_is_seen_at_once_and_the_end_is_the_same(tmp_path):
    looks = []

    def seen(steps):
        assert minutes(tmp_path / "parts" / "scores" / "s.parquet") == list(range(steps))
        looks.append(steps)

    write(tmp_path / "parts", 0, 60, flagged=[19, 40], parts=6, seen=seen, context=5, extend=True)
    write(tmp_path / "whole", 0, 60, flagged=[19, 40], context=5)
    assert looks == [10, 20, 30, 40, 50, 60]
    for kind in ("scores", "signals"):
        parts, whole = (pq.read_table(tmp_path / name / kind / "s.parquet") for name in ("parts", "whole"))
        assert parts.equals(whole)


def test_a_later_call_continues_the_file_and_replaces_what_it_scored_anew(tmp_path):
    write(tmp_path, 0, 50, extend=True)
    write(tmp_path, 40, 30, extend=True)
    assert minutes(tmp_path / "scores" / "s.parquet") == list(range(70))
    write(tmp_path, 0, 5)
    assert minutes(tmp_path / "scores" / "s.parquet") == list(range(5))


def test_a_call_without_new_steps_leaves_the_file_as_it_is(tmp_path):
    write(tmp_path, 0, 50, extend=True)
    with ScoreWriter(tmp_path, "s", SENSORS, extend=True):
        pass
    assert minutes(tmp_path / "scores" / "s.parquet") == list(range(50))


def test_an_exception_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), ScoreWriter(tmp_path, "s", SENSORS):
        raise RuntimeError
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "scores").write_text("a file")
    with pytest.raises(Unwritable, match="scores") as refused:
        ScoreWriter(tmp_path, "s", SENSORS)
    assert refused.value.exit_code == 6


def test_a_file_that_arrow_cannot_open_is_named_by_its_own_name(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError(
            30, "Failed to open local file '.s.parquet.1.tmp'. Detail: [errno 30] Read-only file system"
        )

    monkeypatch.setattr("pipeline.scoring.writer.pq.ParquetWriter", refuse)
    with pytest.raises(Unwritable, match=r"s\.parquet: cannot be written \(Read-only file system\)"):
        ScoreWriter(tmp_path, "s", SENSORS)
