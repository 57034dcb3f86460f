"""One site of five lies about its update: the training goes on, and with a rule that bounds it, about as well as without it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.liars import LIES, liar, lying
from pipeline.federation.process import ProcessSpec, for_architecture
from pipeline.federation.runtime import InProcess
from pipeline.federation.settings import TrainingSettings
from pipeline.federation.training import train
from tests.pipeline.test_training import SENSORS, SPEC, STEPS, make_shards

HONEST = "abcd"
RULES = {
    "mean": {},
    "clipped": {"clip_updates": "adaptive"},
    "median": {"aggregation": "median"},
    "trimmed": {"aggregation": "trimmed_mean"},
    "krum": {"aggregation": "krum"},
}
NAMED = {
    "scaled by a million": "its update diverged",
    "NaN": "its update is not finite",
}


def losses(folder: Path, lie: str | None, rule: str) -> tuple[list[float], dict[str, str]]:
    """Validation of the honest sites after each round, and who was left out."""
    folder.mkdir(exist_ok=True)
    shards = make_shards(folder, HONEST + "e")
    settings = TrainingSettings(rounds=3, client_optimizer="sgd", client_learning_rate=0.05, **RULES[rule])

    if lie is not None:
        shards["e"] = liar(shards["e"], lie)
    done = train(shards, SPEC, settings, steps=STEPS, sensors=SENSORS, workdir=folder / "w")
    return [float(np.mean([each.sites[site] for site in HONEST])) for each in done.curve], dict(done.excluded)


@pytest.mark.parametrize("rule", RULES)
def test_every_lie_is_named_or_bounded_and_the_training_goes_on(rule, tmp_path):
    with lying():
        truth, nobody = losses(tmp_path / "truth", None, rule)
        told = {lie: losses(tmp_path / str(number), lie, rule) for number, lie in enumerate(LIES)}
    assert nobody == {} and truth[-1] < truth[0]
    for lie, (found, excluded) in told.items():
        assert len(found) == 3 and np.isfinite(found).all()
        assert set(excluded) == ({"e"} if lie in NAMED else set())
        if lie in NAMED:
            assert excluded["e"].startswith(NAMED[lie])
        if (rule, lie) in (("mean", "turned round, tenfold"), ("clipped", "turned round, tenfold")):
            # Not long enough to be told from other data, and one of five in a mean: this is what the rules are for.
            assert found[-1] > found[0]
        else:
            assert found[-1] < found[0] and found[-1] < 1.1 * truth[-1]


def test_an_update_that_arrives_broken_is_refused_although_its_sender_counts_it(tmp_path):
    shards = make_shards(tmp_path, HONEST)
    process = for_architecture(SPEC, ProcessSpec(TrainingSettings(), STEPS, SENSORS))
    runtime = InProcess(process)
    work, where = runtime._form.work, {site: paths.train for site, paths in shards.items()}

    def broken(spec: str, prepared: list) -> list:
        found = work(spec, prepared)
        if "b.train" in spec:
            found[0] = np.full_like(found[0], np.nan)
        return found

    runtime._form.work = broken  # type: ignore[method-assign]
    outcome = runtime.round(runtime.initialize(), where)
    runtime.close()
    assert outcome.failed == {"b": "its update is not finite"}
    assert all(np.isfinite(value).all() for value in outcome.state[: process.weight_leaves])
