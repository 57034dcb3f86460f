"""A machine with more sensors than a score sums over."""

import numpy as np
import pytest

from models import calibration, source_calibration
from models.architectures import TcnSpec
from models.export import export_detector
from models.fitting import fit_detector
from models.options import DetectorOptions
from models.scaling import moments
from models.stream import LOUDEST

SENSORS = [f"s{i}" for i in range(3 * LOUDEST)]


def wide(rows: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    common = np.sin(np.arange(rows)[:, None] / 20) * np.linspace(1, 3, len(SENSORS))
    return np.asarray(common + random.normal(size=(rows, len(SENSORS))))


def fitted(**options):
    runs = {"north": [wide(1000, 1)]}
    scaling = {"north": moments(runs["north"], len(SENSORS)).scaling()}
    of = DetectorOptions(sources=("pca",), **options)
    return fit_detector(TcnSpec(), None, SENSORS, 60.0, 16, scaling, runs, of)


@pytest.fixture(scope="module")
def detector():
    return fitted()


def test_the_score_sums_over_the_loudest_sensors_and_names_no_other(detector):
    values = wide(300, 2)
    values[200:220, 7] += 12
    found = detector.score("north", values)
    assert ((found.contribution > 0).sum(axis=1) <= LOUDEST).all()
    np.testing.assert_allclose(found.contribution.sum(axis=1), found.score, rtol=1e-5)
    assert not found.is_anomaly[:200].any() and found.is_anomaly[203:220].all()
    assert (found.contribution[203:220].argmax(axis=1) == 7).all()


def test_sensors_that_say_the_same_count_as_often_as_others(detector):
    values = wide(300, 2)
    values[200:, :] = 1e9
    found = detector.score("north", values)
    assert (found.contribution[250] > 0).sum() == LOUDEST
    np.testing.assert_allclose(found.contribution[250].sum(), found.score[250], rtol=1e-5)


def test_at_once_and_in_pieces_and_exported_give_the_same_numbers(detector, tmp_path):
    import tensorflow as tf

    values = wide(200, 2)
    values[60:90, 5], values[100] = np.nan, np.nan
    whole, _ = detector.stream("north", values, None)
    state, scores, at = None, [], 0
    for size in [1] * 50 + [30, 0, 120]:
        found, state = detector.stream("north", values[at : at + size], state)
        at += size
        scores.append(found.score)
    np.testing.assert_allclose(np.concatenate(scores), whole.score, rtol=1e-4)
    loaded = tf.saved_model.load(str(export_detector(detector, tmp_path / "wide")))
    start, stream = loaded.signatures["start"], loaded.signatures["stream"]
    site = tf.constant(["north"])
    out = stream(site=site, values=tf.constant(values[None], tf.float32), **start(site=site))
    np.testing.assert_allclose(out["score"][0], whole.score, rtol=1e-4)


def test_calibration_is_the_arithmetic_of_the_graph_and_a_score_of_one_is_rare(monkeypatch):
    seen = []
    real = calibration.threshold
    monkeypatch.setattr(
        calibration, "threshold", lambda score, *rest: seen.append(score) or real(score, *rest)
    )
    monkeypatch.setattr(
        source_calibration, "beyond", lambda sizes: np.abs(sizes) / np.quantile(np.abs(sizes), 0.99, axis=0)
    )
    runs = {"north": [wide(1000, 1)]}
    scaling = {"north": moments(runs["north"], len(SENSORS)).scaling()}
    options = DetectorOptions(sources=("excursion",), follow=0.0, weigh_sensors=False)
    detector = fit_detector(TcnSpec(), None, SENSORS, 60.0, 16, scaling, runs, options)
    assert detector.calibration.follow_rate[0] == 0
    np.testing.assert_allclose(detector.score("north", runs["north"][0]).score, seen[0], rtol=2e-3)
    assert 0.5 < np.quantile(seen[0], 0.99) <= 1.0001
