"""What one site does in a round, on a model of one weight for each sensor that is drawn to the mean of what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf

from pipeline.datasets.frames import frames, limited, shard_spec
from pipeline.datasets.shards import write_shard
from pipeline.federation.algorithms import ALGORITHMS, Algorithm
from pipeline.federation.algorithms.base import Site, Tensors, Worked
from pipeline.federation.algorithms.mimelite import MimeLite
from pipeline.federation.local import Amount, Frames, LocalTraining, Weighting
from pipeline.federation.optimizers import Sgd

STEPS, RATE, START = 2, 0.25, np.array([0.5, -1.0], np.float32)
ROWS = np.random.default_rng(4).normal(size=(8, 2)).astype(np.float32)
"""Seven frames: in batches of three the last has one."""


@dataclass(frozen=True, kw_only=True)
class Spoilt(Algorithm):
    """Remembers and contributes; one of what it makes is no number."""

    name: ClassVar[str] = "spoilt"
    remembers: ClassVar[bool] = True
    contributes: ClassVar[bool] = True
    what: str = ""

    def direction(self, gradients: Tensors, weights: Tensors, site: Site) -> Tensors:
        """Steps to nowhere."""
        return [g * np.nan for g in gradients] if self.what == "update" else gradients

    def remember(self, worked: Worked, site: Site) -> Tensors:
        """One more each time."""
        return [old + 1.0 for old in site.remembered]

    def contribution(self, worked: Worked, site: Site, remembered: Tensors) -> Tensors:
        """The memory."""
        return [np.inf * one if self.what == "contribution" else one for one in remembered]


def training(**changed: Any) -> LocalTraining:
    base = LocalTraining(
        predict=lambda weights, batch: weights[0],
        loss=lambda batch, weight: tf.reduce_mean(tf.reduce_sum(tf.square(batch - weight), axis=-1)) / 2,
        frames=Frames(STEPS, 2, 1, 3),
        amount=Amount(1),
        algorithm=ALGORITHMS["fedavg"](),
        optimizer=Sgd(),
        weighting=Weighting(),
    )
    return replace(base, **changed)


def work(
    local: LocalTraining, spec: str, *weights: np.ndarray, received: Sequence[np.ndarray] = ()
) -> dict[str, Any]:
    """What the site sends, with its metrics beside."""
    held = list(map(tf.constant, received))
    run = tf.function(
        lambda where, *start: local.train(list(start), held, tf.constant(RATE), where), autograph=False
    )
    found = run(tf.constant(spec), *map(tf.constant, weights or (START,)))
    sent = {**found, **found["metrics"]}
    return {name: tf.nest.map_structure(np.asarray, value) for name, value in sent.items()}


@pytest.fixture
def shard(tmp_path: Path) -> str:
    write_shard(tmp_path / "shard", [ROWS])
    return str(tmp_path / "shard")


@pytest.mark.parametrize(
    ("amount", "batches"),
    [(Amount(1), 3), (Amount(3), 9), (Amount(3, 4), 4), (Amount(1, 9), 3), (Amount(1, None, 7), 7)],
    ids=["an epoch", "epochs", "at most", "no more than there are", "exactly"],
)
def test_a_site_steps_along_its_batches_each_epoch_in_an_order_of_its_own(
    amount: Amount, batches: int, shard: str
) -> None:
    spec = shard_spec(shard, seed=3, round_number=5)
    seen = list(frames(spec, sensors=2, steps=STEPS, batch=3, epochs=4, limit=batches).as_numpy_iterator())
    assert not np.array_equal(seen[0], next(frames(shard, sensors=2, steps=STEPS).as_numpy_iterator())[:3])
    weight, loss_sum = START.astype(np.float64), 0.0
    for batch in seen:
        loss_sum += len(batch) * np.mean(((batch - weight) ** 2).sum(axis=-1)) / 2
        weight = weight - RATE * (weight - batch.mean(axis=(0, 1)))
    found = work(training(amount=amount), spec)
    np.testing.assert_allclose(found["update"][0], weight - START, atol=1e-6)
    assert found["loss_sum"] == pytest.approx(loss_sum, rel=1e-5)
    assert found["frames"] == found["weight"] == sum(map(len, seen)) and found["steps"] == batches
    assert found["sites"] == 1 and found["squared_norm"] == pytest.approx(
        sum((weight - START) ** 2), rel=1e-5
    )


@pytest.mark.parametrize(
    ("weighting", "weight"),
    [(Weighting(), 7), (Weighting(cap=4.0), 4), (Weighting(cap=9.0), 7), (Weighting(equal=True), 1)],
)
def test_an_update_weighs_its_frames_up_to_the_cap_or_one(
    weighting: Weighting, weight: float, shard: str
) -> None:
    assert work(training(weighting=weighting), shard)["weight"] == weight


@pytest.mark.parametrize(
    ("what", "amount"),
    [
        *((what, Amount(1)) for what in ("", "contribution", "loss", "frames")),
        # The loss is as seen before the step that spoils the weights.
        ("update", Amount(1, None, 1)),
        ("frames", Amount(1, None, 2)),
    ],
)
def test_a_site_with_anything_that_is_no_number_or_without_a_frame_sends_nothing_and_keeps_nothing(
    what: str, amount: Amount, shard: str, tmp_path: Path
) -> None:
    local = training(amount=amount, algorithm=Spoilt(what=what), weighting=Weighting(equal=True))
    if what == "loss":
        # Its square is more than a float holds, the way there is not.
        write_shard(Path(shard), [1e20 * ROWS])
    if what == "frames":
        write_shard(Path(shard), [ROWS[: STEPS - 1]])
    kept = tmp_path / "kept"
    found = work(local, shard_spec(shard, seed=1, round_number=1, remember=str(kept)))
    assert (found["steps"] > 0) == (what != "frames")
    if what:
        assert not kept.exists()
        for name in ("weight", "sites", "frames", "loss_sum", "squared_norm"):
            assert found[name] == 0
        assert not np.any(found["update"]) and not np.any(found["contribution"])
        return
    assert np.any(found["update"]) and found["sites"] == found["weight"] == 1
    again = shard_spec(shard, seed=1, round_number=2, recall=str(kept), remember=str(tmp_path / "next"))
    assert work(local, again)["contribution"][0].tolist() == [2.0, 2.0]
    # A site that has nowhere to keep anything begins anew each time.
    assert work(local, shard)["contribution"][0].tolist() == [1.0, 1.0]


def test_an_update_is_made_as_long_as_it_may_be_and_no_longer_one_is_left_to_the_bit(shard: str) -> None:
    spec = shard_spec(shard, seed=1, round_number=1)
    whole = work(training(), spec)
    length = float(np.linalg.norm(whole["update"][0]))
    assert 0.1 < length < 10
    short = work(training(), limited(spec, length / 4))
    np.testing.assert_allclose(short["update"][0], whole["update"][0] / 4, rtol=1e-5)
    assert short["squared_norm"] == pytest.approx(length**2 / 16, rel=1e-5)
    free = work(training(), limited(spec, 1.1 * length))
    np.testing.assert_array_equal(free["update"][0], whole["update"][0])
    # What is nothing already stays it.
    still = work(training(frozen=(0,)), limited(spec, length))
    assert still["squared_norm"] == 0 and not np.any(still["update"]) and still["sites"] == 1


def test_gradients_are_clipped_together_and_weights_that_say_nothing_or_are_frozen_stay(shard: str) -> None:
    # Along the first weight the gradient is 3, along the second 4, in any batch; the third is no part of the loss.
    local = training(
        predict=lambda weights, batch: 3.0 * weights[0] + 4.0 * weights[1],
        loss=lambda batch, value: tf.reduce_sum(value),
        amount=Amount(1, None, 1),
    )
    weights = [np.zeros(1, np.float32)] * 3

    def moved(**changed: Any) -> list[float]:
        found = work(replace(local, **changed), shard, *weights)["update"]
        return [float(each[0]) for each in found]

    assert moved() == pytest.approx([-0.75, -1.0, 0.0])
    assert moved(clip_gradients=10.0) == pytest.approx([-0.75, -1.0, 0.0])
    assert moved(clip_gradients=1.0) == pytest.approx([-0.15, -0.2, 0.0])
    assert moved(frozen=(0,)) == pytest.approx([0.0, -1.0, 0.0])


def test_the_full_gradient_is_of_every_frame_once_where_the_site_began(shard: str) -> None:
    found = work(training(algorithm=MimeLite()), shard, received=[np.zeros(2, np.float32)])
    each = np.concatenate(list(frames(shard, sensors=2, steps=STEPS).as_numpy_iterator()))
    assert len(each) == 7 and np.any(found["update"])
    np.testing.assert_allclose(found["contribution"][0], START - each.mean(axis=(0, 1)), atol=1e-6)


@pytest.mark.parametrize("stride", [1, 3])
def test_a_validation_is_of_the_frames_that_are_trained_on(stride: int, shard: str) -> None:
    local = training(frames=Frames(STEPS, 2, stride, 3))
    each = np.concatenate(list(frames(shard, sensors=2, steps=STEPS, stride=stride).as_numpy_iterator()))
    found = local.evaluate([tf.constant(START)], tf.constant(shard))
    assert int(found["frames"]) == len(each) == {1: 7, 3: 3}[stride]
    expected = len(each) * np.mean(((each - START) ** 2).sum(axis=-1)) / 2
    assert float(found["loss_sum"]) == pytest.approx(expected, rel=1e-5)
