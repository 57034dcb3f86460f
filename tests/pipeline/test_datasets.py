from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.sitefile import read_site_dir
from pipeline.datasets.frames import frames, shard_spec
from pipeline.datasets.resample import resample_site
from pipeline.datasets.run import Run, count_frames
from pipeline.datasets.shards import Dataset, alone_shards, build_dataset, write_shard
from pipeline.datasets.snapshot import DatasetSettings, Source, take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.datasets.spacing import Spacings, infer_step_ns
from pipeline.datasets.tables import tables_from_frame
from pipeline.errors import NothingToDo
from tests.measuring import processor_seconds
from tests.pipeline.plants import plant, write_plants

S = 1_000_000_000


def table(seconds: list[float], asset: str = "m", **sensors: list[float | None]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "event_time": pa.array([int(s * S) for s in seconds], pa.timestamp("ns", "UTC")),
        "asset": pa.array([asset] * len(seconds)),
    }
    columns |= {name: pa.array(values, pa.float64()) for name, values in sensors.items()}
    return pa.table(columns)


def test_a_value_is_held_over_a_short_silence_and_never_across_a_long_one() -> None:
    runs = resample_site(
        "s", [table([1, 2, 4, 20, 21], a=[1, 2, 4, 20, 21])], step_ns=S, max_gap_ns=3 * S
    ).runs
    assert [run.start_ns for run in runs] == [1 * S, 20 * S]
    assert runs[0].values[:, 0].tolist() == [1, 2, 2, 4]
    assert runs[1].values[:, 0].tolist() == [20, 21]


def test_the_last_reading_of_a_step_wins_and_a_null_does_not_overwrite() -> None:
    run = resample_site(
        "s", [table([0.2, 0.9, 1.0], a=[1, 2, None], b=[5, None, 7])], step_ns=S, max_gap_ns=S
    ).runs[0]
    assert run.values.tolist() == [[2, 7]]


def test_sensors_that_report_by_exception_are_held_each_by_itself() -> None:
    tables = [table([0, 1, 2], a=[1, None, None]), table([3, 4], b=[9, 9])]
    run = resample_site("s", tables, step_ns=S, max_gap_ns=2 * S).runs
    # Rows in which nothing was said do not keep a run alive.
    assert len(run) == 2 and np.isnan(run[0].values[0, 1]) and run[1].values[:, 1].tolist() == [9, 9]


def test_the_same_runs_come_from_one_table_or_many_and_from_a_site_file() -> None:
    rng = np.random.default_rng(1)
    seconds = np.sort(rng.uniform(0, 300, 500))
    values = rng.normal(size=500)
    whole = table(seconds.tolist(), a=values.tolist())
    frame = pd.DataFrame({"timestamp": pd.to_datetime(seconds * S, utc=True), "asset": "m", "a": values})
    results = [
        resample_site("s", tables, step_ns=S, max_gap_ns=4 * S).runs
        for tables in (
            [whole],
            [whole.slice(i, 37) for i in range(0, 500, 37)],
            list(tables_from_frame(frame, ["a"], "s", rows=50)),
        )
    ]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert one.start_ns == two.start_ns
            np.testing.assert_array_equal(one.values, two.values)


def test_the_step_is_the_median_spacing_whatever_the_jitter_and_the_losses() -> None:
    rng = np.random.default_rng(2)
    seconds = np.arange(1000) * 60 + rng.normal(0, 0.1, 1000)
    kept = np.delete(seconds, rng.choice(1000, 100, replace=False))
    assert infer_step_ns([table(kept.tolist(), a=[0.0] * 900)]) == pytest.approx(60 * S, rel=0.002)
    assert infer_step_ns([table([5, 5], a=[1, 2])]) is None


def test_sensors_that_report_one_after_the_other_give_their_own_period() -> None:
    names, at, values = ("a", "b", "c", "d"), [], {name: [] for name in ("a", "b", "c", "d")}
    for minute in range(200):
        for i, name in enumerate(names):
            at.append(minute * 60 + 7 * i)
            for each in names:
                values[each].append(1.0 if each == name else None)
    assert infer_step_ns([table(at, **values)]) == 60 * S
    assert infer_step_ns([table(at, **values).slice(i, 100) for i in range(0, 800, 100)]) == 60 * S


