import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.scaling import CLIP
from models.sources.gram import GramStatistics, federated_prior
from models.sources.pca import PcaFit
from models.sources.ridge import RidgeFit, ridge_weights
from pipeline.datasets.shards import ShardPaths, write_shard
from pipeline.errors import ConfigError, TrainingFailed
from pipeline.federation import statistics
from pipeline.federation.privacy import (
    Budget,
    StatisticsNoise,
    gaussian_epsilon,
    gram_sensitivity,
    noisy_gram,
)
from pipeline.federation.statistics import (
    Design,
    FleetStatistics,
    federated_statistics,
    impossible,
    statistics_process,
)

SENSORS = 4
Runs = dict[str, list[np.ndarray]]


def sites() -> Runs:
    """Several runs a site, one too short for a row of the design, with silent cells and values beyond the clip."""
    random = np.random.default_rng(5)
    found: Runs = {}
    for site, lengths in {"a": [200, 3, 57], "b": [90], "c": [30, 31]}.items():
        runs = [random.normal(size=(length, SENSORS)).astype(np.float32) for length in lengths]
        runs[0][10:20, 1] = np.nan
        runs[0][5, 2] = 9.5
        found[site] = runs
    return found


def shards(folder: Path, runs: Runs) -> dict[str, ShardPaths]:
    """The last run of a site that has several is its validation."""
    made = {}
    for site, each in runs.items():
        folder.mkdir(exist_ok=True)
        train, validation = folder / f"{site}.train.tfrecord", folder / f"{site}.validation.tfrecord"
        write_shard(train, each[:-1] or each)
        write_shard(validation, each[-1:] if len(each) > 1 else [])
        made[site] = ShardPaths(str(train), str(validation), 1, 1 if len(each) > 1 else 0)
    return made


def total(fit: RidgeFit | PcaFit, runs: list[np.ndarray]) -> GramStatistics:
    found = fit.summarise(runs[0], 0, len(runs[0]))
    for run in runs[1:]:
        found = found.plus(fit.summarise(run, 0, len(run)))
    return found


def close(one: np.ndarray, two: np.ndarray) -> bool:
    return float(np.abs(one - two).max()) <= 1e-9 * float(np.abs(two).max())


def test_the_federated_sum_is_the_centralised_one_and_solves_the_same_ridge(tmp_path: Path) -> None:
    runs = sites()
    fit = RidgeFit(SENSORS)
    central = {site: total(fit, each) for site, each in runs.items()}
    fleet = federated_statistics(shards(tmp_path, runs), Design(SENSORS))
    expected = federated_prior(list(central.values()))
    found = fleet.prior()
    assert found is not None and expected is not None and found.rows == 1.0
    assert close(found.gram, expected.gram)
    for site, each in central.items():
        assert close(fleet.own[site].gram, each.per_row().gram)
        others = federated_prior([central[other] for other in runs if other != site])
        left = fleet.prior(without=site)
        assert others is not None and left is not None and close(left.gram, others.gram)
    np.testing.assert_array_equal(
        ridge_weights(found, SENSORS, 0.1).round(5), ridge_weights(expected, SENSORS, 0.1).round(5)
    )


def test_the_design_of_the_principal_components_is_the_one_without_past(tmp_path: Path) -> None:
    runs = sites()
    fleet = federated_statistics(shards(tmp_path, runs), Design(SENSORS, lags=0, clip=5.0))
    for site, each in runs.items():
        assert close(fleet.own[site].gram, total(PcaFit(SENSORS), each).per_row().gram)


def test_a_long_history_counts_row_by_row_to_its_end(tmp_path: Path) -> None:
    run = np.random.default_rng(8).normal(size=(40_000, 2)).astype(np.float32)
    fleet = federated_statistics(shards(tmp_path, {"a": [run]}), Design(2, lags=1))
    wide = run.astype(np.float64)
    rows = np.hstack([wide[1:], wide[:-1], np.ones((len(run) - 1, 1))])
    assert close(fleet.own["a"].gram, rows.T @ rows / len(rows))


