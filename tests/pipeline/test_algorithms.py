"""Every algorithm against its paper's formulas, in numpy, on a linear autoencoder with a quadratic loss."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.architectures import AutoencoderSpec
from pipeline.datasets.frames import shard_spec
from pipeline.datasets.shards import write_shard
from pipeline.errors import ConfigError
from pipeline.federation import process
from pipeline.federation.algorithms.fedprox import FedProx
from pipeline.federation.local import Amount, Frames, Weighting
from pipeline.federation.optimizers import Adam, Sgd, optimizer
from pipeline.federation.process import ProcessSpec, build_process, for_architecture
from pipeline.federation.runtime import InProcess, Native
from pipeline.federation.schedules import Schedule
from pipeline.federation.settings import TrainingSettings

STEPS, SENSORS, RATE, LOCAL_STEPS = 2, 2, 0.5, 2
ROWS = {
    "a": np.array([[0.5, 0.1], [0.2, -0.4], [-0.3, 0.3], [0.6, 0.2]]),
    "b": np.array([[-0.2, 0.7], [0.4, 0.4], [0.1, -0.6]]),
}
START = np.array([[0.3, -0.2], [0.1, 0.4]])
ROUNDS = (("a", "b"), ("a",), ("a", "b"))
"""Who takes part; there is a third site that never does."""
POPULATION = 3
Gradient = Callable[[np.ndarray], np.ndarray]


def quadratic(rows: np.ndarray) -> tuple[Gradient, int]:
    """Gradient of half the mean squared error of x W - x over a site's frames, and their number."""
    frames = np.stack([rows[i : i + STEPS] for i in range(len(rows) - STEPS + 1)])
    x = frames.reshape(-1, SENSORS)
    return lambda weights: x.T @ (x @ weights - x) / x.size, len(frames)


def sites_of(names: tuple[str, ...]) -> list[tuple[str, Gradient, int]]:
    return [(name, *quadratic(ROWS[name])) for name in names]


def descend(weights: np.ndarray, direction: Gradient, rate: float = RATE) -> np.ndarray:
    for _ in range(LOCAL_STEPS):
        weights = weights - rate * direction(weights)
    return weights


def mean_update(
    weights: np.ndarray, names: tuple[str, ...], mu: float = 0.0, by_site: bool = False
) -> np.ndarray:
    """By frames or `by_site`, of plain local descent, held back by mu."""
    parts, counts = [], []
    for _, gradient, frames in sites_of(names):
        count = 1 if by_site else frames
        after = descend(weights, lambda w, g=gradient: g(w) + mu * (w - weights))
        parts.append((after - weights) * count)
        counts.append(count)
    return sum(parts) / sum(counts)


def fedavg(by_site: bool = False) -> np.ndarray:
    weights = START
    for names in ROUNDS:
        weights = weights + mean_update(weights, names, by_site=by_site)
    return weights


def fedprox() -> np.ndarray:
    weights = START
    for names in ROUNDS:
        weights = weights + mean_update(weights, names, mu=0.7)
    return weights


def fedavgm(momentum: float = 0.9) -> np.ndarray:
    weights, velocity = START, np.zeros_like(START)
    for names in ROUNDS:
        velocity = momentum * velocity + mean_update(weights, names)
        weights = weights + 0.1 * velocity
    return weights