def test_a_sensor_that_reports_more_often_counts_more_and_one_without_values_not_at_all() -> None:
    seconds = np.arange(3600)
    slow = [1.0 if second % 60 == 0 else None for second in seconds]
    nothing = [np.nan if second % 2 else None for second in seconds]
    assert infer_step_ns([table(seconds.tolist(), fast=[0.0] * 3600, slow=slow, dead=nothing)]) == S


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=30), min_size=1, max_size=4))
def test_the_step_is_the_median_over_every_sensors_spacings(times: list[list[int]]) -> None:
    every = sorted({second for sensor in times for second in sensor})
    columns = {
        f"s{i}": [1.0 if second in sensor else None for second in every] for i, sensor in enumerate(times)
    }
    spacings = [gap for sensor in times for gap in np.diff(sorted(set(sensor)))]
    expected = int(float(f"{np.median(spacings) * S:.3g}")) if spacings else None
    assert infer_step_ns([table(every, **columns)]) == expected


def test_the_usual_spacing_of_a_sensor_is_its_pause_and_neither_its_bursts_nor_an_outage() -> None:
    minutes = np.arange(2000)
    columns: dict[str, list[float | None]] = {
        "regular": [1.0] * 2000,
        "changes_only": [1.0 if minute % 120 < 20 else None for minute in minutes],
        "once": [1.0 if minute == 3 else None for minute in minutes],
        "outage": [None if 500 <= minute < 1400 else 1.0 for minute in minutes],
        "every_ten": [1.0 if minute % 10 == 0 else None for minute in minutes],
        "never": [None] * 2000,
    }
    spacings = Spacings()
    spacings.add(table((minutes * 60).tolist(), **columns))
    found = {name: ns / (60 * S) for name, ns in spacings.usual_ns(5 * 60 * S).items()}
    assert found == {"regular": 1, "changes_only": 101, "once": 1996, "outage": 1, "every_ten": 10}


def test_time_in_which_the_whole_machine_is_off_is_nobodys_spacing() -> None:
    minutes = np.array([day * 1440 + minute for day in range(10) for minute in range(480)])
    slow: list[float | None] = [1.0 if minute % 30 == 0 else None for minute in minutes]
    spacings = Spacings()
    spacings.add(table((minutes * 60).tolist(), fast=[1.0] * len(minutes), slow=slow))
    assert spacings.usual_ns(5 * 60 * S) == {"fast": 60 * S, "slow": 30 * 60 * S}