def test_a_row_is_clipped_at_either_end_and_counts_if_it_is_a_sites_only_one(tmp_path: Path) -> None:
    run = np.array([[0.5, -1e3], [1e3, 0.25], [-1e3, 2.0]], np.float32)
    fleet = federated_statistics(shards(tmp_path, {"a": [run], "b": [run[1:]]}), Design(2, lags=1))
    kept = np.clip(run, -CLIP, CLIP).astype(np.float64)
    rows = np.hstack([kept[1:], kept[:-1], np.ones((2, 1))])
    assert close(fleet.own["a"].gram, rows.T @ rows / 2)
    assert close(fleet.own["b"].gram, np.outer(rows[1], rows[1]))
    # Of two sites the one is what the other is told.
    told = fleet.prior(without="a")
    assert told is not None and close(told.gram, fleet.own["b"].gram)


def test_tffs_own_runtime_gives_the_same_sum(tmp_path: Path) -> None:
    from pipeline.federation.worker import guarded_context

    made = shards(tmp_path, {**sites(), "short": [np.ones((3, SENSORS), np.float32)]})
    process = statistics_process(Design(SENSORS))
    context = guarded_context()
    try:
        with context.install():
            state, _ = process.next(
                process.initialize(), [f"{p.train}\n{p.validation}" for p in made.values()]
            )
    finally:
        context.close()
    fleet = federated_statistics(made, Design(SENSORS))
    assert state["sites"] == 3 == fleet.total.rows
    assert close(np.asarray(state["gram"]), fleet.total.gram)


def test_a_site_without_rows_or_shard_is_named_and_takes_no_part(tmp_path: Path) -> None:
    runs = {**sites(), "short": [np.ones((3, SENSORS), np.float32)]}
    made = shards(tmp_path, runs)
    made["gone"] = dataclasses.replace(made["a"], train=str(tmp_path / "nowhere"))
    Path(made["c"].train).write_bytes(b"not a shard " * 9)
    fleet = federated_statistics(made, Design(SENSORS))
    assert set(fleet.own) == {"a", "b"} and fleet.total.rows == 2
    assert fleet.excluded["short"] == "it has no run of 4 rows"
    assert "cannot be read" in fleet.excluded["gone"] and "cannot be read" in fleet.excluded["c"]
    everybody, others = fleet.prior(), fleet.prior(without="short")
    assert everybody is not None and others is not None and close(others.gram, everybody.gram)
    alone = federated_statistics({"b": made["b"]}, Design(SENSORS))
    assert alone.prior(without="b") is None
    with pytest.raises(TrainingFailed, match="short: it has no run"):
        federated_statistics({"short": made["short"]}, Design(SENSORS))


def test_noise_keeps_the_matrix_regular_is_drawn_once_and_tells_its_budget(tmp_path: Path) -> None:
    made = shards(tmp_path, sites())
    design = Design(SENSORS, largest_norm=3.0)
    noise = StatisticsNoise(1.0, unit="row")
    work = tmp_path / "work"
    first = federated_statistics(made, design, noise=noise, workdir=work)
    again = federated_statistics(dict(reversed(made.items())), design, noise=noise, workdir=work)
    elsewhere = federated_statistics(made, design, noise=noise)
    np.testing.assert_array_equal(first.total.gram, again.total.gram)
    assert first.total.rows == again.total.rows == 3
    assert first.budget == again.budget and not np.array_equal(first.total.gram, elsewhere.total.gram)
    plain = federated_statistics(made, design)
    assert first.budget is not None and first.budget.unit == "row"
    # Site c has 30 - 3 + 31 - 3 rows; a reading is in four of them, and each may turn round.
    assert first.budget.sensitivity == pytest.approx(2 * 4 * 9 / 55)
    assert first.budget.epsilon == pytest.approx(gaussian_epsilon(1.0, 1e-5))
    added = first.total.gram - plain.total.gram
    np.testing.assert_allclose(added, added.T, atol=1e-12)
    assert np.std(np.triu(added)[np.triu_indices(len(added))]) == pytest.approx(8 * 9 / 55, rel=0.25)
    for without in (None, "a"):
        prior = first.prior(without)
        assert prior is not None and np.linalg.eigvalsh(prior.gram).min() > 0
    # One whole site weighs more than the noise of a row hides.
    assert gram_sensitivity("site", 3.0, lags=3, fewest_rows=57) == 9.0
    with pytest.raises(ConfigError, match="largest_norm"):
        federated_statistics(made, Design(SENSORS), noise=noise)


