"""Sites that are not alike: groups with a model each, and a model for each site."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ingestion.layout import Layout
from models.detector import Detector
from models.export import export_detector
from models.sources.grouped import GroupedNetwork
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.config.change import changed
from pipeline.datasets.shards import ShardPaths, write_shard
from pipeline.errors import ConfigError
from pipeline.federation.clusters import site_updates, train_clusters, update_clusters
from pipeline.federation.personal import HEAD, Personal, personalise
from pipeline.federation.privacy import gaussian_epsilon
from pipeline.federation.settings import TrainingResult, TrainingSettings
from pipeline.federation.training import train
from pipeline.jobs.backtest import run_backtest
from pipeline.jobs.exports import read_exports
from pipeline.watch import SilentWatch
from tests.pipeline.plants import SETTINGS as PLANT_SETTINGS
from tests.pipeline.plants import backtest_of, plant, write_plants
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
    for count in (0, 5):
        with pytest.raises(ConfigError, match="expected 1 to 4"):
            update_clusters(updates, count)
    assert update_clusters({"a": updates["a"]}, 1) == (("a",),)


@pytest.mark.parametrize("seed", range(20))
def test_how_long_an_update_is_says_nothing_of_its_group(seed: int) -> None:
    random = np.random.default_rng(seed)
    updates = dict(zip("abcdef", random.normal(size=(6, 4)), strict=True))
    longer = {site: 10 ** random.uniform(-3, 3) * update for site, update in updates.items()}
    for count in range(1, 7):
        assert update_clusters(longer, count) == update_clusters(updates, count)


def test_updates_that_point_opposite_ways_are_least_alike() -> None:
    updates = {"a": np.array([1.0, 0.0]), "b": np.array([-1.0, 0.1]), "c": np.array([0.6, 0.8])}
    assert update_clusters(updates, 2) == (("a", "c"), ("b",))
    # At 230, 0 and 100 degrees: none is like another, but two are less unlike.
    degrees = {"a": 230, "b": 0, "c": 100}
    apart = {site: np.array([np.cos(np.radians(at)), np.sin(np.radians(at))]) for site, at in degrees.items()}
    assert update_clusters(apart, 2) == (("a",), ("b", "c"))


def test_a_chain_of_sites_each_like_the_next_is_no_group_by_its_ends() -> None:
    """Average linkage: a site belongs where it is like all, not where it is like one."""
    degrees = {"a": 0, "b": 30, "c": 61, "d": 91, "e": 136}
    updates = {
        site: np.array([np.cos(np.radians(at)), np.sin(np.radians(at))]) for site, at in degrees.items()
    }
    # The nearest neighbour of e is farthest; but c and d are less like a and b than like e.
    assert update_clusters(updates, 2) == (("a", "b"), ("c", "d", "e"))
    # Here e is less like c and d than those are like a and b on average.
    nearer = {
        site: np.array([np.cos(np.radians(at)), np.sin(np.radians(at))])
        for site, at in zip("abcde", (0, 19, 57, 76, 133), strict=True)
    }
    assert update_clusters(nearer, 2) == (("a", "b", "c", "d"), ("e",))


def test_a_thousand_sites_are_grouped_in_seconds() -> None:
    random = np.random.default_rng(3)
    kinds = random.normal(size=(5, 40))
    updates = {f"p{i:04d}": kinds[i % 5] + 0.1 * random.normal(size=40) for i in range(1000)}
    began = time.process_time()
    groups = update_clusters(updates, 5)
    assert [{int(name[1:]) % 5 for name in group} for group in groups] == [{0}, {1}, {2}, {3}, {4}]
    assert time.process_time() - began < 10


def test_what_sites_are_grouped_by_is_where_each_goes_from_the_common_weights_by_plain_descent(
    common: tuple[dict[str, ShardPaths], TrainingResult], tmp_path: Path
) -> None:
    shards, together = common
    # All frames in one batch, so that their order says nothing.
    settings = replace(SETTINGS, rounds=1, batch=128, local_epochs=3, max_steps=2, clip_updates=1e-6)
    found = site_updates(shards, together.weights, SPEC, settings, steps=STEPS, sensors=SENSORS)
    assert list(found) == list(shards)
    for site in ("a1", "b2"):
        alone = train(
            {site: shards[site]},
            SPEC,
            replace(settings, client_optimizer="sgd"),
            steps=STEPS,
            sensors=SENSORS,
            workdir=tmp_path / site,
            mode="local",
            initial=together.weights,
        )
        moved = [np.ravel(new - old) for new, old in zip(alone.weights, together.weights, strict=True)]
        np.testing.assert_allclose(found[site], np.concatenate(moved), rtol=0, atol=1e-6)
        assert np.abs(found[site]).max() > 1e-4


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


def test_a_group_too_small_for_the_aggregation_is_not_trained_and_no_more_groups_than_sites_are_made(
    common: tuple[dict[str, ShardPaths], TrainingResult], tmp_path: Path
) -> None:
    shards, together = common
    robust = replace(SETTINGS, rounds=1, aggregation="median")
    assert not train_clusters(
        shards, together, SPEC, robust, 2, steps=STEPS, sensors=SENSORS, workdir=tmp_path
    )
    one = replace(SETTINGS, rounds=1)
    found = train_clusters(shards, together, SPEC, one, 9, steps=STEPS, sensors=SENSORS, workdir=tmp_path)
    assert set(found) == {(site,) for site in shards}


def test_a_group_goes_on_from_the_common_model_without_sites_that_were_left_out(
    common: tuple[dict[str, ShardPaths], TrainingResult], tmp_path: Path
) -> None:
    shards, together = common
    left, one = replace(together, sites=("a1", "a2", "b1")), replace(SETTINGS, rounds=1)
    found = train_clusters(shards, left, SPEC, one, 2, steps=STEPS, sensors=SENSORS, workdir=tmp_path)
    assert set(found) == {("a1", "a2"), ("b1",)}
    again = train(
        {"b1": shards["b1"]},
        SPEC,
        one,
        steps=STEPS,
        sensors=SENSORS,
        workdir=tmp_path / "alone",
        initial=together.weights,
    )
    for grouped, alone in zip(found["b1",].weights, again.weights, strict=True):
        np.testing.assert_array_equal(grouped, alone)
    # Each keeps its own checkpoints, so that both go on after an interruption.
    assert all(len(list((tmp_path / f"cluster-{number}").glob("*.ckpt"))) == 1 for number in (0, 1))


def test_more_groups_than_sites_are_refused_before_anything_is_trained_and_small_groups_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_plants(tmp_path / "data", {name: plant(seed, 700) for seed, name in enumerate("abc", 1)})
    config = tmp_path / "fedplant.toml"
    text = PLANT_SETTINGS.replace("rounds = 3", 'rounds = 1\ncompare = false\naggregation = "median"')
    config.write_text(text + "clusters = 4\n" + '[detector]\nsources = ["network"]\n')
    asked = [*backtest_of(data, config), "--mode", "federated", "--json", "--work-dir", str(tmp_path / "w")]
    assert run(asked) == 2
    refusal = "training.clusters = 4: expected 1 to 3, the number of sites that can train"
    assert refusal in capsys.readouterr().err and not list((tmp_path / "w").glob("training/*/federated/*"))
    config.write_text(text + "clusters = 2\n" + '[detector]\nsources = ["network"]\n')
    assert run(asked) == 0
    found = json.loads(capsys.readouterr().out)
    note = (
        "a, b, c: its group has fewer sites than training.aggregation needs, so it keeps the common network"
    )
    assert note in found["notes"] and not found["manifest"]["own_models"]


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


def test_a_site_makes_the_model_its_own_at_the_full_rate_whatever_the_schedule_of_the_rounds(
    common: tuple[dict[str, ShardPaths], TrainingResult],
) -> None:
    shards, together = common
    one, personal = {"a1": shards["a1"]}, Personal("fine_tune", epochs=1)
    warmed = replace(SETTINGS, warmup_rounds=5, schedule="cosine")
    plain, found = (
        personalise(one, together.weights, SPEC, each, personal, steps=STEPS, sensors=SENSORS)["a1"]
        for each in (SETTINGS, warmed)
    )
    assert plain.improved
    for expected, weights in zip(plain.weights, found.weights, strict=True):
        np.testing.assert_array_equal(weights, expected)


def test_a_site_whose_own_model_is_worse_on_its_later_rows_keeps_the_common_one(
    common: tuple[dict[str, ShardPaths], TrainingResult],
) -> None:
    shards, together = common
    # What it is validated on moves as the other kind of sites does.
    changed = {"a1": replace(shards["a1"], validation=shards["b1"].validation)}
    personal = Personal(epochs=5)
    found = personalise(changed, together.weights, SPEC, SETTINGS, personal, steps=STEPS, sensors=SENSORS)
    kept = found["a1"]
    assert not kept.improved and kept.after == kept.before is not None
    for own, theirs in zip(kept.weights, together.weights, strict=True):
        np.testing.assert_array_equal(own, theirs)


def own_weights(
    common: tuple[dict[str, ShardPaths], TrainingResult], personal: Personal, **changes: object
) -> np.ndarray:
    """What site a1 makes of the common model, as one vector."""
    shards, together = common
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    one = {"a1": shards["a1"]}
    found = personalise(one, together.weights, SPEC, settings, personal, steps=STEPS, sensors=SENSORS)["a1"]
    assert found.improved
    return np.concatenate([np.ravel(weight) for weight in found.weights])


def test_a_site_makes_the_model_its_own_in_as_many_passes_as_are_asked_for_whatever_bounds_its_rounds(
    common: tuple[dict[str, ShardPaths], TrainingResult],
) -> None:
    three = own_weights(common, Personal(epochs=3))
    for bounds in ({"max_steps": 1, "clip_updates": 1e-3}, {"local_steps": 1}):
        np.testing.assert_array_equal(own_weights(common, Personal(epochs=3), **bounds), three)
    assert not np.array_equal(own_weights(common, Personal(epochs=1)), three)


def test_ditto_holds_a_site_near_the_common_weights_by_its_strength(
    common: tuple[dict[str, ShardPaths], TrainingResult],
) -> None:
    together = np.concatenate([np.ravel(weight) for weight in common[1].weights])
    free = own_weights(common, Personal("fine_tune"))
    loose, tight = (own_weights(common, Personal("ditto", strength=strength)) for strength in (0.0, 3.0))
    np.testing.assert_allclose(loose, free, atol=1e-6)
    assert np.linalg.norm(tight - together) < 0.8 * np.linalg.norm(free - together)


def test_a_site_that_cannot_tell_whether_its_own_model_is_better_keeps_the_common_one(
    common: tuple[dict[str, ShardPaths], TrainingResult],
) -> None:
    shards, together = common
    silent = replace(shards["a1"], validation_frames=0)
    lost = replace(shards["a2"], validation=shards["a2"].validation + "-lost")
    found = personalise(
        {"a1": silent, "a2": lost, "b1": replace(shards["b1"], train=shards["b1"].train + "-lost")},
        together.weights,
        SPEC,
        SETTINGS,
        Personal(),
        steps=STEPS,
        sensors=SENSORS,
    )
    for site, each in found.items():
        assert not each.improved and (each.before is None) == (site != "b1"), site
        for own, theirs in zip(each.weights, together.weights, strict=True):
            np.testing.assert_array_equal(own, theirs)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"strength": -0.1}])
def test_what_makes_no_model_a_sites_own_is_refused(wrong: dict[str, float]) -> None:
    assert Personal(epochs=1, strength=0.0).kind == "fine_tune"
    with pytest.raises(ConfigError, match="expected at least 1 and 0"):
        Personal(**wrong)  # type: ignore[arg-type]


WAYS = {
    "fine_tune": 'personalise = "fine_tune"\npersonal_epochs = 4\nclient_learning_rate = 0.01',
    "head": 'personalise = "head"\npersonal_epochs = 4\nclient_learning_rate = 0.01',
    "clusters": "clusters = 2\nclient_learning_rate = 0.01",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_detector_holds_each_sites_own_network_and_serves_it_exported(way: str, tmp_path: Path) -> None:
    config = tmp_path / "fedplant.toml"
    sites = {name: plant(seed, 700, False) for seed, name in enumerate(("a", "b", "c"), 1)}
    # Two that follow their load, one that runs against it.
    sites["c"]["power"] = -sites["c"]["power"] + 20 * np.sin(np.arange(700) / 3)
    text = "".join(f'[[sites]]\nname = "{name}"\n' for name in sites)
    # One layer: each network is traced and exported many times.
    settings = PLANT_SETTINGS.replace(
        "[training]", f"dilations = [1]\n[training]\ncompare = false\n{WAYS[way]}"
    )
    config.write_text(text + settings + '[detector]\nsources = ["network"]\n')
    exports = read_exports(
        write_plants(tmp_path / "data", sites),
        datetime(2026, 3, 1, 10, tzinfo=timezone.utc),
        Layout(),
        load_config(config),
        ["federated"],
        SilentWatch(),
    )
    found = run_backtest(exports, work_dir=tmp_path / "w", report=None, watch=SilentWatch())
    own = found.manifest["own_models"]
    assert own and set(own) <= set(sites)
    made = next((tmp_path / "w" / "runs").iterdir())
    assert json.loads((made / "manifest.json").read_text())["own_models"] == own
    detector = Detector.load(made / "detectors" / "federated" / "all")
    (network,) = detector.sources
    assert isinstance(network, GroupedNetwork)
    kinds = dict(zip(detector.sites, network.group.tolist(), strict=False))
    assert network.group[-1] == 0 and {site for site, kind in kinds.items() if kind} <= set(own)
    if way == "clusters":
        assert set(own) == set(sites) and len(set(kinds.values())) == 2
    if way == "head":
        first, other = network.networks[0].weights, network.networks[1].weights
        same = [np.array_equal(one, two) for one, two in zip(first, other, strict=True)]
        assert all(same[:-HEAD]) and not any(same[-HEAD:])
    values = sites["c"].drop(columns=["timestamp", "label"])[list(detector.sensors)].to_numpy()[-80:]
    model = tf.saved_model.load(str(export_detector(detector, tmp_path / "fleet")))
    machines = (*sites, "unheard")
    served = model.signatures["serving_default"](
        site=tf.constant(machines), window=tf.constant(np.repeat(values[None], len(machines), 0), tf.float32)
    )
    common = replace(detector, sources=(replace(network, group=np.zeros_like(network.group)),))
    for site, score in zip(machines, served["score"].numpy(), strict=True):
        assert score == pytest.approx(detector.score(site, values).score[-1], rel=1e-4)
        by_common = common.score(site, values).score[-1]
        assert (score == pytest.approx(by_common, rel=1e-4)) == (kinds.get(site, 0) == 0)


def test_noise_on_statistics_is_configured_and_its_budget_lies_in_the_manifest(tmp_path: Path) -> None:
    config = tmp_path / "fedplant.toml"
    config.write_text(
        '[[sites]]\nname = "a"\n'
        + PLANT_SETTINGS.replace("[dataset]", "[dataset]\nshare_scale = false").replace(
            "[training]", "[training]\nstatistics_noise = 2.0\nstatistics_norm = 6.0"
        )
        + '[detector]\nsources = ["ridge", "pca"]\n'
    )
    data = write_plants(
        tmp_path / "data", {name: plant(seed) for seed, name in enumerate(("a", "b", "c"), 1)}
    )
    until = datetime(2026, 3, 1, 10, tzinfo=timezone.utc)
    exports = read_exports(data, until, Layout(), load_config(config), ["federated"], SilentWatch())
    found = run_backtest(exports, work_dir=tmp_path / "w", report=None, watch=SilentWatch())
    budget = found.manifest["privacy"]["statistics"]
    assert budget["unit"] == "row" and budget["noise_multiplier"] == 2.0
    # 600 rows but for the validation's frames; four rows hold a reading, each of norm at most 6.
    assert budget["sensitivity"] == pytest.approx(2 * 4 * 36 / 594, rel=0.02)
    assert budget["epsilon"] == pytest.approx(gaussian_epsilon(2.0, 1e-5))
    whole = {"statistics_unit": "site", "delta": 1e-3}
    hidden = replace(exports, config=changed(exports.config, {"training": whole}))
    budget = run_backtest(hidden, work_dir=None, report=None, watch=SilentWatch()).manifest["privacy"][
        "statistics"
    ]
    assert (budget["unit"], budget["delta"], budget["sensitivity"]) == ("site", 1e-3, 36.0)
    assert budget["epsilon"] == pytest.approx(gaussian_epsilon(2.0, 1e-3))
    quiet = replace(exports, config=changed(exports.config, {"training": {"statistics_noise": None}}))
    exact = run_backtest(quiet, work_dir=None, report=None, watch=SilentWatch())
    assert exact.manifest["privacy"] == {}
    for site in "abc":
        exactly, noisily = (of.evaluation.sites[site]["federated"].threshold for of in (exact, found))
        assert exactly != noisily


@pytest.mark.parametrize(
    ("training", "dataset", "told"),
    [
        (
            'privacy = "gaussian"\nclip_updates = 1.0',
            "",
            ["statistics for linear sources", "sums for the others' scales"],
        ),
        ("statistics_noise = 2.0", "share_scale = false", ["updates of the network"]),
        (
            'privacy = "gaussian"\nclip_updates = 1.0\nstatistics_noise = 2.0',
            "share_scale = false",
            [],
        ),
        ("", "", []),
    ],
    ids=["rounds", "statistics", "both", "none"],
)
def test_what_is_shared_without_the_noise_that_is_asked_for_is_told(
    training: str, dataset: str, told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "fedplant.toml"
    text = PLANT_SETTINGS.replace("[dataset]", f"[dataset]\n{dataset}").replace("rounds = 3", "rounds = 1")
    config.write_text(f'{text}{training}\n[detector]\nsources = ["ridge", "network"]\n')
    data = write_plants(tmp_path / "data", {"a": plant(1), "b": plant(2)})
    assert run([*backtest_of(data, config), "--mode", "federated", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    named = [note for note in notes if "privacy budget does not cover the detector" in note]
    assert [note.split("shares ")[1].split(" without")[0] for note in named] == told
    assert all(note.startswith("a, b: ") for note in named)
