import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.architectures import AutoencoderSpec
from pipeline.datasets.shards import ShardPaths, write_shard
from pipeline.errors import TrainingFailed
from pipeline.federation.checkpoints import Checkpoint, CheckpointStore
from pipeline.federation.convergence import Convergence
from pipeline.federation.settings import RoundResult, TrainingResult, TrainingSettings
from pipeline.federation.training import train

STEPS, SENSORS = 8, 3
SPEC = AutoencoderSpec(widths=(8, 3))


def make_shards(folder: Path, sites: str = "abc") -> dict[str, ShardPaths]:
    shards = {}
    for index, site in enumerate(sites):
        rng = np.random.default_rng(index)
        time = np.arange(120)[:, None]
        values = (np.sin(time / 4 + np.arange(SENSORS)) + 0.1 * rng.normal(size=(120, SENSORS))).astype(
            np.float32
        )
        train_path, validation_path = (
            folder / f"{site}.train.tfrecord",
            folder / f"{site}.validation.tfrecord",
        )
        write_shard(train_path, [values[:90]])
        write_shard(validation_path, [values[90:]])
        shards[site] = ShardPaths(str(train_path), str(validation_path), 83, 23)
    return shards


def run(
    shards: dict[str, ShardPaths],
    workdir: Path,
    mode: str = "federated",
    on_round: Callable[[RoundResult], None] | None = None,
    **settings: object,
) -> TrainingResult:
    chosen = TrainingSettings(**{"rounds": 2, "client_learning_rate": 1e-2, **settings})  # type: ignore[arg-type]
    return train(
        shards,
        SPEC,
        chosen,
        steps=STEPS,
        sensors=SENSORS,
        workdir=workdir,
        mode=mode,
        on_round=on_round,
    )


def test_both_runtimes_give_the_same_weights_bit_for_bit_and_the_validation_falls(tmp_path: Path) -> None:
    shards = make_shards(tmp_path)
    plain = run(shards, tmp_path / "p", client_optimizer="sgd")
    native = run(shards, tmp_path / "n", client_optimizer="sgd", runtime="native")
    for one, two in zip(plain.weights, native.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    assert [r.frames for r in plain.curve] == [249, 249]
    for one_round, two_rounds in zip(plain.curve, native.curve, strict=True):
        assert one_round.sites == two_rounds.sites and one_round.loss == two_rounds.loss
    first, last = plain.curve[0].validation, plain.curve[-1].validation
    assert first is not None and last is not None and last < first
    assert last == pytest.approx(np.mean(list(plain.curve[-1].sites.values())), rel=1e-6)


def test_a_site_that_vanishes_or_diverges_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, "abc")
    write_shard(Path(shards["b"].train), [np.full((90, SENSORS), 3e38, np.float32)])
    seen: list[RoundResult] = []

    def lose_a_site(result: RoundResult) -> None:
        seen.append(result)
        Path(shards["c"].train).unlink(missing_ok=True)

    result = run(shards, tmp_path / "w", on_round=lose_a_site)
    assert seen[0].excluded == {"b": "its update is not finite"} and seen[0].frames == 166
    assert set(seen[1].excluded) == {"b", "c"} and "cannot be read" in seen[1].excluded["c"]
    assert result.sites == ("a",) and all(np.isfinite(weight).all() for weight in result.weights)
    Path(shards["a"].train).unlink()
    with pytest.raises(TrainingFailed, match="no site is left"):
        run(shards, tmp_path / "w2")


def test_a_site_without_a_frame_says_nothing_and_is_not_accused(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, "abc")
    write_shard(Path(shards["b"].train), [np.zeros((STEPS - 1, SENSORS), np.float32)])
    result = run(shards, tmp_path / "w")
    assert result.excluded == {} and result.sites == ("a", "b", "c")
    assert [r.frames for r in result.curve] == [166, 166]


def test_a_site_that_cannot_be_validated_is_named_and_does_not_stop_the_others(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, "abc")
    write_shard(Path(shards["b"].validation), [np.full((30, SENSORS), 3e38, np.float32)])
    Path(shards["c"].validation).write_bytes(b"not a shard " * 9)
    result = run(shards, tmp_path / "w", rounds=4, patience=2)
    assert result.excluded["b"] == "its validation loss is not finite"
    assert result.excluded["c"] == "its validation shard cannot be read"
    assert result.sites == ("a",) and len(result.curve) == 4 and result.best_round > 1
    assert all(set(r.sites) == {"a"} and r.validation == pytest.approx(r.sites["a"]) for r in result.curve)
    # With no site left that could be validated it is the model that cannot be, and nobody is blamed.
    write_shard(Path(shards["a"].validation), [np.full((30, SENSORS), 3e38, np.float32)])
    lost = run({"a": shards["a"]}, tmp_path / "w2", rounds=4, patience=2)
    assert not lost.excluded and len(lost.curve) == 2 and lost.best_round == 0


def test_centralised_sees_the_same_frames_as_one_client(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, "ab")
    result = run(shards, tmp_path / "w", mode="centralised", max_steps=2, batch=16)
    assert [r.frames for r in result.curve] == [64, 64]
    assert set(result.curve[0].sites) == {"a", "b"}


def test_training_stops_when_the_validation_no_longer_improves_and_keeps_the_best() -> None:
    rule = Convergence(patience=2, min_improvement=0.01)
    for number, value in enumerate([1.0, 0.8, 0.799, 0.81], start=1):
        assert not rule.stop
        rule = rule.after(number, value)
    assert rule.stop and rule.best_round == 3
    assert Convergence(1, 0.0).after(1, float("nan")).stop
    assert not Convergence(1, 0.0).after(1, None).stop


