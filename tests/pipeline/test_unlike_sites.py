"""Sites that are not alike: groups with a model each, and a model for each site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.shards import ShardPaths, write_shard
from pipeline.errors import ConfigError
from pipeline.federation.clusters import train_clusters, update_clusters
from pipeline.federation.personal import HEAD, Personal, personalise
from pipeline.federation.settings import TrainingResult, TrainingSettings
from pipeline.federation.training import train
from tests.pipeline.test_training import SENSORS, SPEC, STEPS

SETTINGS = TrainingSettings(rounds=6, client_learning_rate=1e-2, patience=6)


def two_kinds(folder: Path) -> dict[str, ShardPaths]:
    """Two sites whose sensors move together and two whose sensors move against each other."""
    shards = {}
    for index, site in enumerate(("a1", "a2", "b1", "b2")):
        random = np.random.default_rng(index)
        sign = np.array([1.0, 1.0, 1.0]) if site.startswith("a") else np.array([1.0, -1.0, 1.0])
        wave = np.sin(np.arange(150)[:, None] / 3 + index) * sign + 0.05 * random.normal(size=(150, SENSORS))
        train_path, validation_path = folder / f"{site}.t", folder / f"{site}.v"
        write_shard(train_path, [wave[:110].astype(np.float32)])
        write_shard(validation_path, [wave[110:].astype(np.float32)])
        shards[site] = ShardPaths(str(train_path), str(validation_path), 103, 33)
    return shards


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, ShardPaths], TrainingResult]:
    folder = tmp_path_factory.mktemp("kinds")
    shards = two_kinds(folder)
    return shards, train(shards, SPEC, SETTINGS, steps=STEPS, sensors=SENSORS, workdir=folder / "w")


def test_updates_that_point_the_same_way_are_one_group() -> None:
    updates = {
        "a": np.array([1.0, 0.1]),
        "b": np.array([9.0, 0.0]),
        "c": np.array([-0.1, 2.0]),
        "d": np.zeros(2),
    }
    assert update_clusters(updates, 1) == (("a", "b", "c", "d"),)
    assert update_clusters({k: updates[k] for k in "abc"}, 2) == (("a", "b"), ("c",))
    assert update_clusters(updates, 4) == (("a",), ("b",), ("c",), ("d",))
    with pytest.raises(ConfigError, match="expected 1 to 4"):
        update_clusters(updates, 5)


def test_two_kinds_of_sites_are_told_apart_and_learn_better_apart(
    common: tuple[dict[str, ShardPaths], TrainingResult], tmp_path: Path
) -> None:
    shards, together = common
    found = train_clusters(
        shards, together, SPEC, SETTINGS, 2, steps=STEPS, sensors=SENSORS, workdir=tmp_path
    )
    assert set(found) == {("a1", "a2"), ("b1", "b2")}
    for group, result in found.items():
        last = result.curve[result.best_round - 1].sites
        for site in group:
            assert last[site] < together.curve[together.best_round - 1].sites[site]


@pytest.mark.parametrize("kind", ["fine_tune", "head", "ditto"])
def test_a_site_keeps_its_own_model_only_where_it_is_better(
    common: tuple[dict[str, ShardPaths], TrainingResult], kind: str
) -> None:
    shards, together = common
    personal = Personal(kind, epochs=3, strength=0.05)  # type: ignore[arg-type]
    found = personalise(shards, together.weights, SPEC, SETTINGS, personal, steps=STEPS, sensors=SENSORS)
    assert any(each.improved for each in found.values())
    for site, each in found.items():
        assert each.before == pytest.approx(together.curve[together.best_round - 1].sites[site], rel=1e-6)
        assert each.after is not None and each.before is not None and each.after <= each.before
        same = [np.array_equal(a, b) for a, b in zip(each.weights, together.weights, strict=True)]
        if not each.improved:
            assert all(same)
        elif kind == "head":
            assert all(same[:-HEAD]) and not any(same[-HEAD:])
        else:
            assert not any(same)
