"""The live scorer follows sensors that never moved in training as the detector does, across gaps, and goes on with older detectors."""

import dataclasses
import json

import numpy as np
import pytest

from models.baselines import fit_baseline
from models.export import export_detector
from models.scaling import moments
from models.sensors import follow, no_memory
from pipeline.scoring.asset import AssetState, Job
from pipeline.scoring.buffer import GridRules, Held
from pipeline.scoring.memory import Memory
from pipeline.scoring.model import ServingModel

NAMES = ("flow", "heat", "stop")
MINUTE = 60 * 10**9
WOKE, TOLD = 50, 90


def recording(rows, seed):
    values = np.random.default_rng(seed).normal(size=(rows, 3))
    values[:, 2] = 0.0
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def detector():
    train = recording(2000, 1)
    return fit_baseline("pca", NAMES, 60.0, 8, {"a": moments([train], 3).scaling()}, {"a": [train]})


@pytest.fixture(scope="module")
def model(detector, tmp_path_factory):
    return ServingModel.load(export_detector(detector, tmp_path_factory.mktemp("detectors") / "fleet"))


@pytest.fixture
def asset():
    return AssetState("a", "pump", GridRules(MINUTE, 3 * MINUTE, MINUTE), 3, 10 * MINUTE)


@pytest.fixture
def values():
    found = recording(400, 2)
    found[WOKE:, 2] = 1.0
    return found


def job(asset, values, first, fresh=False):
    time_ns = (first + np.arange(len(values))) * MINUTE
    return Job("a", asset, time_ns, values, fresh, True, Held.nothing(3))


def test_a_sensor_that_is_no_longer_heard_stays_so_behind_a_gap(model, asset, values):
    before, behind = model.score([job(asset, values[:200], 0), job(asset, values[200:], 300, fresh=True)])
    assert before.contribution[WOKE + 2 : WOKE + TOLD, 2].min() > 1
    assert (behind.contribution[:, 2] == 0).all() and (behind.score < behind.threshold).mean() > 0.95


@pytest.mark.parametrize("split", [0, WOKE, 120])
def test_alerts_name_it_from_its_first_reading_on(model, asset, values, split):
    state = model.score([job(asset, values[:split], 0)])[0].state if split else None
    for stop in (split, WOKE, WOKE + 1, 200):
        if stop >= split:
            named = (("stop", "woke up"),) if stop > WOKE else ()
            assert model.suspects("a", state, values[split:stop]) == named


def test_a_detector_of_before_is_judged_without(model, values):
    old = dataclasses.replace(model, told_after=None)
    assert old.suspects("a", follow(no_memory(3), values[:40]), values[40:]) == ()


def test_a_memory_without_the_counts_is_not_taken_for_one_of_this_detector(model, asset, values):
    state = model.score([job(asset, values, 0)])[0].state
    kept = Memory(model.name, model.version, 0, state, NAMES, Held.nothing(3))
    assert kept.fits(model.name, model.version, model.state_shapes)
    less = {name: value for name, value in state.items() if name != "awake"}
    assert not dataclasses.replace(kept, state=less).fits(model.name, model.version, model.state_shapes)


def test_a_description_without_the_time_is_read_as_one_of_before(detector, tmp_path):
    folder = export_detector(detector, tmp_path / "fleet")
    path = folder / "assets.extra" / "detector.json"
    described = json.loads(path.read_text())
    assert ServingModel.load(folder).told_after == described.pop("told_after") == TOLD
    path.write_text(json.dumps(described))
    assert ServingModel.load(folder).told_after is None