@pytest.mark.parametrize(
    ("first", "second", "enough"),
    [
        (100.0, 95.0, False),
        (100.0, 85.0, True),
        (1e-3, 9.5e-4, False),
        (1e-3, 8e-4, True),
        (-100.0, -105.0, False),
    ],
)
def test_an_improvement_counts_by_its_share_of_what_it_improves(
    first: float, second: float, enough: bool
) -> None:
    rule = Convergence(patience=1, min_improvement=0.1).after(1, first).after(2, second)
    assert rule.stop != enough and rule.best == second


def test_a_damaged_or_foreign_checkpoint_is_passed_over(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "mine", keep=2)
    for number in (1, 2, 3):
        store.save(Checkpoint(number, [np.float32(number), np.arange(3)], [np.ones(2)], {"n": number}))
    assert len(list(tmp_path.iterdir())) == 2
    newest = tmp_path / "round-000003.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1])
    found = store.latest()
    assert found is not None and found.round == 2 and found.progress == {"n": 2}
    np.testing.assert_array_equal(found.state[1], np.arange(3))
    assert CheckpointStore(tmp_path, "other", keep=2).latest() is None


def test_files_of_later_rounds_that_cannot_be_read_take_no_checkpoints_place(tmp_path: Path) -> None:
    another, damaged = CheckpointStore(tmp_path, "other", keep=2), tmp_path / "round-000012.ckpt"
    for number in (10, 11):
        another.save(Checkpoint(number, [np.ones(2)], [], {}))
    damaged.write_bytes(b"half a round")
    store = CheckpointStore(tmp_path, "mine", keep=2)
    for number in (8, 9, 10):
        store.save(Checkpoint(number, [np.zeros(2)], [], {}))
        found = store.latest()
        assert found is not None and found.round == number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-000009.ckpt", "round-000010.ckpt"]


def test_a_checkpoint_has_its_name_only_when_it_is_on_the_disk_and_then_its_name_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = tmp_path / "new" / "folder", []

    def sync(descriptor: int) -> None:
        status, names = os.fstat(descriptor), sorted(path.name for path in folder.iterdir())
        is_folder = os.path.samestat(status, folder.stat())
        seen.append(("folder" if is_folder else (status.st_ino, status.st_size), names))

    monkeypatch.setattr(os, "fsync", sync)
    store = CheckpointStore(folder, "mine", keep=1)
    store.save(Checkpoint(7, [np.zeros(3)], [], {}))
    written = (folder / "round-000007.ckpt").stat()
    assert seen == [
        ((written.st_ino, written.st_size), ["round-000007.tmp"]),
        ("folder", ["round-000007.ckpt"]),
    ]


def test_a_checkpoint_is_never_unpickled(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "mine", keep=1)
    store.save(Checkpoint(1, [np.array([{}], object)], [], {}))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        store.latest()


def test_no_site_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="no site has frames"):
        run({}, tmp_path)


def test_a_shard_smaller_than_a_batch_with_a_silent_and_a_constant_sensor_still_learns(
    tmp_path: Path,
) -> None:
    shards = make_shards(tmp_path, "a")
    values = np.sin(np.arange(12, dtype=np.float32)[:, None] + np.arange(SENSORS, dtype=np.float32))
    values[:, 1], values[:, 2] = np.nan, 0.0
    write_shard(Path(shards["a"].train), [values])
    write_shard(Path(shards["a"].validation), [values])
    began = time.perf_counter()
    first = run(shards, tmp_path / "w", rounds=5, patience=5)
    between = time.perf_counter()
    again = run(shards, tmp_path / "again", rounds=5, patience=5)
    print(f"compiled {between - began:.2f} s, shared {time.perf_counter() - between:.2f} s")
    assert [r.frames for r in first.curve] == [5] * 5
    assert first.curve[-1].loss < first.curve[0].loss
    assert all(np.isfinite(weight).all() for weight in first.weights)
    assert [r.loss for r in again.curve] == [r.loss for r in first.curve]


def test_noise_is_told_in_the_result_the_curves_file_and_the_report(tmp_path: Path) -> None:
    from pipeline.artefacts import Curves
    from pipeline.federation.privacy import gaussian_epsilon
    from pipeline.learning.curves import curve_of
    from pipeline.report.sections import learning

    shards = make_shards(tmp_path, "abc")
    result = run(
        shards, tmp_path / "w", privacy="gaussian", clip_updates=0.5, noise_multiplier=2.0, sites_per_round=2
    )
    most = max(sum(site in r.took_part for r in result.curve) for site in shards)
    assert all(len(r.took_part) == 2 for r in result.curve)
    assert result.privacy is not None and result.privacy.unit == "site"
    assert result.privacy.epsilon == pytest.approx(gaussian_epsilon(2.0, 1e-5, times=most))
    read = Curves.from_json(Curves({"federated": curve_of(result)}).to_json())
    assert read.modes["federated"].privacy == {**result.privacy.__dict__}
    assert f"epsilon {result.privacy.epsilon:.3g} at delta 1e-05" in learning(read)
    assert (
        run(shards, tmp_path / "l", mode="centralised", privacy="gaussian", clip_updates=0.5).privacy is None
    )


def test_too_few_sites_for_a_robust_rule_are_refused(tmp_path: Path) -> None:
    from pipeline.errors import ConfigError

    with pytest.raises(ConfigError, match="needs at least 5 sites, 3 can train"):
        run(make_shards(tmp_path), tmp_path / "w", aggregation="krum")
