"""What a training keeps from round to round and from process to process, and when it goes on with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.frames import shard_spec
from pipeline.federation.compiled import compiled
from pipeline.federation.convergence import Convergence
from pipeline.federation.process import ProcessSpec
from pipeline.federation.settings import RoundResult, TrainingSettings
from pipeline.federation.training import draw
from tests.pipeline.test_training import SENSORS, SPEC, STEPS, make_shards, run

SCAFFOLD = {
    "algorithm": "scaffold",
    "client_optimizer": "sgd",
    "client_learning_rate": 0.05,
    "local_steps": 3,
    "sites_per_round": 2,
    "rounds": 5,
    "patience": 5,
    "keep_checkpoints": 2,
}


def test_each_site_recalls_what_it_kept_when_it_last_took_part_also_after_rounds_that_were_lost(
    tmp_path: Path,
) -> None:
    shards = make_shards(tmp_path, "abc")
    settings = TrainingSettings(**SCAFFOLD)  # type: ignore[arg-type]
    spec = ProcessSpec(settings, STEPS, SENSORS, population=3)
    last: dict[str, str] = {}
    with compiled(SPEC, spec) as (runtime, leaves):
        state = runtime.initialize()
        for number in range(1, settings.rounds + 1):
            files = {site: str(tmp_path / f"{site}{number}") for site in draw("abc", settings, number)}
            specs = {
                site: shard_spec(
                    shards[site].train,
                    seed=settings.seed,
                    round_number=number,
                    recall=last.get(site, ""),
                    remember=file,
                )
                for site, file in files.items()
            }
            state = runtime.round(state, specs).state
            last |= files
        expected = state[:leaves]
    work = tmp_path / "w"
    run(shards, work, **{**SCAFFOLD, "rounds": 4})
    # As if it had been killed before the fourth round was kept: its memories are there, the round is not.
    (work / "round-000004.ckpt").unlink()
    found = run(shards, work, **SCAFFOLD)
    assert len({site for r in found.curve for site in r.took_part}) == 3
    assert found.best_round == 5
    for one, two in zip(found.weights, expected, strict=True):
        np.testing.assert_array_equal(one, two)
    # Of each site what the two latest rounds wrote, and the one file before that they may have to be run again from.
    kept = sorted(path.name for path in (work / "memory").iterdir())
    rounds = {site: [r.round for r in found.curve if site in r.took_part] for site in "abc"}
    needed = [[n for n in each if n <= 3][-1:] + [n for n in each if n > 3] for each in rounds.values()]
    assert kept == sorted(
        f"{site}.{n:06d}.memory" for site, each in zip("abc", needed, strict=True) for n in each
    )


@pytest.mark.parametrize(
    ("changed", "goes_on"),
    [
        ({}, True),
        ({"keep_checkpoints": 3}, True),
        ({"client_learning_rate": 5e-3}, False),
        ({"schedule": "cosine"}, False),
    ],
    ids=["more rounds", "more kept", "another rate", "a rate laid out over all rounds"],
)
def test_a_training_goes_on_only_where_the_rounds_before_would_be_the_same(
    changed: dict[str, object], goes_on: bool, tmp_path: Path
) -> None:
    shards = make_shards(tmp_path, "ab")
    first = {"rounds": 2, "schedule": "cosine"} if "schedule" in changed else {"rounds": 2}
    before = run(shards, tmp_path / "w", **first)
    told: list[RoundResult] = []
    after = run(shards, tmp_path / "w", on_round=told.append, **{"rounds": 3, **changed})
    assert tuple(told) == after.curve and [r.round for r in told] == [1, 2, 3]
    # Wall times are measured, so no two rounds have the same.
    assert [one.seconds == two.seconds for one, two in zip(before.curve, told, strict=False)] == [goes_on] * 2
    if goes_on:
        whole = run(shards, tmp_path / "whole", rounds=3)
        for one, two in zip(after.weights, whole.weights, strict=True):
            np.testing.assert_array_equal(one, two)


def test_the_sites_of_a_round_are_drawn_by_seed_and_number_and_all_have_their_turn() -> None:
    names = [f"s{i}" for i in range(10)]
    settings = TrainingSettings(sites_per_round=4)
    rounds = [draw(names, settings, number) for number in range(1, 1001)]
    assert rounds == [draw(names, settings, number) for number in range(1, 1001)]
    assert rounds != [draw(names, TrainingSettings(sites_per_round=4, seed=2), n) for n in range(1, 1001)]
    assert all(len(set(each)) == 4 and each == sorted(each) for each in rounds)
    # Four of ten: each takes part in four hundred of the rounds, give or take four standard deviations.
    turns = [sum(name in each for each in rounds) for name in names]
    assert min(turns) > 338 and max(turns) < 462
    assert draw(names, TrainingSettings(sites_per_round=10), 1) == names == draw(names, TrainingSettings(), 1)


def test_small_improvements_add_up_and_those_that_never_come_to_enough_end_the_training() -> None:
    def rounds(values: list[float]) -> Convergence:
        rule = Convergence(patience=2, min_improvement=0.01)
        for number, value in enumerate(values, start=1):
            assert not rule.stop
            rule = rule.after(number, value)
        return rule

    # Six thousandths a round: none is enough by itself, two are.
    steady = rounds([0.994**n for n in range(9)])
    assert not steady.stop and steady.best_round == 9
    # Three thousandths in two rounds are not.
    slow = rounds([1.0, 0.998, 0.997])
    assert slow.stop and slow.best_round == 3 and slow.best == 0.997
    # What counts is the share of the loss, not its size.
    assert not rounds([1e-6 * 0.98**n for n in range(6)]).stop
    broken = rounds([1.0, float("nan"), 0.9, float("inf"), 0.8])
    assert broken.best_round == 5 and broken.waited == 0
    unseen = Convergence(patience=1, min_improvement=0.01)
    assert unseen.best_round == 0
    for number in (1, 2, 3):
        unseen = unseen.after(number, None)
        assert unseen.best_round == number and not unseen.stop


@pytest.mark.parametrize("infinite", [np.nan, np.inf, -np.inf])
def test_the_best_round_is_the_first_with_the_lowest_validation_that_is_a_number(infinite: float) -> None:
    rule = Convergence(patience=9, min_improvement=0.0)
    for number, value in enumerate([1.0, infinite, 0.8, 0.9, 0.85, 0.8], start=1):
        rule = rule.after(number, value)
    assert (rule.best_round, rule.best, rule.reference, rule.waited) == (3, 0.8, 0.8, 3)