def adaptive(beta_1: float, second: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    weights, m, v = START, np.zeros_like(START), np.full_like(START, 1e-6)
    for names in ROUNDS:
        update = mean_update(weights, names)
        m, v = beta_1 * m + (1 - beta_1) * update, second(v, update**2)
        weights = weights + 0.01 * m / (np.sqrt(v) + 1e-3)
    return weights


def mimelite(base: str, rate: float) -> np.ndarray:
    weights, m, v = START, np.zeros_like(START), np.zeros_like(START)
    for names in ROUNDS:
        parts, gradients, counts = [], [], []
        for _, gradient, count in sites_of(names):

            def direction(
                w: np.ndarray, g: Gradient = gradient, m: np.ndarray = m, v: np.ndarray = v
            ) -> np.ndarray:
                mixed = 0.9 * m + 0.1 * g(w)
                return mixed if base == "sgd" else mixed / (np.sqrt(v) + 1e-3)

            parts.append((descend(weights, direction, rate) - weights) * count)
            gradients.append(gradient(weights) * count)
            counts.append(count)
        full = sum(gradients) / sum(counts)
        weights = weights + sum(parts) / sum(counts)
        m, v = 0.9 * m + 0.1 * full, 0.99 * v + 0.01 * full**2
    return weights


def scaffold() -> np.ndarray:
    weights, c = START, np.zeros_like(START)
    own = {name: np.zeros_like(START) for name in ROWS}
    for names in ROUNDS:
        moved, changes = [], []
        for name, gradient, _ in sites_of(names):
            after = descend(weights, lambda w, g=gradient, n=name, c=c: g(w) - own[n] + c)
            new = own[name] - c + (weights - after) / (LOCAL_STEPS * RATE)
            moved.append(after - weights)
            changes.append(new - own[name])
            own[name] = new
        weights = weights + sum(moved) / len(moved)
        c = c + len(names) / POPULATION * sum(changes) / len(changes)
    return weights


CASES: dict[str, tuple[dict[str, object], Callable[[], np.ndarray]]] = {
    "fedavg": ({}, fedavg),
    # A batch holds all frames, so that an epoch is a step.
    "fedavg epochs": ({"local_steps": None, "local_epochs": LOCAL_STEPS}, fedavg),
    "fedavg by site": ({"weighting": "site"}, lambda: fedavg(by_site=True)),
    "fedprox": ({"proximal_strength": 0.7}, fedprox),
    "fedavgm": ({}, fedavgm),
    "fedavgm forgetful": ({"server_momentum": 0.4}, lambda: fedavgm(0.4)),
    "fedadam": ({}, lambda: adaptive(0.9, lambda v, s: 0.99 * v + 0.01 * s)),
    "fedyogi": ({}, lambda: adaptive(0.9, lambda v, s: v - 0.01 * s * np.sign(v - s))),
    "fedadagrad": ({}, lambda: adaptive(0.0, lambda v, s: v + s)),
    "mimelite": ({}, lambda: mimelite("sgd", RATE)),
    "mimelite adam": (
        {"client_optimizer": "adam", "client_learning_rate": 0.005},
        lambda: mimelite("adam", 0.005),
    ),
    "scaffold": ({}, scaffold),
}


def linear_model():  # type: ignore[no-untyped-def]
    import tensorflow as tf

    frames = tf.keras.layers.Input((STEPS, SENSORS))
    layer = tf.keras.layers.Dense(SENSORS, use_bias=False, kernel_initializer=tf.constant_initializer(START))
    return tf.keras.Model(frames, layer(frames))


def settings_for(**changed: object) -> TrainingSettings:
    base = {
        "client_optimizer": "sgd",
        "client_learning_rate": RATE,
        "local_steps": LOCAL_STEPS,
        "batch": 8,
    }
    return TrainingSettings(**{**base, **changed})  # type: ignore[arg-type]


@functools.cache
def process_for(settings: TrainingSettings):  # type: ignore[no-untyped-def]
    return build_process(linear_model, ProcessSpec(settings, STEPS, SENSORS, settings.max_steps, POPULATION))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("quadratic")
    for name, rows in ROWS.items():
        write_shard(folder / name, [rows.astype(np.float32)])
    return {name: str(folder / name) for name in ROWS}


def specs_for(paths: dict[str, str], number: int, memory: Path) -> dict[str, str]:
    found = {}
    for name in ROUNDS[number]:
        before = [earlier for earlier in range(number) if name in ROUNDS[earlier]]
        recall = str(memory / f"{name}{before[-1]}") if before else ""
        found[name] = shard_spec(
            paths[name], seed=1, round_number=number, recall=recall, remember=str(memory / f"{name}{number}")
        )
    return found


@pytest.mark.parametrize("case", CASES)
def test_three_rounds_are_those_of_the_paper(case: str, paths: dict[str, str], tmp_path: Path) -> None:
    parameters, expected = CASES[case]
    settings = settings_for(algorithm=case.split()[0], **parameters)
    runtime = InProcess(process_for(settings))
    state = runtime.initialize()
    for number in range(len(ROUNDS)):
        outcome = runtime.round(state, specs_for(paths, number, tmp_path))
        assert not outcome.failed
        state = outcome.state
    runtime.close()
    np.testing.assert_allclose(state[0], expected(), rtol=0, atol=2e-6)
    assert np.abs(expected() - START).max() > 1e-3


def test_the_validation_is_the_loss_of_every_frame_once_whatever_the_batches(
    paths: dict[str, str], tmp_path: Path
) -> None:
    # Batches of one frame: the last is as full as the others.
    runtime = InProcess(process_for(settings_for(batch=1, local_steps=None)))
    missing = {**paths, "gone": str(tmp_path / "gone")}
    found = runtime.evaluate(runtime.initialize(), missing)
    runtime.close()
    assert set(found) == set(paths)
    for site, (total, count) in found.items():
        frames = np.stack([ROWS[site][i : i + STEPS] for i in range(len(ROWS[site]) - STEPS + 1)])
        assert count == len(frames)
        assert total == pytest.approx(len(frames) * np.mean((frames @ START - frames) ** 2) / 2, rel=1e-5)


def test_scaffold_is_the_same_in_tffs_own_runtime(paths: dict[str, str], tmp_path: Path) -> None:
    process = process_for(settings_for(algorithm="scaffold"))
    found = []
    for name, runtime in (("p", InProcess(process)), ("n", Native(process))):
        state = runtime.initialize()
        for number in range(len(ROUNDS)):
            state = runtime.round(state, specs_for(paths, number, tmp_path / name)).state
        lost = {"gone": shard_spec(str(tmp_path / "gone"), seed=1, round_number=4)}
        nobody = runtime.round(state, lost)
        assert set(nobody.failed) == {"gone"} and nobody.frames == 0 and nobody.state is state
        rest = runtime.round(state, {**specs_for(paths, 2, tmp_path / name), **lost})
        assert set(rest.failed) == {"gone"} and rest.frames > 0
        found.append(rest.state)
        runtime.close()
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_noise_takes_nothing_from_updates_within_the_norm_where_some_of_the_sites_are_drawn(
    paths: dict[str, str],
) -> None:
    # Two of the three sites that there are, and hardly any noise.
    settings = settings_for(privacy="gaussian", clip_updates=10.0, noise_multiplier=1e-7, sites_per_round=2)
    runtime = InProcess(process_for(settings))
    specs = {name: shard_spec(path, seed=1, round_number=1) for name, path in paths.items()}
    state = runtime.round(runtime.initialize(), specs).state
    runtime.close()
    moved = mean_update(START, ("a", "b"), by_site=True)
    np.testing.assert_allclose(state[0], START + moved, rtol=0, atol=1e-5)
    assert np.abs(moved).max() > 1e-2


def test_adamw_with_clipped_gradients_a_falling_rate_and_capped_weights(
    paths: dict[str, str],
) -> None:
    settings = settings_for(
        client_optimizer="adamw",
        client_learning_rate=0.1,
        weight_decay=0.3,
        clip_gradients=0.05,
        schedule="exponential",
        learning_rate_decay=0.5,
        weighting="capped",
        weight_cap=2,
        server_learning_rate=0.8,
    )
    runtime = InProcess(process_for(settings))
    state = runtime.initialize()
    weights, clipped = START, 0
    for number, rate in enumerate((0.1, 0.05)):
        state = runtime.round(
            state, {name: shard_spec(p, seed=1, round_number=number) for name, p in paths.items()}
        ).state
        moved = []
        for _, gradient, _ in sites_of(("a", "b")):
            now, m, v = weights, np.zeros_like(START), np.zeros_like(START)
            for step in range(1, LOCAL_STEPS + 1):
                g = gradient(now)
                clipped += np.linalg.norm(g) > 0.05
                g = g * min(1.0, 0.05 / np.linalg.norm(g))
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                size = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                now = now - rate * 0.3 * now - size * m / (np.sqrt(v) + 1e-7)
            moved.append(now - weights)
        # Three and two frames, but at most two count.
        weights = weights + 0.8 * (moved[0] + moved[1]) / 2
    runtime.close()
    assert clipped > 0
    np.testing.assert_allclose(state[0], weights, rtol=0, atol=2e-6)


def parts_of(monkeypatch: pytest.MonkeyPatch, build: Callable[[], object]) -> dict[str, Any]:
    """What `build` puts a process together from."""
    seen: dict[str, Any] = {}

    def compose(*parts: Any) -> process.Process:
        names = ("initial", "local", "algorithm", "schedule", "factory", "population")
        seen.update(zip(names, parts, strict=True))
        return process.Process(None, None, 0)

    with monkeypatch.context() as patch:
        patch.setattr(process, "_compose", compose)
        build()
    return seen


def test_a_process_is_put_together_as_its_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainingSettings(
        rounds=9,
        algorithm="fedprox",
        proximal_strength=0.7,
        server_learning_rate=0.6,
        local_epochs=4,
        batch=5,
        stride=3,
        client_optimizer="adamw",
        weight_decay=0.2,
        client_learning_rate=0.03,
        schedule="cosine",
        warmup_rounds=2,
        learning_rate_decay=0.8,
        clip_gradients=0.9,
        weight_cap=1,
        frozen=(0,),
    )
    # What the loop over rounds gives may be more than one site's.
    spec = ProcessSpec(settings, STEPS, SENSORS, max_steps=77, population=POPULATION)
    parts = parts_of(monkeypatch, lambda: build_process(linear_model, spec))
    local = parts["local"]
    assert local.frames == Frames(STEPS, SENSORS, stride=3, batch=5)
    assert local.amount == Amount(4, most_steps=77)
    assert local.optimizer == Adam(weight_decay=0.2) and local.weighting == Weighting()
    assert (local.clip_gradients, local.frozen) == (0.9, (0,))
    assert parts["algorithm"] == local.algorithm == FedProx(proximal_strength=0.7, server_learning_rate=0.6)
    assert parts["schedule"] == Schedule("cosine", 0.03, 9, warmup=2, decay=0.8)
    assert parts["population"] == POPULATION
    exactly = ProcessSpec(settings_for(weighting="capped", weight_cap=6), STEPS, SENSORS)
    local = parts_of(monkeypatch, lambda: build_process(linear_model, exactly))["local"]
    assert (local.amount.exact_steps, local.optimizer) == (LOCAL_STEPS, Sgd())
    assert local.weighting == Weighting(cap=6.0)
    assert optimizer("adam", 0.2) == Adam()


def test_the_weights_that_a_named_architecture_begins_with_are_drawn_by_the_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def drawn(seed: int) -> np.ndarray:
        spec = ProcessSpec(TrainingSettings(seed=seed), 8, 3)
        parts = parts_of(monkeypatch, lambda: for_architecture(AutoencoderSpec(widths=(4, 2)), spec))
        return np.concatenate([np.ravel(weight) for weight in parts["initial"]])

    np.testing.assert_array_equal(drawn(5), drawn(5))
    assert not np.array_equal(drawn(5), drawn(6))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Schedule("constant", 2.0, 6), [2, 2, 2, 2, 2, 2]),
        (Schedule("constant", 2.0, 6, warmup=4), [0.5, 1, 1.5, 2, 2, 2]),
        (Schedule("exponential", 2.0, 6, warmup=2, decay=0.5), [1, 2, 2, 1, 0.5, 0.25]),
        # Half a cosine over the six rounds that follow: cos(0), cos(30 degrees), ..
        (
            Schedule("cosine", 2.0, 8, warmup=2),
            [1, 2, 2, 1 + np.sqrt(0.75), 1.5, 1, 0.5, 1 - np.sqrt(0.75), 0, 0],
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Schedule) else "",
)
def test_a_rate_rises_and_falls_as_its_schedule_says(schedule: Schedule, rates: list[float]) -> None:
    import tensorflow as tf

    found = [float(schedule.at(tf.constant(number))) for number in range(1, len(rates) + 1)]
    np.testing.assert_allclose(found, rates, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"algorithm": "best"}, "expected one of fedavg"),
        ({"algorithm": "scaffold", "client_optimizer": "adam"}, "units of plain gradient steps"),
        ({"algorithm": "scaffold", "clip_gradients": 1.0}, "clipped gradients"),
        ({"algorithm": "scaffold", "weighting": "frames"}, "weigh the same"),
        ({"algorithm": "mimelite", "client_optimizer": "adamw"}, "not defined"),
        ({"algorithm": "mimelite", "aggregation": "median"}, "second message"),
        ({"algorithm": "scaffold", "privacy": "gaussian", "clip_updates": 1.0}, "second message"),
        ({"local_steps": 2, "max_steps": 3}, "keep one"),
        ({"warmup_rounds": 20}, "would never get"),
        ({"aggregation": "median", "weighting": "frames"}, "claim any weight"),
        ({"aggregation": "krum", "sites_per_round": 4}, "at least 5 sites"),
        ({"aggregation": "median", "sites_per_round": 2}, "at least 3 sites"),
        ({"aggregation": "median", "privacy": "gaussian", "clip_updates": 1.0}, "bounded sensitivity"),
        ({"privacy": "gaussian"}, "noise hides what is bounded"),
        ({"privacy": "gaussian", "clip_updates": 1.0, "weighting": "frames"}, "weighs 1"),
        ({"privacy": "gaussian_adaptive", "clip_updates": 1.0}, "finds the norm itself"),
        ({"privacy": "tree", "clip_updates": 1.0, "algorithm": "fedadam"}, "not linear"),
        ({"compression_bits": 8, "aggregation": "krum"}, "rounding errors"),
        ({"compression_bits": 0}, "expected 1 to 16"),
        ({"compression_bits": 17}, "expected 1 to 16"),
        ({"delta": 0.0}, "probability between"),
        ({"delta": 1.0}, "probability between"),
        ({"trimmed_share": -0.1}, "less than 0.5"),
        ({"trimmed_share": 0.5}, "nothing is left"),
        ({"clip_gradients": 0.0}, "positive number"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(changed: dict[str, object], reason: str) -> None:
    base = {} if "client_optimizer" in changed else {"client_optimizer": "sgd"}
    with pytest.raises(ConfigError, match=reason):
        TrainingSettings(**{**base, **changed})  # type: ignore[arg-type]


FROM_ONE = (
    "rounds local_epochs local_steps max_steps batch stride patience keep_checkpoints weight_cap sites_per_round "
    "compression_bits"
)
FROM_ZERO = "seed warmup_rounds malicious_sites"


@pytest.mark.parametrize(
    ("key", "least"), [*((key, 1) for key in FROM_ONE.split()), *((key, 0) for key in FROM_ZERO.split())]
)
def test_numbers_begin_where_they_say_something(key: str, least: int) -> None:
    assert getattr(TrainingSettings(**{key: least}), key) == least  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"^{key} = {least - 1}: expected"):
        TrainingSettings(**{key: least - 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key",
    ["client_learning_rate", "server_learning_rate", "clip_gradients", "noise_multiplier", "clip_updates"],
)
@pytest.mark.parametrize("wrong", [0.0, -1.0, np.inf, np.nan])
def test_rates_and_norms_are_positive_and_finite(key: str, wrong: float) -> None:
    with pytest.raises(ConfigError, match=f"^{key} = .*: expected a positive number"):
        TrainingSettings(**{key: wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"warmup_rounds": 19},
        {"rounds": 1},
        {"compression_bits": 16},
        {"trimmed_share": 0.0},
        {"aggregation": "krum", "sites_per_round": 5},
        {"aggregation": "krum", "malicious_sites": 0, "sites_per_round": 3},
        {"aggregation": "median", "sites_per_round": 3, "weighting": "site"},
        {"privacy": "gaussian_adaptive", "clip_updates": "adaptive"},
        {"privacy": "tree", "clip_updates": 1.0, "algorithm": "fedavgm", "weighting": "site"},
        {"algorithm": "scaffold", "weighting": "site", "local_steps": 3},
        {"algorithm": "mimelite", "weighting": "capped", "clip_gradients": 1.0},
        {"local_epochs": 2, "max_steps": 3},
    ],
)
def test_what_makes_sense_is_taken(changed: dict[str, object]) -> None:
    TrainingSettings(**{"client_optimizer": "sgd", **changed})  # type: ignore[arg-type]