def test_the_value_of_a_slow_sensor_counts_for_five_of_its_own_spacings_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    rows = 3000
    lab = np.full(rows, np.nan)
    lab[::10] = np.arange(rows // 10)
    lab[2000:2100] = np.nan
    times = pd.date_range("2026-01-01", periods=rows, freq="60s", tz="UTC")
    noise = np.random.default_rng(0).normal(size=rows)
    pd.DataFrame({"timestamp": times, "fast": noise, "lab": lab}).to_csv(tmp_path / "s.csv", index=False)
    readings = FileReadings(read_site_dir(tmp_path))

    def known(**asked: int) -> Any:
        settings = DatasetSettings(64, counters="keep", **asked)
        dataset = build_dataset(
            tmp_path / "out", take_snapshot(readings.sources(), settings), readings.tables
        )
        runs = resample_site(
            "s",
            readings.tables("s"),
            step_ns=dataset.step_ns,
            max_gap_ns=dataset.max_gap_ns,
            hold_ns=dataset.hold_ns,
            sensors=dataset.sensors,
        ).runs
        assert len(runs) == 1 and dataset.sensors == ("fast", "lab")
        return runs[0].values[:, 1], dataset.hold_ns

    values, hold = known()
    assert hold == (5 * 60 * S, 50 * 60 * S)
    # The last reading before its outage, at 1990, counts until 2040; the next comes at 2100.
    assert np.isnan(values).nonzero()[0].tolist() == list(range(2041, 2100))
    np.testing.assert_array_equal(values[1990:2041], 199.0)
    values, hold = known(hold_ns=2 * 60 * S)
    assert hold == (5 * 60 * S,) * 2
    assert np.isnan(values[:20]).nonzero()[0].tolist() == [6, 7, 8, 9, 16, 17, 18, 19]


def test_the_value_of_a_slow_sensor_counts_into_the_next_run() -> None:
    off = table(
        [0, 1, 2, 3, 60, 61, 62], fast=[1, 1, 1, 1, 2, 2, 2], slow=[7, None, None, None, None, 8, None]
    )
    first, second = resample_site("s", [off], step_ns=S, max_gap_ns=5 * S, hold_ns=(5 * S, 100 * S)).runs
    assert first.values[:, 1].tolist() == [7, 7, 7, 7] and second.values[:, 1].tolist() == [7, 8, 8]
    short = resample_site("s", [off], step_ns=S, max_gap_ns=5 * S, hold_ns=(5 * S, 30 * S)).runs[1]
    assert np.isnan(short.values[0, 1]) and short.values[1:, 1].tolist() == [8, 8]


@given(st.integers(-3, 3), st.integers(1, 5), st.integers(0, 6), st.integers(-20, 40))
def test_what_lies_before_an_instant_are_the_rows_with_an_earlier_time(
    start: int, step: int, rows: int, instant: int
) -> None:
    run = Run("s", "m", start * step, step, np.arange(float(rows))[:, None])
    times = [start * step + i * step for i in range(rows)]
    assert run.times_ns.tolist() == times and run.end_ns == (times[-1] if times else start * step - step)
    earlier = [i for i, time in enumerate(times) if time < instant]
    assert run.steps_before(instant) == len(earlier) and run.before(instant)[:, 0].tolist() == earlier


def test_frames_never_cross_runs_and_a_seed_fixes_their_order(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    runs = [np.full((7, 1), 1.0), np.full((3, 1), 2.0), np.full((20, 1), 3.0)]
    write_shard(path, [run.astype(np.float32) + np.arange(len(run))[:, None] / 100 for run in runs])

    def cut(spec: str, **options: Any) -> np.ndarray:
        return np.concatenate(list(frames(spec, sensors=1, steps=5, batch=4, **options).as_numpy_iterator()))

    plain = cut(str(path))
    assert len(plain) == count_frames([7, 3, 20], steps=5) == 19
    assert all(len(np.unique(np.floor(frame))) == 1 for frame in plain)
    one, two = (shard_spec(str(path), seed=3, round_number=n) for n in (1, 2))
    np.testing.assert_array_equal(cut(one), cut(one))
    assert not np.array_equal(cut(one), cut(two))
    np.testing.assert_array_equal(np.sort(cut(one)[:, 0, 0]), np.sort(plain[:, 0, 0]))
    twice = cut(one, epochs=2)
    assert len(twice) == 38 and not np.array_equal(twice[:19], twice[19:])
    assert len(cut(one, limit=2)) == 8
    assert cut(str(path), stride=4)[-1, -1, 0] == np.float32(3.19)


def make(root: Path, sites: dict[str, pa.Table], **settings: Any) -> Dataset:
    sources = {site: [Source(f"windows/{site}/w.parquet", data.num_rows)] for site, data in sites.items()}
    snapshot = take_snapshot(sources, DatasetSettings(steps=5, **settings))
    return build_dataset(root, snapshot, lambda site: [sites[site]])


def test_every_site_has_a_named_outcome_and_the_good_ones_train(tmp_path: Path) -> None:
    seconds = list(range(100))
    sites = {
        "good": table(seconds, a=[float(i % 7) for i in seconds], b=[4.0] * 100),
        "other": table(seconds, c=[float(i % 5) for i in seconds]),
        "empty": table([], a=[]),
        "single": table([1], a=[1]),
    }
    dataset = make(tmp_path, sites)
    assert dataset.sensors == ("a", "b", "c") and dataset.step_ns == S
    assert set(dataset.shards) == {"good", "other"}
    assert dataset.outcomes["empty"].excluded == "no data"
    assert "too short" in str(dataset.outcomes["single"].excluded)
    assert dataset.outcomes["good"].constant == ("b",) and dataset.outcomes["good"].silent == ("c",)
    assert (dataset.outcomes["good"].train_rows, dataset.outcomes["good"].validation_rows) == (80, 20)
    assert (dataset.shards["good"].train_frames, dataset.shards["good"].validation_frames) == (76, 16)
    shard = np.concatenate(
        list(frames(dataset.shards["good"].validation, sensors=3, steps=5).as_numpy_iterator())
    )
    assert np.isnan(shard[:, :, 2]).all() and np.isfinite(shard[:, :, :2]).all()


def test_a_complete_snapshot_is_reused_and_a_damaged_one_is_written_again(tmp_path: Path) -> None:
    seconds = list(range(50))
    sites = {"a": table(seconds, x=[float(i % 3) for i in seconds])}
    first = make(tmp_path, sites)
    again = make(tmp_path, sites)
    assert not first.reused and again.reused and again.id == first.id
    shard = Path(first.shards["a"].train)
    content = shard.read_bytes()
    shard.write_bytes(content[:-9])
    repaired = make(tmp_path, sites)
    assert not repaired.reused and shard.read_bytes() == content
    assert make(tmp_path, sites, validation=0.5).id != first.id
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_site_is_scaled_by_all_that_was_learned_from_its_latest_rows_too(tmp_path: Path) -> None:
    values = [float(i) for i in range(100)]
    dataset = make(tmp_path, {"a": table(list(range(100)), x=values)}, validation=0.2)
    assert dataset.outcomes["a"].validation_rows == 20
    assert dataset.own_scaling["a"]["mean"][0] == pytest.approx(49.5)


def test_a_site_that_sends_none_of_the_wanted_sensors_takes_no_part(tmp_path: Path) -> None:
    seconds = list(range(50))
    moving = [float(i % 3) for i in seconds]
    sites = {"a": table(seconds, x=moving, y=moving), "b": table(seconds, y=moving)}
    for settings in ({"exclude": ("y",)}, {"sensors": ("x",)}):
        dataset = make(tmp_path, sites, **settings)
        assert list(dataset.shards) == ["a"] and "too short" in str(dataset.outcomes["b"].excluded)


def test_four_thousand_sensors_cost_in_proportion() -> None:
    def cost(sensors: int) -> float:
        values: dict[str, list[float | None]] = {f"s{number:04d}": [1, 2, 3] for number in range(sensors)}
        tables = [table([0, 1, 2], **values)] * 3

        def resampled() -> None:
            found = resample_site("s", tables, step_ns=S, max_gap_ns=5 * S)
            assert len(found.sensors) == sensors and [len(run.values) for run in found.runs] == [3]

        return processor_seconds(resampled)

    # Four times as many for four times as much; with the square of them it would be sixteen.
    assert cost(4000) < 10 * cost(1000)


def test_no_reading_at_all_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo, match="no site has readings"):
        make(tmp_path, {"a": table([])})


def test_a_young_site_is_scaled_beside_the_others_and_can_be_told_what_it_would_be_alone(
    tmp_path: Path,
) -> None:
    seconds = list(range(1200))
    random = np.random.default_rng(1)

    def resting(rows: int) -> list[float]:
        """Another level every hundred steps, so that sixty say little."""
        levels = np.repeat(random.normal(3.0, 2.0, -(-rows // 100)), 100)[:rows]
        return list(levels + random.normal(0.0, 0.05, rows))

    sites = {name: table(seconds, a=resting(1200)) for name in ("east", "north", "west")}
    sites["young"] = table(seconds[:60], a=resting(60))
    shared, alone = make(tmp_path / "1", sites), make(tmp_path / "2", sites, share_scale=False)
    assert shared.id != alone.id and alone.scaling == alone.own_scaling == shared.own_scaling
    assert shared.scaling["young"]["scale"][0] > 5 * alone.scaling["young"]["scale"][0]

    def rows(paths: Any) -> np.ndarray:
        return np.concatenate(list(frames(paths.validation, sensors=1, steps=5).as_numpy_iterator()))

    again = alone_shards(shared, "young", tmp_path / "alone")
    np.testing.assert_allclose(rows(again), rows(alone.shards["young"]), atol=1e-4)
    assert (
        alone_shards(alone, "young", tmp_path / "none") == alone.shards["young"]
        and not (tmp_path / "none").exists()
    )


def test_files_that_differ_by_machine_alone_are_other_sources(tmp_path):
    one, two = (tmp_path / name for name in ("one", "two"))
    frame = plant(1, 40).drop(columns="label")
    write_plants(one, {"east": frame.assign(asset="press")})
    write_plants(two, {"east": frame.assign(asset=["press", "saw"] * 20)})
    first, second, again = (FileReadings(read_site_dir(each)).sources() for each in (one, two, one))
    assert first == again and first != second
