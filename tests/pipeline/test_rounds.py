"""The loop over rounds with a runtime that answers what it is told to: who takes part, what is kept and when it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.architectures import AutoencoderSpec
from pipeline.datasets.frames import shard_spec
from pipeline.datasets.shards import ShardPaths
from pipeline.errors import ConfigError, TrainingFailed
from pipeline.federation import training
from pipeline.federation.privacy import training_budget
from pipeline.federation.process import ProcessSpec
from pipeline.federation.runtime import Outcome
from pipeline.federation.settings import RoundResult, TrainingResult, TrainingSettings

SPEC = AutoencoderSpec()
SHARDS = {site: ShardPaths(f"{site}.train", f"{site}.validation", 9, 9) for site in "abc"}


@dataclass
class Told:
    """A state is one weight that counts its rounds. By round from 1: the sites that fail, those that are shortened; by site and round a loss sum and frames."""

    validated: Callable[[str, int], tuple[float, int]] = lambda site, number: (1.0 / number, 1)
    failing: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    shortened: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    frames: int = 5
    compiled: list[ProcessSpec] = field(default_factory=list)
    trained: list[dict[str, str]] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)

    def initialize(self) -> list[Any]:
        """A weight and something of the server's."""
        return [np.zeros(1, np.float32), np.float32(0)]

    def round(self, state: list[Any], specs: Mapping[str, str]) -> Outcome:
        """One more; nothing where all fail."""
        self.trained.append(dict(specs))
        failed = self.failing.get(len(self.trained), {})
        frames = self.frames * len(set(specs) - set(failed))
        after = [state[0] + 1, state[1]] if frames else state
        return Outcome(after, 0.5, frames, dict(failed), self.shortened.get(len(self.trained), {}))

    def evaluate(self, state: list[Any], specs: Mapping[str, str]) -> dict[str, tuple[float, int]]:
        """What is told of this number of rounds."""
        self.asked.append(list(specs))
        return {site: self.validated(site, int(state[0][0])) for site in specs}

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., TrainingResult]:
    """`go(told, sites, mode=, initial=, .., **settings)` trains in one folder."""

    def start(
        told: Told,
        shards: Mapping[str, ShardPaths] = SHARDS,
        *,
        mode: str = "federated",
        initial: Sequence[Any] | None = None,
        on_round: Callable[[RoundResult], None] | None = None,
        architecture: AutoencoderSpec = SPEC,
        steps: int = 4,
        sensors: int = 2,
        **settings: Any,
    ) -> TrainingResult:
        @contextlib.contextmanager
        def compiled(_: object, spec: ProcessSpec) -> Iterator[tuple[Told, int]]:
            told.compiled.append(spec)
            yield told, 1

        monkeypatch.setattr(training, "compiled", compiled)
        return training.train(
            shards,
            architecture,
            TrainingSettings(**{"rounds": 3, **settings}),
            steps=steps,
            sensors=sensors,
            workdir=tmp_path,
            mode=mode,
            initial=initial,
            on_round=on_round,
        )

    return start


Go = Callable[..., TrainingResult]


@pytest.mark.parametrize(
    ("losses", "rounds", "best"),
    [((1.0, 0.5, 0.8, 0.9, 0.1), 4, 2), ((1.0, 0.95, 0.93, 0.1), 3, 3), ((1.0, 0.8, 0.6, 0.5, 0.4), 5, 5)],
)
def test_a_training_gives_the_weights_of_its_best_round_and_ends_when_none_gains_enough(
    losses: tuple[float, ...], rounds: int, best: int, go: Go, tmp_path: Path
) -> None:
    kept = []
    found = go(
        Told(lambda _, number: (losses[number - 1], 1)),
        on_round=lambda result: kept.append((tmp_path / f"round-{result.round:06d}.ckpt").exists()),
        rounds=5,
        patience=2,
        min_improvement=0.1,
    )
    assert (len(found.curve), found.best_round, found.weights[0][0]) == (rounds, best, best)
    assert found.stopped == ("rounds" if rounds == 5 else "converged")
    # A round that was told is on the disk.
    assert kept == [True] * rounds


def test_each_round_has_an_order_of_frames_of_its_own_by_the_seed(go: Go) -> None:
    told, pooled = Told(), Told()
    go(told, rounds=2, seed=7)
    assert told.trained == [
        {site: shard_spec(f"{site}.train", seed=7, round_number=number) for site in "abc"}
        for number in (1, 2)
    ]
    go(pooled, mode="centralised", rounds=2, seed=7)
    joined = [f"{site}.train" for site in "abc"]
    assert pooled.trained == [
        {training.ALL_SITES: shard_spec(joined, seed=7, round_number=number)} for number in (1, 2)
    ]


def test_a_validation_is_the_mean_over_frames_of_the_sites_that_have_any(go: Go) -> None:
    losses = {"a": (10.0, 10), "b": (6.0, 2), "c": (0.0, 0)}
    told = Told(lambda site, _: losses[site])
    found = go(told, {**SHARDS, "d": ShardPaths("d.train", "d.validation", 9, 0)}, rounds=1)
    assert told.asked == [["a", "b", "c"]] and found.excluded == {}
    assert found.curve[0].validation == 16 / 12 and found.curve[0].sites == {"a": 1.0, "b": 3.0}


