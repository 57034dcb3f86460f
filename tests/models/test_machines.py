import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from models.architectures import TcnSpec, build
from models.detector import Detector
from models.export import export_detector
from models.fitting import fit_detector
from models.scaling import moments
from tests.models.stranger import run_as_a_stranger

MACHINES = Path(__file__).parents[2] / "examples" / "machines"
STEPS = 64


def test_real_machines_score_the_same_here_stored_and_in_tensorflow_alone_without_chatter(tmp_path):
    runs = {}
    for path in sorted(MACHINES.glob("*.parquet"))[:2]:
        frame = pd.read_parquet(path).drop(columns=["timestamp", "asset", "label"], errors="ignore")
        runs[path.stem] = [frame.select_dtypes("number").to_numpy(np.float64)[:1500]]
    sensors = [str(name) for name in frame.select_dtypes("number").columns]
    spec = TcnSpec(channels=8)
    scaling = {site: moments(of_site, len(sensors)).scaling() for site, of_site in runs.items()}
    weights = build(spec, STEPS, len(sensors), seed=3).get_weights()
    detector = fit_detector(spec, weights, sensors, 60.0, STEPS, scaling, runs)
    detector.save(tmp_path / "kept")
    code = """
loaded = tf.saved_model.load(sys.argv[1]).signatures
site = tf.constant([sys.argv[2]])
out = loaded["stream"](site=site, values=tf.constant(np.load(sys.argv[3])[None]), **loaded["start"](site=site))
np.savez(sys.argv[4], **{k: v.numpy() for k, v in out.items()})
"""
    folder = export_detector(detector, tmp_path / "fleet", max_gap_ns=5, hold_ns=range(len(detector.sensors)))
    described = json.loads((folder / "assets.extra" / "detector.json").read_text())
    assert described["max_gap_ns"] == 5 and described["hold_ns"] == list(range(len(detector.sensors)))
    site = detector.sites[0]
    values = runs[site][0][-300:].astype(np.float32)
    np.save(tmp_path / "values.npy", values)
    told = [str(folder), site, str(tmp_path / "values.npy"), str(tmp_path / "out.npz")]
    run_as_a_stranger(code, tmp_path, *told)
    served, ours = np.load(tmp_path / "out.npz"), detector.score(site, values)
    stored = Detector.load(tmp_path / "kept").score(site, values)
    np.testing.assert_array_equal(stored.score, ours.score)
    np.testing.assert_allclose(served["score"][0], ours.score, rtol=1e-5)
    np.testing.assert_allclose(served["contribution"][0], ours.contribution, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(served["threshold"][0], ours.threshold, rtol=1e-5)
    assert np.isfinite(ours.score[detector.context :]).all() and ours.is_anomaly.mean() < 0.05


def test_exporting_and_scoring_many_detectors_writes_nothing_on_the_screen(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(MACHINES.parents[1])!r})
import numpy as np
from pathlib import Path
from models.baselines import fit_baseline
from models.export import export_detector
from models.scaling import moments
values = np.random.default_rng(1).normal(size=(300, 3))
for seed in range(8):
    found = fit_baseline("pca", "abc", 60.0, 32, {{"a": moments([values], 3).scaling()}}, {{"a": [values]}})
    found.score("a", values)
export_detector(found, Path("fleet"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    # What TensorFlow says on import is not ours.
    said = [line for line in done.stderr.splitlines() if any(w in line for w in ("retrac", "ssets", "WARN"))]
    assert (done.returncode, said) == (0, []), done.stderr[-2000:]
