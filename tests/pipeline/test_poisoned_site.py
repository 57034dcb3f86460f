"""One site of five lies about its update: the training goes on, and with a rule that bounds it, about as well as without it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.liars import LIES, liar, lying
from pipeline.datasets.shards import write_shard
from pipeline.federation.compiled import compiled
from pipeline.federation.process import ProcessSpec
from pipeline.federation.settings import TrainingSettings
from pipeline.federation.training import train
from tests.pipeline.test_training import SENSORS, SPEC, STEPS, make_shards

HONEST = "abcd"
SETTINGS = {"client_optimizer": "sgd", "client_learning_rate": 0.05}
RULES = {
    "clipped": {"clip_updates": "adaptive"},
    "trimmed": {"aggregation": "trimmed_mean"},
    "krum": {"aggregation": "krum"},
    "mean": {},
    "median": {"aggregation": "median"},
}
"""Those that later tests take up again come last: the few processes compiled last are kept."""

NAMED = {
    "scaled by a million": "its update diverged",
    "NaN": "its update is not finite",
}


@pytest.fixture(scope="module", autouse=True)
def _lies_are_told() -> Iterator[None]:
    """Once for all tests: what one has compiled, others take up again."""
    with lying():
        yield


def losses(folder: Path, lie: str | None, rule: str) -> tuple[list[float], dict[str, str], dict[str, str]]:
    """Validation of the honest sites after each round, who was left out, and whose update was shortened."""
    folder.mkdir(exist_ok=True)
    shards = make_shards(folder, HONEST + "e")
    settings = TrainingSettings(rounds=3, **SETTINGS, **RULES[rule])

    if lie is not None:
        shards["e"] = liar(shards["e"], lie)
    done = train(shards, SPEC, settings, steps=STEPS, sensors=SENSORS, workdir=folder / "w")
    validation = [float(np.mean([each.sites[site] for site in HONEST])) for each in done.curve]
    return validation, dict(done.excluded), dict(done.shortened)


@pytest.mark.parametrize("rule", RULES)
def test_every_lie_is_named_or_bounded_and_the_training_goes_on(rule, tmp_path):
    truth, nobody, as_it_is = losses(tmp_path / "truth", None, rule)
    told = {lie: losses(tmp_path / str(number), lie, rule) for number, lie in enumerate(LIES)}
    assert nobody == as_it_is == {} and truth[-1] < truth[0]
    for lie, (found, excluded, shortened) in told.items():
        assert len(found) == 3 and np.isfinite(found).all()
        assert set(excluded) == ({"e"} if lie in NAMED else set())
        if lie in NAMED:
            assert excluded["e"].startswith(NAMED[lie])
        outweighs = rule == "mean" and lie == "turned round, tenfold"
        assert set(shortened) == ({"e"} if outweighs else set())
        if outweighs:
            times = float(shortened["e"].removeprefix("its update was up to ").split(" times")[0])
            assert 5 < times < 20 and "in 3 of 3 rounds" in shortened["e"]
        if (rule, lie) == ("clipped", "turned round, tenfold"):
            # Clipping follows the lengths that sites tell, and one of five tells a great one.
            assert found[-1] > found[0]
        else:
            assert found[-1] < found[0] and found[-1] < 1.1 * truth[-1]


def test_a_poisoned_site_does_not_spoil_a_training_with_a_robust_rule(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, "abcd")
    honest, spoiled = tmp_path / "honest", tmp_path / "spoiled"

    def last(folder: Path, **changed: object) -> float:
        chosen = TrainingSettings(rounds=2, **SETTINGS, **changed)
        result = train(shards, SPEC, chosen, steps=STEPS, sensors=SENSORS, workdir=folder)
        found = result.curve[-1].sites
        return float(np.mean([found[site] for site in "abc"]))

    before = last(honest)
    # Noise of ten scales: its gradients point anywhere, but they are not long enough to be seen as diverged.
    random = np.random.default_rng(0).choice([-10.0, 10.0], (90, SENSORS)).astype(np.float32)
    write_shard(Path(shards["d"].train), [random])
    mean, median = last(spoiled / "mean"), last(spoiled / "median", aggregation="median")
    print(f"validation of the honest sites: all honest {before:.4f}, mean {mean:.4f}, median {median:.4f}")
    assert median < mean and median < 1.1 * before


def test_an_update_that_arrives_broken_is_refused_although_its_sender_counts_it(tmp_path, monkeypatch):
    shards = make_shards(tmp_path, HONEST)
    where = {site: paths.train for site, paths in shards.items()}
    with compiled(SPEC, ProcessSpec(TrainingSettings(**SETTINGS), STEPS, SENSORS)) as (runtime, leaves):
        work = runtime._form.work

        def broken(spec: str, prepared: list) -> list:
            found = work(spec, prepared)
            if "b.train" in spec:
                found[0] = np.full_like(found[0], np.nan)
            return found

        monkeypatch.setattr(runtime._form, "work", broken)
        outcome = runtime.round(runtime.initialize(), where)
    assert outcome.failed == {"b": "its update is not finite"}
    assert all(np.isfinite(value).all() for value in outcome.state[:leaves])


@pytest.mark.parametrize(
    "settings", [{}, {"compression_bits": 8}, {"algorithm": "fedprox"}, {"algorithm": "fedyogi"}]
)
def test_an_update_that_outweighs_the_others_is_made_as_long_as_theirs(settings, tmp_path, monkeypatch):
    told: dict[str, np.ndarray] = {}
    shards = make_shards(tmp_path, HONEST)
    where = {site: paths.train for site, paths in shards.items()}
    where["e"] = liar(shards["d"], "turned round, tenfold").train
    spec = ProcessSpec(TrainingSettings(**SETTINGS, **settings), STEPS, SENSORS)
    with compiled(SPEC, spec) as (runtime, _):
        work, place = runtime._form.work, runtime._form.place("squared_norm")

        def heard(spec: str, prepared: list) -> list:
            found = work(spec, prepared)
            told[spec.replace(str(tmp_path), "")] = np.sqrt(found[place])
            return found

        monkeypatch.setattr(runtime._form, "work", heard)
        outcome = runtime.round(runtime.initialize(), where)
    (again,) = [spec for spec in told if "longest" in spec]
    honest = [length for spec, length in told.items() if "lie" not in spec]
    assert len(told) == 6 and outcome.failed == {} and set(outcome.shortened) == {"e"}
    assert told[again] == pytest.approx(sorted(honest)[2], rel=1e-6)
    (first,) = [length for spec, length in told.items() if "lie" in spec and spec != again]
    assert outcome.shortened["e"] == pytest.approx(first / told[again], rel=1e-6) and first > 5 * max(honest)


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_updates": 0.5},
        {"privacy": "gaussian", "clip_updates": 0.5},
        {"aggregation": "median"},
        {"algorithm": "scaffold"},
    ],
)
def test_what_is_bounded_otherwise_or_sends_a_second_message_is_left_as_it_is(settings, tmp_path):
    shards = make_shards(tmp_path, HONEST)
    shards["e"] = liar(shards["d"], "turned round, tenfold")
    chosen = TrainingSettings(rounds=1, **SETTINGS, **settings)
    done = train(shards, SPEC, chosen, steps=STEPS, sensors=SENSORS, workdir=tmp_path / "w")
    assert done.excluded == done.shortened == {}
