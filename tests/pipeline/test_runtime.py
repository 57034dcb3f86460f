"""Which updates of a round count, with sites that answer what they are told to, and which trainings share their graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pipeline.datasets.frames import limited
from pipeline.federation.compiled import _what_graphs_depend_on
from pipeline.federation.process import ProcessSpec
from pipeline.federation.runtime import InProcess, Outcome
from pipeline.federation.settings import TrainingSettings

Answer = Callable[[str], list[Any]]
NAMES = ("update", "loss_sum", "frames", "steps", "squared_norm", "sites")


def moved(length: float, steps: int = 4, sites: float = 1.0, told: float | None = None) -> Answer:
    """An update of `length`; what is told of it may be something else."""
    squared = np.float64(length if told is None else told) ** 2
    return lambda _: [np.array([length], np.float32), 6.0, np.int64(3), np.int64(steps), squared, sites]


def lost(_: str) -> list[Any]:
    raise tf.errors.NotFoundError(None, None, "gone")


def limited_to(first: Answer, then: Answer) -> Answer:
    """As `first`, and where a limit is set as `then`."""
    return lambda spec: (then if "longest" in spec else first)(spec)


class Sites:
    """The parts of a compiled process; a new weight is the old one and the mean of the updates."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers, self.asked = answers, list[str]()

    def prepare(self, state: Sequence[Any]) -> Sequence[Any]:
        return state

    def place(self, name: str) -> int:
        return NAMES.index(name)

    def work(self, spec: str, _prepared: Sequence[Any]) -> list[Any]:
        self.asked.append(spec)
        return self.answers[spec.split("?")[0]](spec)

    def combine(self, state: Sequence[Any], results: Iterable[Sequence[Any]]) -> tuple[list[Any], list[Any]]:
        each = list(results)
        with np.errstate(over="ignore"):
            mean = np.sum([result[0] for result in each], axis=0, dtype=np.float32) / np.float32(len(each))
        loss, frames = (sum(result[NAMES.index(name)] for result in each) for name in ("loss_sum", "frames"))
        return [state[0] + mean], [loss / frames, frames]