@pytest.mark.parametrize("changed", ["noise", "bound", "readings"])
def test_noise_is_drawn_anew_where_it_hides_something_else(changed: str, tmp_path: Path) -> None:
    # No row is as long as the bound: the matrices say nothing of it, the noise does.
    runs, norm = sites(), 50.0
    noise = StatisticsNoise(2.0)

    def noisy() -> FleetStatistics:
        made = shards(tmp_path / "shards", runs)
        design = Design(SENSORS, largest_norm=norm)
        return federated_statistics(made, design, noise=noise, workdir=tmp_path / "work")

    first = noisy()
    assert first.budget is not None and first.budget.noise_multiplier == 2.0
    # Twice the four rows that hold a reading, of the 55 of site c.
    assert first.budget.sensitivity == pytest.approx(8 * norm**2 / 55)
    if changed == "noise":
        noise = StatisticsNoise(2.0, delta=1e-3)
    elif changed == "bound":
        norm = 60.0
    else:
        runs["a"][0][0, 0] += 1.0
    second = noisy()
    assert not np.array_equal(first.total.gram, second.total.gram)
    assert (first.budget == second.budget) == (changed == "readings")


def test_noise_moves_no_cell_one_way_and_has_the_same_size_in_each() -> None:
    gram, random = np.arange(9.0).reshape(3, 3), np.random.default_rng(7)
    gram += gram.T
    added = np.stack([noisy_gram(gram, 2.0, random) - gram for _ in range(4000)])
    np.testing.assert_allclose(added, added.transpose(0, 2, 1), atol=1e-12)
    # Four standard errors of the mean of so many draws.
    assert np.abs(added.mean(axis=0)).max() < 4 * 2.0 / np.sqrt(4000)
    np.testing.assert_allclose(added.std(axis=0), 2.0, rtol=0.06)


@pytest.mark.parametrize(("noise_multiplier", "delta"), [(0.0, 0.1), (np.inf, 0.1), (1.0, 0.0), (1.0, 1.0)])
def test_noise_that_hides_nothing_or_everything_is_refused(noise_multiplier: float, delta: float) -> None:
    with pytest.raises(ConfigError, match="expected a p"):
        StatisticsNoise(noise_multiplier, delta)


def test_noise_takes_nothing_but_negative_directions_from_what_the_others_are_told() -> None:
    budget = Budget(1.0, 1e-5, "row", 1.0, 1.0, "")
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]

    def told(*directions: float) -> np.ndarray:
        gram = rotation @ np.diag(directions) @ rotation.T
        prior = FleetStatistics(GramStatistics(2 * gram, 2.0), {}, budget=budget).prior()
        assert prior is not None and prior.rows == 1.0
        return np.asarray(rotation.T @ prior.gram @ rotation)

    np.testing.assert_allclose(told(3.0, 2.0, 1.0), np.diag([3.0, 2.0, 1.0]), atol=1e-9)
    # A millionth of the mean diagonal is left where there is nothing.
    np.testing.assert_allclose(told(3.0, 2.0, -2.0), np.diag([3.0, 2.0, 1e-6]), atol=1e-9)
    np.testing.assert_allclose(told(-3.0, -2.0, -2.0), np.zeros((3, 3)), atol=1e-9)


