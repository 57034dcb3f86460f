"""The made machines that switch between states (`benchmarks/switching.py`)."""

import numpy as np
import pytest

import models.switching
from benchmarks.detection_recipes import fitted
from benchmarks.held_out_machines import MACHINES as HELD_OUT
from benchmarks.made_plants import PROMISED, behind
from benchmarks.switching import MIX, arguments, machine, over_machines
from benchmarks.switching_faults import FITS
from benchmarks.switching_machines import MACHINES
from pipeline.evaluation.metrics import evaluate


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_the_same_for_the_same_seed_and_labelled_where_its_faults_change_a_reading(name):
    made, again, other = (MACHINES[name](seed, MIX) for seed in (1, 1, 2))
    for part in ("train", "test", "label", "normal", "kinds"):
        np.testing.assert_array_equal(getattr(made, part), getattr(again, part))
    assert not np.array_equal(made.train, other.train)
    assert made.test.shape == made.normal.shape == (len(made.label), made.train.shape[1])
    assert len(made.train) > len(made.test) >= 4000
    assert all(np.isfinite(values).all() for values in (made.train, made.test, made.normal))
    assert made.label.dtype == np.bool_
    np.testing.assert_array_equal(made.label, (made.test != made.normal).any(axis=1))
    assert 0.05 < made.label.mean() < 0.15
    assert 8 <= len(made.kinds) <= 14
    assert set(made.kinds) <= {*FITS, "overload", "air_supply_loss"}


def test_faults_measured_by_what_the_machine_does_are_larger():
    small, large = (MACHINES["oven"](0, mix) for mix in (0.0, MIX))
    np.testing.assert_array_equal(small.normal, large.normal)
    assert small.kinds == large.kinds
    sizes = [(np.abs(made.test - made.normal) / made.train.std(axis=0)).sum() for made in (small, large)]
    assert sizes[1] > 1.5 * sizes[0]


def noticed(name):
    """Share of the labelled stretches of a machine that the default detector notices."""
    made = machine(name, 0)
    score, limits, first = fitted("default", [made], PROMISED)(made, made.test)
    return evaluate(score, made.truth, limits, made.step_seconds, training_threshold=first).event_recall


def test_the_default_notices_most_faults_because_it_knows_machines_that_switch(monkeypatch):
    names = ("conveyor", "oven")
    assert np.mean([noticed(name) for name in names]) > 0.6
    monkeypatch.setattr(models.switching, "SWITCHES", np.inf)
    assert np.mean([noticed(name) for name in names]) < 0.3


def test_the_mean_is_over_machines_and_those_behind_are_named():
    def of(default, baseline):
        others = {"event_recall": 0.5, "normal_flagged_share": 0.01}
        return {"default": {"auc_pr": default, **others}, "zscore": {"auc_pr": baseline, **others}}

    found = {"good": of(0.5, 0.505), "weak": of(0.3, 0.52)}
    assert behind(found) == ["weak"]
    assert over_machines(found)["default"]["auc_pr"] == pytest.approx(0.4)


def test_machines_are_of_the_set_that_is_asked_for():
    assert arguments([]).machines == list(MACHINES)
    assert arguments(["--held-out"]).machines == list(HELD_OUT)
    some = arguments(["--held-out", "--machines", "die_casting"])
    assert (some.machines, some.mix) == (["die_casting"], MIX)
    assert arguments(["--machines", "oven", "--mix", "0"]).mix == 0.0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--held-out", "--machines", "die_casting", "oven"], "oven: with --held-out the machines are"),
        (["--machines", "die_casting"], "die_casting: without --held-out the machines are"),
        (["--held-out", "--mix", "0.1"], "--mix: the faults of --held-out"),
    ],
)
def test_what_contradicts_the_set_is_refused(given, told, capsys):
    with pytest.raises(SystemExit):
        arguments(given)
    assert told in capsys.readouterr().err
