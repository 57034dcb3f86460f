import json
import subprocess
import sys

import numpy as np
import pytest

from models.architectures import AutoencoderSpec, TcnSpec, build
from models.detector import CalibrationOptions, Detector, fit_detector
from models.errors import DetectorExists, InvalidModel, NotEnoughData
from models.export import export_detector
from models.scaling import SensorMoments, moments

SENSORS = ["flow", "pressure", "speed", "heat", "still"]
STEPS = 48


def plant(rows: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    common = np.sin(np.arange(rows)[:, None] / 20)
    values = 100 + common * [1, 2, 3, 4, 0] + random.normal(size=(rows, 5)) * [0.2, 0.2, 0.2, 0.2, 0]
    return np.asarray(values)


def fitted(spec, runs=None) -> Detector:
    runs = runs or {"north": [plant(500, 1)], "south": [plant(500, 2) * 2], "new": [plant(20, 3)]}
    scaling = {site: moments(of_site, 5).scaling() for site, of_site in runs.items()}
    weights = build(spec, STEPS, 5, seed=3).get_weights()
    return fit_detector(spec, weights, SENSORS, 60.0, STEPS, scaling, runs)


@pytest.mark.parametrize("spec", [TcnSpec(channels=8), AutoencoderSpec(widths=(16, 4))])
def test_saved_model_alone_gives_the_detectors_scores(spec, tmp_path):
    detector = fitted(spec)
    folder = export_detector(detector, tmp_path / "fleet", None)
    assert folder.name == "1"
    values = plant(200, 9)
    values[60, 2], values[70:160, 1], values[100, 0] = np.nan, np.inf, 130.0
    values[110:165] = np.nan
    windows = np.stack([values[i - STEPS : i] for i in range(STEPS, 201)]).astype(np.float32)
    np.save(tmp_path / "windows.npy", windows)
    np.save(tmp_path / "values.npy", values.astype(np.float32))
    code = f"""
import sys, numpy as np, tensorflow as tf
try:
    import models
    sys.exit("the project is on the path")
except ImportError:
    pass
loaded = tf.saved_model.load({str(folder)!r})
f, series = loaded.signatures["serving_default"], loaded.signatures["series"]
values = tf.constant(np.load({str(tmp_path / "values.npy")!r}))
w = tf.constant(np.load({str(tmp_path / "windows.npy")!r}))
for site in ("north", "nobody"):
    out = f(site=tf.fill([len(w)], site), window=w)
    np.savez({str(tmp_path)!r} + "/" + site + ".npz", **{{k: v.numpy() for k, v in out.items()}})
    long = series(site=tf.constant([site]), values=values)
    np.savez({str(tmp_path)!r} + "/" + site + "-series.npz", **{{k: v.numpy() for k, v in long.items()}})
assert series(site=tf.constant(["north"]), values=values[:0])["score"].shape == (0,)
assert np.isnan(series(site=tf.constant(["north"]), values=values[:{STEPS - 1}])["score"]).all()
try:
    f(site=tf.fill([1], "north"), window=w[:1, 1:])
except tf.errors.InvalidArgumentError as error:
    assert "needs at least {STEPS} steps" in str(error)
else:
    sys.exit("a short window was accepted")
"""
    # Site packages are on the path without the editable project: its finder is not installed under -S.
    packages = next(p for p in sys.path if p.endswith("site-packages"))
    prefix = f"import sys; sys.path.append({packages!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", prefix + code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for site, known in (("north", True), ("nobody", False)):
        ours, served = detector.score(site, values), np.load(tmp_path / f"{site}.npz")
        np.testing.assert_allclose(served["score"], ours.score[STEPS - 1 :], rtol=1e-5)
        np.testing.assert_allclose(
            served["contribution"], ours.contribution[STEPS - 1 :], rtol=1e-4, atol=1e-6
        )
        assert served["known_site"].tolist() == [known] * len(windows)
        assert ours.known_site == known
        long = np.load(tmp_path / f"{site}-series.npz")
        assert (long["score"].shape, long["threshold"].shape) == ((200,), (1,))
        assert np.isnan(long["score"][: STEPS - 1]).all()
        np.testing.assert_allclose(long["score"][STEPS - 1 :], served["score"], rtol=1e-5)
        np.testing.assert_allclose(
            long["contribution"][STEPS - 1 :], served["contribution"], rtol=1e-4, atol=1e-6
        )
        assert (long["threshold"][0], long["known_site"].tolist()) == (served["threshold"][0], [known])
    described = json.loads((folder / "assets.extra" / "detector.json").read_text())
    assert described["sensors"] == SENSORS
    assert sorted(described["sites"]) == ["north", "south"]
    with pytest.raises(DetectorExists, match="already there"):
        export_detector(detector, tmp_path / "fleet", 1)


def test_contributions_sum_to_the_score_and_name_the_sensor_that_jumped():
    detector = fitted(TcnSpec(channels=8))
    values = plant(300, 5)
    values[200:210, 2] += 30
    found = detector.score("north", values)
    assert np.isnan(found.score[: STEPS - 1]).all()
    np.testing.assert_allclose(found.contribution.sum(axis=1)[STEPS:], found.score[STEPS:], rtol=1e-5)
    assert found.is_anomaly[205]
    assert found.contribution[205].argmax() == 2


def test_too_little_data_and_wrong_weights_are_named():
    with pytest.raises(NotEnoughData, match="no site has a gap-free run"):
        fitted(TcnSpec(channels=8), {"north": [plant(10, 1)]})
    with pytest.raises(InvalidModel, match="do not fit"):
        fit_detector(TcnSpec(), [], SENSORS, 60.0, STEPS, {}, {}, CalibrationOptions())


def test_moments_merge_exactly_and_a_constant_or_dead_sensor_stays_finite():
    values = plant(400, 7) + 1e6
    values[:, 0] = np.nan
    values[50:60, 1] = np.inf
    parts = SensorMoments.of(values[:55]).merge(SensorMoments.of(values[55:])).scaling()
    whole = SensorMoments.of(values).scaling()
    np.testing.assert_allclose(parts.scale, whole.scale, rtol=1e-9)
    np.testing.assert_allclose(whole.mean[1], values[:, 1][np.isfinite(values[:, 1])].mean())
    assert (whole.mean[0], whole.scale[0]) == (0.0, 1.0)
    assert whole.scale[4] == pytest.approx(1000100.0)
    assert np.isnan(whole.apply(values)[0, 0])