@pytest.mark.parametrize(
    "wrong", [{"sensors": 0}, {"lags": -1}, {"clip": 0.0}, {"largest_norm": 0.0}, {"clip": np.nan}]
)
def test_a_design_without_columns_or_of_bounds_that_leave_nothing_is_refused(wrong: dict[str, float]) -> None:
    assert Design(1, lags=0).width == 2
    with pytest.raises(ConfigError, match="expected"):
        Design(**{"sensors": 1, "lags": 0, **wrong})  # type: ignore[arg-type]


def test_rows_longer_than_the_bound_are_shortened_to_it_and_others_stay(tmp_path: Path) -> None:
    run = np.random.default_rng(2).normal(size=(60, SENSORS)).astype(np.float32)
    bounded = federated_statistics(shards(tmp_path, {"a": [run]}), Design(SENSORS, lags=0, largest_norm=2.0))
    rows = np.hstack([run, np.ones((60, 1))]).astype(np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    assert 0 < (length > 2.0).sum() < 60
    shortened = rows * np.minimum(1.0, 2.0 / length)
    assert close(bounded.own["a"].gram, shortened.T @ shortened / 60)


def test_a_site_that_tells_what_no_rows_can_be_is_named_and_takes_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, design = shards(tmp_path, sites()), Design(SENSORS)
    form = statistics._compiled(design)
    work, place = form.work, form.place("gram")

    def lie(spec: str, prepared: list[np.ndarray]) -> list[np.ndarray]:
        found = list(work(spec, prepared))
        if "b.train" in spec:
            found[place] = 1000 * found[place]
        return found

    monkeypatch.setattr(form, "work", lie)
    fleet = federated_statistics(made, design)
    assert set(fleet.excluded) == {"b"} and "mean square" in fleet.excluded["b"]
    assert fleet.total.rows == 2 and close(fleet.total.gram, fleet.own["a"].gram + fleet.own["c"].gram)


def test_statistics_that_no_rows_can_have_are_refused_with_the_reason(tmp_path: Path) -> None:
    design = Design(SENSORS)
    honest = federated_statistics(shards(tmp_path, sites()), design).own["a"].gram
    assert impossible(honest, design) is None

    def spoilt(change: Callable[[np.ndarray], None]) -> str:
        gram = honest.copy()
        change(gram)
        reason = impossible(gram, design)
        assert reason is not None
        return reason

    assert "mean square" in spoilt(lambda g: g.__imul__(1000))
    assert "rows a row" in spoilt(lambda g: g.__imul__(2)) and "rows a row" in spoilt(
        lambda g: g.__imul__(0.5)
    )
    assert "mean square" in spoilt(lambda g: g.__setitem__((0, 0), 1.001 * CLIP**2))
    assert "negative direction" in spoilt(lambda g: g[:-1, :-1].__imul__(-1))
    assert "not finite" in spoilt(lambda g: g.fill(np.nan))
    assert "not finite" in spoilt(lambda g: g[:2, :2].fill(np.inf))
    assert "not symmetric" in spoilt(lambda g: g[0].fill(0.5))
    assert "not symmetric" in spoilt(lambda g: g[:1, 1:2].__iadd__(1e-3))


@pytest.mark.parametrize("longest", [0.5, 2.0])
def test_statistics_of_rows_longer_than_the_bound_are_refused(longest: float, tmp_path: Path) -> None:
    design = Design(SENSORS, largest_norm=longest)
    honest = federated_statistics(shards(tmp_path, sites()), design).own["a"].gram
    assert impossible(honest, design) is None
    # The bound on a row bounds its square's mean, the trace: a little more of every sensor is beyond it.
    most = longest**2 - float(np.trace(honest))
    more = np.diag(np.r_[np.ones(design.width - 1), 0.0]) / (design.width - 1)
    assert impossible(honest + 0.99 * most * more, design) is None
    assert "rows longer than" in str(impossible(honest + (most + 0.01) * more, design))
    constant = np.diag(np.r_[np.zeros(design.width - 1), 1.01 * min(1.0, longest**2)])
    assert "rows a row" in str(impossible(constant, design))