def test_a_site_that_failed_takes_no_part_from_that_round_on(go: Go) -> None:
    told = Told(failing={2: {"b": "lost"}})
    found = go(told)
    assert [set(specs) for specs in told.trained] == [set("abc"), set("abc"), set("ac")]
    assert [result.took_part for result in found.curve] == [("a", "b", "c"), ("a", "c"), ("a", "c")]
    assert told.asked == [list("abc"), list("ac"), list("ac")]
    assert [result.excluded for result in found.curve] == [{}, {"b": "lost"}, {"b": "lost"}]


def test_of_pooled_sites_the_one_whose_shard_is_gone_is_named_or_all(go: Go, tmp_path: Path) -> None:
    shards = {site: replace(paths, train=str(tmp_path / paths.train)) for site, paths in SHARDS.items()}
    for site in "ac":
        Path(shards[site].train).touch()
    told = Told(failing={1: {training.ALL_SITES: "unreadable"}})
    found = go(told, shards, mode="centralised", rounds=1)
    assert found.excluded == {"b": "its shard cannot be read (missing)"} and found.sites == ("a", "c")
    assert len(told.trained) == 2 and len(found.curve) == 1
    with pytest.raises(TrainingFailed, match=r"no site is left .*a: broken; c: broken"):
        go(
            Told(failing={1: {training.ALL_SITES: "broken"}}),
            {site: shards[site] for site in "ac"},
            mode="centralised",
        )


def test_a_training_begins_with_the_weights_that_it_is_given_once(go: Go) -> None:
    ten, twenty = [np.full(1, 10.0, np.float32)], [np.full(1, 20.0, np.float32)]
    assert go(Told(), initial=ten, rounds=1).weights == [11.0]
    assert go(Told(), initial=ten, rounds=2).weights == [12.0]
    assert go(Told(), initial=twenty, rounds=2).weights == [22.0]


@pytest.mark.parametrize(
    "protected",
    [
        {"algorithm": "mimelite", "server_learning_rate": 0.5},
        {"algorithm": "fedavgm", "privacy": "gaussian", "clip_updates": 0.5, "sites_per_round": 1},
        {"aggregation": "median", "weighting": "site"},
        {"compression_bits": 8, "weighting": "capped"},
    ],
)
@pytest.mark.parametrize(("mode", "sites"), [("local", "b"), ("centralised", "abc")])
def test_one_client_averages_with_nobody_and_hides_from_nobody(
    mode: str, sites: str, protected: dict[str, Any], go: Go
) -> None:
    told, given = Told(), {"client_optimizer": "sgd", "max_steps": 4, "frozen": (1,)}
    found = go(told, {site: SHARDS[site] for site in sites}, mode=mode, **given, **protected)
    # Of as many steps as all sites have together.
    plain = TrainingSettings(rounds=3, **given)
    assert told.compiled == [ProcessSpec(plain, 4, 2, 4 * len(sites), population=len(sites))]
    assert found.privacy is None and [len(specs) for specs in told.trained] == [1, 1, 1]


@pytest.mark.parametrize(
    ("changed", "anew"),
    [
        ({"keep_checkpoints": 5}, False),
        ({"steps": 5}, True),
        ({"sensors": 3}, True),
        ({"architecture": AutoencoderSpec(widths=(7, 2))}, True),
        ({"mode": "centralised"}, True),
        ({"initial": [np.zeros(1, np.float32)]}, True),
        ({"shards": {**SHARDS, "a": replace(SHARDS["a"], train="another")}}, True),
        ({"seed": 2}, True),
        ({"local_epochs": 2}, True),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_finished_training_is_read_back_unless_anything_of_it_is_another(
    changed: dict[str, Any], anew: bool, go: Go
) -> None:
    go(Told())
    told, heard = Told(), []
    found = go(told, **{"on_round": heard.append, **changed})
    assert len(told.trained) == (3 if anew else 0)
    assert tuple(heard) == found.curve and len(heard) == 3


@pytest.mark.parametrize("privacy", ["gaussian", "tree"])
def test_the_budget_is_of_the_rounds_that_there_were_and_of_who_took_part(privacy: str, go: Go) -> None:
    noise = {"privacy": privacy, "clip_updates": 1.0, "noise_multiplier": 3.0, "delta": 1e-3}
    found = go(Told(lambda *_: (1.0, 1)), rounds=9, patience=4, sites_per_round=1, **noise)
    took_part = [[r.round for r in found.curve if site in r.took_part] for site in "abc"]
    assert len(found.curve) == 5 and all(len(each) < 5 for each in took_part)
    expected = training_budget(privacy, 3.0, 1e-3, took_part, 5)  # type: ignore[arg-type]
    assert found.privacy == expected


def test_how_often_and_by_how_much_an_update_was_shortened_is_told(go: Go) -> None:
    found = go(Told(shortened={1: {"b": 4.0}, 2: {"b": 9.0}}), rounds=3)
    assert set(found.shortened) == {"b"}
    assert "up to 9 times" in found.shortened["b"] and "in 2 of 3 rounds" in found.shortened["b"]


def test_shards_without_a_frame_end_the_training_instead_of_another_round(go: Go) -> None:
    with pytest.raises(TrainingFailed, match="round 1: the shards hold no frame of 4 steps"):
        go(Told(frames=0))
    # One that has converged with its last round has.
    assert go(Told(lambda *_: (1.0, 1)), rounds=3, patience=2).stopped == "converged"


def test_sites_that_do_not_fit_the_mode_are_refused(go: Go) -> None:
    with pytest.raises(TrainingFailed, match="takes one site, got 3"):
        go(Told(), mode="local")
    with pytest.raises(ConfigError, match="expected one of federated, local, centralised"):
        go(Told(), mode="alone")
