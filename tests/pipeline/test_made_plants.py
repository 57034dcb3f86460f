"""The made machines that detectors are held against (`benchmarks/made_plants.py`)."""

import numpy as np
import pytest

from benchmarks.made_machines import KINDS
from benchmarks.made_plants import machine, run, verdict
from pipeline.evaluation.injection import showing


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"many"}))
def test_a_made_machine_is_the_same_for_the_same_seed_and_has_faults_only_where_its_test_says(kind):
    made, again, other = machine(kind, 1), machine(kind, 1), machine(kind, 2)
    np.testing.assert_array_equal(made.test, again.test)
    assert not np.array_equal(made.train, other.train)
    assert len(made.train) == KINDS[kind].train and len(made.test) == KINDS[kind].test
    assert made.normal is not None
    np.testing.assert_array_equal(
        made.test[~made.truth], np.where(np.isfinite(made.test), made.normal, np.nan)[~made.truth]
    )
    assert 0.03 < made.truth.mean() < 0.3


def test_a_fault_begins_and_ends_where_a_known_value_shows_it():
    normal = np.zeros((10, 2))
    faulty, label = normal.copy(), np.zeros(10, bool)
    label[2:9] = True
    faulty[4, 0], faulty[6, 1], faulty[7, 0] = 1.0, 2.0, np.nan
    assert np.flatnonzero(showing(faulty, normal, label)).tolist() == [4, 5, 6]
    assert not showing(normal, normal, label).any()


def test_the_verdict_names_kinds_where_the_default_is_behind_or_loud():
    def of(default, baseline, flagged):
        return {
            "default": {"auc_pr": default, "normal_flagged_share": flagged},
            "zscore": {"auc_pr": baseline, "normal_flagged_share": 0.5},
        }

    found = {"good": of(0.5, 0.505, 0.005), "weak": of(0.5, 0.52, 0.0), "noisy": of(0.5, 0.1, 0.02)}
    assert verdict(found) == {"behind": ["weak"], "loud": ["noisy"]}


def test_logarithms_make_log_normal_machines_a_case_for_the_detector():
    raw, logged = (run(["heavy_tails"], ["ridge"], 1, logarithms=taken) for taken in (False, True))
    areas = [found["heavy_tails"]["ridge"]["auc_pr"] for found in (raw, logged)]
    assert areas[1] > areas[0] + 0.25
