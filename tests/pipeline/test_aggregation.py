"""Aggregations against numbers worked out by hand, and against sites that lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models.architectures import AutoencoderSpec
from pipeline.federation.aggregation.factory import aggregation
from pipeline.federation.aggregation.robust import Median, MultiKrum, RobustFactory, Rule, TrimmedMean
from pipeline.federation.privacy import gaussian_epsilon, training_budget, tree_sensitivity
from pipeline.federation.process import ProcessSpec, for_architecture
from pipeline.federation.runtime import InProcess
from pipeline.federation.screening import diverged, too_long, typical_lengths
from pipeline.federation.settings import TrainingSettings
from tests.pipeline.test_training import SENSORS, SPEC, STEPS, make_shards

HONEST = np.array([[1.0, -2.0], [1.2, -2.2], [0.9, -1.8], [1.1, -2.1]], np.float32)
RULES = {"median": Median(), "trimmed": TrimmedMean(0.2), "krum": MultiKrum(1)}
LIES = {
    "scaled": HONEST[0] * 1000,
    "flipped": -HONEST[0] * 10,
    "huge": np.array([3e38, -3e38], np.float32),
}


def combine(rule: Rule, updates: np.ndarray) -> np.ndarray:
    return np.asarray(rule.combine(tf.constant(updates)))


def test_the_rules_on_numbers_worked_out_by_hand() -> None:
    updates = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 5.0], [4.0, 2.0], [100.0, 3.0]], np.float32)
    np.testing.assert_allclose(combine(Median(), updates), [3.0, 2.0])
    np.testing.assert_allclose(combine(Median(), updates[:4]), [2.5, 1.5])
    np.testing.assert_allclose(combine(TrimmedMean(0.2), updates), [3.0, 2.0])
    np.testing.assert_allclose(combine(TrimmedMean(0.19), updates), [22.0, 2.2])
    # Squared distances to the two nearest: 2 + 13, 2 + 5, 10 + 17, 5 + 13, and the last far off: it alone is dropped.
    np.testing.assert_allclose(combine(MultiKrum(1), updates), [2.5, 2.0])
    # With three bad ones a score is the distance to the nearest: 2, 2, 10, 5: the first two stay.
    np.testing.assert_allclose(combine(MultiKrum(3), updates), [1.5, 0.5])
    np.testing.assert_allclose(combine(MultiKrum(1), updates[:1]), updates[0])
    # To the two nearest: 37, 26, 17, 10, 25: the first is dropped. To the three nearest it would be the last.
    line = np.array([[0.0], [1.0], [6.0], [7.0], [10.0]], np.float32)
    np.testing.assert_allclose(combine(MultiKrum(1), line), [6.0])


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("rule", RULES)
def test_one_lying_site_moves_a_robust_rule_no_further_than_honest_sites_lie_apart(
    rule: str, lie: str
) -> None:
    together = np.concatenate([HONEST, LIES[lie][np.newaxis]])
    found = combine(RULES[rule], together)
    assert (found >= HONEST.min(axis=0)).all() and (found <= HONEST.max(axis=0)).all()
    assert np.abs(together.astype(np.float64).mean(axis=0) - HONEST.mean(axis=0)).max() > 1


def test_a_site_of_weight_zero_does_not_count_in_tffs_own_runtime() -> None:
    from pipeline.federation.worker import guarded_context

    kind = tff.to_type([(np.float32, (2,)), (np.float32, (1, 1))])
    process = RobustFactory(Median()).create(kind, tff.to_type(np.float32))
    values = [[row, np.array([[row[0]]])] for row in HONEST[:3]] + [
        [np.zeros(2, np.float32), np.zeros((1, 1), np.float32)]
    ]
    context = guarded_context()
    try:
        with context.install():
            output = process.next(process.initialize(), values, [1.0, 5.0, 1.0, 0.0])
            nobody = process.next(process.initialize(), values[:1], [0.0])
    finally:
        context.close()
    np.testing.assert_allclose(output.result[0], [1.0, -2.0])
    np.testing.assert_allclose(output.result[1], [[1.0]])
    np.testing.assert_allclose(nobody.result[0], [0.0, 0.0])


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"aggregation": "median"}, Median()),
        ({"aggregation": "trimmed_mean", "trimmed_share": 0.35}, TrimmedMean(0.35)),
        ({"aggregation": "krum", "malicious_sites": 3}, MultiKrum(3)),
    ],
)
def test_the_rule_is_made_as_the_settings_say(changed: dict[str, object], rule: Rule) -> None:
    made = aggregation(TrainingSettings(**changed), [], population=9)  # type: ignore[arg-type]
    assert isinstance(made, RobustFactory) and made.rule == rule


def test_an_update_a_hundred_times_too_long_is_named() -> None:
    assert diverged({"a": 1.0, "b": 2.0, "c": 1.5, "d": 1e4}, dict.fromkeys("abcd", 4)) == {
        "d": "its update diverged: 6.67e+03 times as long as a typical site's"
    }
    edge = {number: {"a": 1.0, "b": 1.0, "c": 1.0, "d": number} for number in (99.0, 101.0)}
    assert [set(diverged(each, dict.fromkeys("abcd", 4))) for each in edge.values()] == [set(), {"d"}]
    assert diverged({"a": 1.0, "b": 1e6}, dict.fromkeys("ab", 1)) == {}
    assert diverged({"a": 1.0, "b": 2.0, "c": 90.0}, {"a": 1, "b": 1, "c": 10_000}) == {}
    assert diverged({"a": 0.0, "b": 0.0, "c": 1.0}, dict.fromkeys("abc", 1)) == {}


def test_a_length_is_held_against_the_other_sites_whatever_their_number_and_steps() -> None:
    alike = dict.fromkeys("abcd", 4)
    assert too_long({"a": 1.0, "b": 2.0, "c": 1.5, "d": 10.0}, alike) == {"d": 1.5}
    assert too_long({"a": 1.0, "b": 2.0, "c": 1.5, "d": 4.4}, alike) == {}
    edge = {number: {"a": 1.0, "b": 1.0, "c": 1.0, "d": number} for number in (2.9, 3.1)}
    assert [too_long(each, alike) for each in edge.values()] == [{}, {"d": 1.0}]
    # Two sites: either may be the liar. Of three, one that says nothing makes no honest one look long.
    assert too_long({"a": 1.0, "b": 50.0}, alike) == {} == too_long({"a": 1.0, "b": 1.2, "c": 1e-9}, alike)
    assert diverged({"a": 1.0, "b": 1.2, "c": 1e-9}, alike) == {}
    assert too_long({"a": 0.0, "b": 0.0, "c": 1.0}, alike) == {}
    # A hundred times the steps: as a random walk ten times as long, in one direction a hundred times.
    much = {"a": 1, "b": 1, "c": 100}
    assert typical_lengths({"a": 1.0, "b": 1.0, "c": 100.0}, much) == {"a": 10.0, "b": 10.0, "c": 100.0}
    assert (
        too_long({"a": 1.0, "b": 1.0, "c": 10.0}, much)
        == {}
        == too_long({"a": 1.0, "b": 1.0, "c": 100.0}, much)
    )


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_what_is_too_long_does_not_depend_on_the_size_of_all_updates(size: float) -> None:
    norms, steps = {"a": 1.0, "b": 2.0, "c": 1.5, "d": 7.0, "e": 1e4}, dict.fromkeys("abcde", 4)
    scaled = {site: size * norm for site, norm in norms.items()}
    assert set(too_long(norms, steps)) == {"d", "e"} and set(diverged(norms, steps)) == {"e"}
    assert diverged(scaled, steps) == diverged(norms, steps)
    expected = {site: pytest.approx(size * usual) for site, usual in too_long(norms, steps).items()}
    assert too_long(scaled, steps) == expected


def one_round(
    tmp_path: Path, rounds: int, spec: AutoencoderSpec = SPEC, **changed: object
) -> tuple[list, list]:
    """Weights before and after each round on two sites."""
    shards = make_shards(tmp_path, "ab")
    settings = TrainingSettings(client_optimizer="sgd", client_learning_rate=0.05, **changed)  # type: ignore[arg-type]
    process = for_architecture(spec, ProcessSpec(settings, STEPS, SENSORS, population=2))
    runtime = InProcess(process)
    states = [runtime.initialize()]
    for _ in range(rounds):
        states.append(runtime.round(states[-1], {site: paths.train for site, paths in shards.items()}).state)
    runtime.close()
    leaves = process.weight_leaves
    return [np.concatenate([np.ravel(v) for v in state[:leaves]]) for state in states], states


def test_noise_has_the_promised_size_and_updates_no_more_than_the_promised_length(tmp_path: Path) -> None:
    # So short a clipping norm that the updates themselves cannot be seen beside the noise.
    weights, _ = one_round(tmp_path, 5, privacy="gaussian", clip_updates=1e-3, noise_multiplier=2.0)
    moved = np.diff(weights, axis=0)
    # Noise of 2 clipping norms on the sum of two updates is one on their mean.
    assert moved.std() == pytest.approx(1e-3, rel=0.1)
    assert abs(np.corrcoef(moved[0], moved[1])[0, 1]) < 0.2
    short, _ = one_round(tmp_path, 1, clip_updates=1e-3)
    assert np.linalg.norm(short[1] - short[0]) <= 1e-3 * (1 + 1e-5)


def test_the_noise_of_a_tree_is_that_of_its_nodes_and_does_not_add_up_over_rounds(tmp_path: Path) -> None:
    weights, _ = one_round(tmp_path, 4, privacy="tree", clip_updates=1e-3, noise_multiplier=2.0)
    # In units of a node's on the mean of two sites: the budget counts on it. Four independent ones would come to 2.
    size = [(each - weights[0]).std() / 1e-3 for each in weights[1:]]
    assert size[0] == pytest.approx(1.0, rel=0.15) and size[3] < 1.4


def test_noise_on_the_count_of_clipped_sites_is_paid_for_by_more_on_the_updates(tmp_path: Path) -> None:
    # So much noise that the updates cannot be seen beside it; the first norm to clip to is 1.
    (before, after), _ = one_round(tmp_path, 1, privacy="gaussian_adaptive", noise_multiplier=200.0)
    # Andrew et al. (2021): z = (z_updates^-2 + (2 z_count)^-2)^-1/2, and here z_count = z.
    assert (after - before).std() == pytest.approx(200.0 / np.sqrt(0.75) / 2, rel=0.15)


@pytest.mark.parametrize(
    "changed",
    [
        {"privacy": "gaussian_adaptive", "noise_multiplier": 0.5},
        {"privacy": "tree", "noise_multiplier": 0.5, "clip_updates": 0.1},
        {"clip_updates": "adaptive"},
    ],
    ids=["adaptive noise", "tree", "adaptive clipping"],
)
def test_protections_with_a_memory_run_compiled(tmp_path: Path, changed: dict[str, object]) -> None:
    weights, states = one_round(tmp_path, 2, **changed)
    assert all(np.isfinite(w).all() for w in weights) and not np.array_equal(weights[1], weights[2])
    assert any(not np.array_equal(one, two) for one, two in zip(states[1], states[2], strict=True))


def test_adaptive_clipping_begins_at_one_doubles_in_a_few_rounds_and_stays_near_the_length_of_four_of_five() -> (
    None
):
    from pipeline.federation.worker import guarded_context

    kind = tff.to_type([(np.float32, (2,))])
    made = aggregation(TrainingSettings(clip_updates="adaptive"), [], population=5)
    process = made.create(kind, tff.to_type(np.float32))
    values = [[np.array([0.0, length], np.float32)] for length in (10, 20, 30, 40, 50)]
    context, norms = guarded_context(), []
    try:
        with context.install():
            state = process.initialize()
            for _ in range(40):
                output = process.next(state, values, [1.0] * 5)
                state = output.state
                norms.append(float(output.measurements["clipping_norm"]))
                clipped = np.minimum([10, 20, 30, 40, 50], norms[-1])
                np.testing.assert_allclose(output.result[0], [0.0, clipped.mean()], rtol=1e-5)
    finally:
        context.close()
    assert norms[0] == 1.0 and 1.8 < norms[5] < 2.5
    assert all(38 < norm < 50 for norm in norms[-10:])


def test_compressed_updates_are_near_the_exact_ones(tmp_path: Path) -> None:
    wide = AutoencoderSpec(widths=(64, 8))
    exact, _ = one_round(tmp_path, 1, wide)
    rough, _ = one_round(tmp_path, 1, wide, compression_bits=8)
    error = np.linalg.norm(rough[1] - exact[1]) / np.linalg.norm(exact[1] - exact[0])
    print(f"8 bits: relative error of the update {error:.4f}")
    assert 0 < error < 0.05


def test_the_budget_counts_how_often_a_site_took_part() -> None:
    often = training_budget("gaussian", 1.0, 1e-5, [[1, 2, 3, 4], [2]], 4)
    assert often.epsilon == pytest.approx(gaussian_epsilon(1.0, 1e-5, times=4)) and often.unit == "site"
    # Of four rounds: leaves 1 each, pairs 2 each, the root 4.
    assert tree_sensitivity(4, [1, 2, 3, 4]) == pytest.approx(np.sqrt(4 + 2 * 4 + 16))
    # Once in four rounds: one node of each of three heights.
    assert tree_sensitivity(4, [3]) == pytest.approx(np.sqrt(3))
    rare = training_budget("tree", 1.0, 1e-5, [[3], [1]], 4)
    assert rare.epsilon == pytest.approx(gaussian_epsilon(1 / np.sqrt(3), 1e-5))
    # Gaussian mechanism, noise of one sensitivity, delta 1e-5: the exact epsilon is 4.38 (Balle, Wang 2018); Renyi's bound lies above.
    assert 4.37 < gaussian_epsilon(1.0, 1e-5) < 5.0


def test_releases_of_one_noise_tell_as_much_as_one_of_so_much_less() -> None:
    # Four Gaussian releases of noise 4 are one of noise 4 / sqrt(4).
    for times in (2, 4):
        together = gaussian_epsilon(4.0, 1e-5, times=times)
        assert together == pytest.approx(gaussian_epsilon(4.0 / np.sqrt(times), 1e-5), rel=1e-3)
    assert gaussian_epsilon(4.0, 1e-5) < gaussian_epsilon(4.0, 1e-5, times=2)


@pytest.mark.parametrize("mechanism", ["gaussian", "gaussian_adaptive", "tree"])
def test_a_budget_is_that_of_the_site_that_took_part_most_at_the_delta_that_is_asked_for(
    mechanism: Literal["gaussian", "gaussian_adaptive", "tree"],
) -> None:
    # Of eight rounds one site took part in three, another in one.
    sensitivity = tree_sensitivity(8, [1, 2, 7]) if mechanism == "tree" else 1.0
    found = training_budget(mechanism, 3.0, 1e-3, [[5], [1, 2, 7], []], 8)
    times = 1 if mechanism == "tree" else 3
    assert found.epsilon == pytest.approx(gaussian_epsilon(3.0 / sensitivity, 1e-3, times=times))
    assert (found.delta, found.noise_multiplier, found.sensitivity) == (1e-3, 3.0, sensitivity)
    # Nobody yet: no less is told than of one round.
    assert training_budget(mechanism, 3.0, 1e-3, [[], []], 1).epsilon == gaussian_epsilon(3.0, 1e-3)