Start = Callable[..., tuple[Outcome, list[str]]]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(bounds_updates, site=answer, ..)` gives a round from the weight 1 and what was asked for."""
    threads = ThreadPoolExecutor(2)

    def one_round(bounds_updates: bool = True, **answers: Answer) -> tuple[Outcome, list[str]]:
        runtime, sites = InProcess.__new__(InProcess), Sites(answers)
        vars(runtime).update(_form=sites, _leaves=1, _bounds_updates=bounds_updates, _threads=threads)
        return runtime.round([np.ones(1, np.float32)], {site: site for site in answers}), sites.asked

    yield one_round
    threads.shutdown()


def test_a_round_is_of_the_sites_that_say_something_sound_and_the_others_are_named(start: Start) -> None:
    found, _ = start(
        a=moved(1.0),
        b=moved(2.0),
        c=moved(1.5),
        lost=lost,
        silent=moved(0.0, steps=0, sites=0.0),
        broken=moved(np.nan, told=1.0),
        refused=moved(0.0, sites=0.0),
        far=moved(400.0),
        busy=moved(40.0, steps=400),
    )
    assert found.failed == {
        "lost": "its shard cannot be read (NotFoundError)",
        "broken": "its update is not finite",
        "refused": "its update is not finite",
        "far": "its update diverged: 200 times as long as a typical site's",
    }
    # A hundred times the steps may lead ten times as far and more.
    assert found.state[0] == 1.0 + np.float32((1.0 + 2.0 + 1.5 + 40.0) / 4)
    assert (found.loss, found.frames, found.shortened) == (2.0, 12, {})


@pytest.mark.parametrize("bounds_updates", [True, False])
def test_a_site_that_would_outweigh_the_others_is_asked_again_for_less(
    bounds_updates: bool, start: Start
) -> None:
    long = limited_to(moved(10.0), moved(1.0))
    found, asked = start(bounds_updates, a=moved(1.0), b=moved(1.0), c=moved(1.0), long=long)
    assert found.failed == {} and asked[:4] == ["a", "b", "c", "long"]
    assert asked[4:] == ([limited("long", 1.0)] if bounds_updates else [])
    assert found.shortened == ({"long": 10.0} if bounds_updates else {})
    assert found.state[0] == (2.0 if bounds_updates else 4.25)


@pytest.mark.parametrize("then", [moved(1.01), lost, moved(np.nan, told=1.0)], ids=["longer", "lost", "NaN"])
def test_a_site_that_does_not_keep_to_its_limit_is_left_out(then: Answer, start: Start) -> None:
    found, _ = start(a=moved(1.0), b=moved(1.0), c=moved(1.0), long=limited_to(moved(10.0), then))
    assert found.failed == {"long": "its update of length 10 stays longer than the limit of 1"}
    assert found.shortened == {} and found.state[0] == 2.0
    # Rounding is no lie.
    nearly = limited_to(moved(10.0), moved(1.0005))
    assert start(a=moved(1.0), b=moved(1.0), c=moved(1.0), long=nearly)[0].failed == {}


def test_one_that_diverged_is_not_asked_again_and_bounds_nobody(start: Start) -> None:
    found, asked = start(a=moved(1.0), b=moved(1.0), c=moved(2.0), far=moved(1e6))
    assert set(found.failed) == {"far"} and found.shortened == {} and len(asked) == 4


def test_updates_that_are_finite_each_but_not_together_go_the_longest_first(start: Start) -> None:
    found, _ = start(a=moved(3.2e38), b=moved(3.3e38))
    assert list(found.failed) == ["b"] and "its length is 3.3e+38" in found.failed["b"]
    assert np.isfinite(found.state[0]) and found.frames == 3
    nobody, _ = start(a=lost, b=moved(0.0, steps=0, sites=0.0))
    assert set(nobody.failed) == {"a"} and nobody.state[0] == 1.0 and nobody.frames == 0
    assert np.isnan(nobody.loss)


ANOTHER: dict[str, Any] = {
    "rounds": 7,
    "local_epochs": 2,
    "local_steps": 3,
    "batch": 8,
    "max_steps": 5,
    "stride": 2,
    "algorithm": "fedprox",
    "proximal_strength": 0.5,
    "server_momentum": 0.5,
    "server_learning_rate": 0.5,
    "client_optimizer": "sgd",
    "client_learning_rate": 0.5,
    "weight_decay": 0.5,
    "schedule": "exponential",
    "warmup_rounds": 1,
    "learning_rate_decay": 0.5,
    "clip_gradients": 1.0,
    "weighting": "site",
    "weight_cap": 5,
    "sites_per_round": 2,
    "aggregation": "median",
    "trimmed_share": 0.1,
    "malicious_sites": 2,
    "clip_updates": 1.0,
    "privacy": "gaussian_adaptive",
    "noise_multiplier": 2.0,
    "delta": 0.1,
    "compression_bits": 8,
    "patience": 9,
    "min_improvement": 0.1,
    "seed": 2,
    "keep_checkpoints": 9,
    "runtime": "native",
    "frozen": (0,),
}
LOOKED_AT_BETWEEN_ROUNDS = {"rounds", "patience", "min_improvement", "keep_checkpoints", "delta"}


def alike(one: dict[str, Any], other: dict[str, Any], populations: tuple[int, int] = (5, 5)) -> bool:
    """Whether trainings with these settings run the same graphs."""
    first, second = (
        _what_graphs_depend_on(ProcessSpec(TrainingSettings(**settings), 4, 2, population=population))
        for settings, population in zip((one, other), populations, strict=True)
    )
    return first == second


def test_trainings_share_graphs_where_only_what_is_looked_at_between_rounds_is_another() -> None:
    assert set(ANOTHER) == {field.name for field in dataclasses.fields(TrainingSettings)}
    assert {name for name, value in ANOTHER.items() if alike({}, {name: value})} == LOOKED_AT_BETWEEN_ROUNDS
    for laid_out in ({"schedule": "cosine"}, {"warmup_rounds": 2}):
        assert not alike(laid_out, {**laid_out, "rounds": 7})


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({}, False),
        ({"aggregation": "median"}, False),
        ({"algorithm": "scaffold", "client_optimizer": "sgd"}, True),
        ({"privacy": "tree", "clip_updates": 1.0}, True),
    ],
    ids=["mean", "median", "scaffold", "noise"],
)
def test_how_many_sites_there_are_counts_where_a_rounds_share_of_them_does(
    settings: dict[str, Any], counts: bool
) -> None:
    assert alike(settings, settings, (5, 6)) != counts
