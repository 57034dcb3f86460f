import dataclasses
import json

import numpy as np
import pytest

from models import calibration, source_calibration
from models.architectures import AutoencoderSpec, TcnSpec, build
from models.detector import Detector
from models.errors import DetectorExists, InvalidModel, NotEnoughData
from models.export import export_detector
from models.fitting import fit_detector
from models.options import SOURCES, DetectorOptions
from models.regimes import usual_in
from models.scaling import SensorMoments, moments
from models.stream import CHUNK
from models.tracing import Traced
from tests.models.linear import fit_linear
from tests.models.pieces import same_in_pieces
from tests.models.stranger import run_as_a_stranger

SENSORS = ["flow", "pressure", "speed", "heat", "still"]
STEPS = 48


def plant(rows: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    common = np.sin(np.arange(rows)[:, None] / 20)
    values = 100 + common * [1, 2, 3, 4, 0] + random.normal(size=(rows, 5)) * [0.2, 0.2, 0.2, 0.2, 0]
    return np.asarray(values)


def fitted(spec, runs=None, options=None) -> Detector:
    runs = runs or {"north": [plant(500, 1)], "south": [plant(500, 2) * 2], "new": [plant(20, 3)]}
    scaling = {site: moments(of_site, 5).scaling() for site, of_site in runs.items()}
    weights = build(spec, STEPS, 5, seed=3).get_weights()
    return fit_detector(spec, weights, SENSORS, 60.0, STEPS, scaling, runs, options)


def hard_values() -> np.ndarray:
    """A recording with a dead cell, infinities, a jump, a stretch without any value and a sensor that wakes up."""
    values = plant(200, 9)
    values[60, 2], values[70:160, 1], values[100, 0] = np.nan, np.inf, 130.0
    values[20:, 4] += 3
    values[110:165] = np.nan
    return values


@pytest.mark.parametrize("spec", [TcnSpec(channels=8), AutoencoderSpec(widths=(16, 4))])
def test_saved_model_alone_gives_the_detectors_scores(spec, tmp_path):
    detector = fitted(spec)
    folder = export_detector(detector, tmp_path / "fleet", None)
    assert folder.name == "1"
    values = hard_values()
    windows = np.stack([values[i - STEPS : i] for i in range(STEPS, 201)]).astype(np.float32)
    np.save(tmp_path / "windows.npy", windows)
    np.save(tmp_path / "values.npy", values.astype(np.float32))
    code = f"""
loaded = tf.saved_model.load({str(folder)!r})
serve, stream, start = (loaded.signatures[name] for name in ("serving_default", "stream", "start"))
values = tf.constant(np.load({str(tmp_path / "values.npy")!r}))
w = tf.constant(np.load({str(tmp_path / "windows.npy")!r}))
names = list(start(site=tf.constant(["north"])))
for site in ("north", "nobody"):
    out = serve(site=tf.fill([len(w)], site), window=w)
    np.savez({str(tmp_path)!r} + "/" + site + ".npz", **{{k: v.numpy() for k, v in out.items()}})
    state, parts = start(site=tf.constant([site])), []
    for first in range(0, 200, 37):
        found = stream(site=tf.constant([site]), values=values[None, first:first + 37], **state)
        state = {{name: found[name] for name in names}}
        parts.append({{k: v.numpy()[0] for k, v in found.items() if k in ("score", "threshold", "contribution", "is_anomaly")}})
    np.savez(
        {str(tmp_path)!r} + "/" + site + "-stream.npz",
        known_site=found["known_site"].numpy(),
        **{{k: np.concatenate([part[k] for part in parts]) for k in parts[0]}},
    )
none = stream(site=tf.constant(["north"]), values=values[None, :0], **start(site=tf.constant(["north"])))
assert none["score"].shape == (1, 0)
nobody = tf.constant([], tf.string)
for answer in (serve(site=nobody, window=w[:0]), stream(site=nobody, values=w[:0], **start(site=nobody))):
    assert {{len(each) for each in answer.values()}} == {{0}} and answer["contribution"].shape[-1] == 5
try:
    serve(site=tf.fill([1], "north"), window=w[:1, :{detector.context}])
except tf.errors.InvalidArgumentError as error:
    assert "needs at least {detector.context + 1} steps" in str(error)
else:
    sys.exit("a short window was accepted")
"""
    run_as_a_stranger(code, tmp_path)
    for site, known in (("north", True), ("nobody", False)):
        ours, streamed = detector.score(site, values), np.load(tmp_path / f"{site}-stream.npz")
        np.testing.assert_allclose(streamed["score"], ours.score, rtol=1e-5)
        np.testing.assert_allclose(streamed["contribution"], ours.contribution, rtol=1e-4, atol=1e-6)
        assert streamed["is_anomaly"].tolist() == ours.is_anomaly.tolist()
        np.testing.assert_allclose(streamed["threshold"], ours.threshold, rtol=1e-5)
        assert streamed["known_site"].tolist() == [known]
        served = np.load(tmp_path / f"{site}.npz")
        alone = np.array([detector.score(site, window).score[-1] for window in windows])
        np.testing.assert_allclose(served["score"], alone, rtol=1e-5)
        np.testing.assert_allclose(served["threshold"], detector.training_threshold(site), rtol=1e-6)
        assert served["is_anomaly"].tolist() == (served["score"] > served["threshold"]).tolist()
        assert served["known_site"].tolist() == [known] * len(windows)
        assert ours.known_site == known
    described = json.loads((folder / "assets.extra" / "detector.json").read_text())
    assert described["sensors"] == SENSORS
    assert sorted(described["sites"]) == ["north", "south"]
    assert described["state"]["recent"] == [None, detector.context, 5]
    with pytest.raises(DetectorExists, match="already there"):
        export_detector(detector, tmp_path / "fleet", 1)


@pytest.mark.parametrize("spec", [TcnSpec(channels=8), AutoencoderSpec(widths=(16, 4))])
@pytest.mark.parametrize("follow_from", [100, 10**9])
def test_step_by_step_in_pieces_and_at_once_give_the_same_numbers(spec, follow_from):
    detector = fitted(spec, options=DetectorOptions(follow_from=follow_from))
    values = hard_values()
    same_in_pieces(detector, "south", values, [3, 0, 64, 1, 40, 92])


def test_a_stretch_longer_than_is_worked_on_at_once_has_the_numbers_of_its_pieces():
    detector = fit_linear(SENSORS, 60.0, STEPS, {"north": [plant(1500, 1)]})
    values = plant(2 * CHUNK + 7, 9)
    values[CHUNK - 3 : CHUNK + 9, 2] += 5.0
    whole, end = detector.stream("north", values, None)
    state, found = None, []
    for piece in np.split(values, [1000, CHUNK + 1, 2 * CHUNK + 5]):
        scores, state = detector.stream("north", piece, state)
        found.append(scores)
    for name in ("score", "threshold", "contribution"):
        joined = np.concatenate([getattr(each, name) for each in found])
        np.testing.assert_allclose(getattr(whole, name), joined, rtol=1e-4, atol=1e-5, err_msg=name)
    for name, value in end.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_no_sum_of_a_score_depends_on_which_thread_was_quicker():
    """`AddN` begins with the first term that nobody else reads any more; what remains of it once the graph was rewritten is looked for."""
    from tensorflow.python.eager import context

    detector = fitted(TcnSpec(channels=8))
    context.context().enable_run_metadata()
    try:
        # Traced anew: graphs are told once, when a function is first run.
        Traced(detector)(detector, 0, hard_values().astype(np.float32), None)
        ran = context.context().export_run_metadata().function_graphs
    finally:
        context.context().disable_run_metadata()
    graphs = [each.post_optimization_graph for each in ran]
    bodies = [function.node_def for graph in graphs for function in graph.library.function]
    nodes = [node for part in (*bodies, *(graph.node for graph in graphs)) for node in part]
    assert any(node.op == "BatchMatMulV2" for node in nodes)
    assert not [node.name for node in nodes if node.op == "AddN" and len(node.input) > 2]


@pytest.mark.parametrize("switches", [False, True])
def test_training_scores_are_what_the_graph_gives_for_the_training(switches, monkeypatch):
    """The numpy calibration and the TensorFlow graph are the same arithmetic: in sample both give the same scores."""
    seen = {}
    real = calibration.threshold

    def spy(score, options, step_seconds):
        seen.setdefault(len(score), score)
        return real(score, options, step_seconds)

    monkeypatch.setattr(calibration, "threshold", spy)

    def in_sample(sizes):
        return np.abs(sizes) / np.maximum(np.quantile(np.abs(sizes), 0.99, axis=0), 0.5)

    def usual_in_all(residual, of, floor, switching):
        return tuple(of @ each for each in usual_in(residual, of, floor, switching))

    monkeypatch.setattr(source_calibration, "beyond", in_sample)
    monkeypatch.setattr(source_calibration, "usual_in_others", usual_in_all)
    options = DetectorOptions(sources=("excursion", "network"), follow=0.1, follow_from=60)
    jumps = np.arange(1500)[:, None] // 60 % 2 * [20, 20, 20, 20, 0] * switches
    runs = {"north": [plant(1500, 1) + jumps]}
    detector = fitted(TcnSpec(channels=8), runs, options)
    assert detector.calibration.damped == switches
    # A detector at the training's beginning, not its end.
    row, tables = detector.row("north"), detector.calibration
    assert tables.follow_rate[row] > 0
    first = dataclasses.replace(tables, last_baseline=tables.centre, last_level=tables.usual)
    early = dataclasses.replace(detector, calibration=first)
    found = early.score("north", runs["north"][0])
    score = found.score[detector.context :]
    # The graph follows the first steps of the run too, which calibration leaves out; that is forgotten by then.
    np.testing.assert_allclose(score[900:], seen[len(score)][900:], rtol=2e-3)
    limit = float(tables.threshold[row])
    below = np.log(limit / np.clip(score, limit / 20, limit))
    assert tables.margin[row] == pytest.approx(below.mean(), rel=2e-2)
    assert found.threshold[0] == pytest.approx(limit)


def test_a_slow_change_is_followed_and_a_fast_one_is_not():
    options = DetectorOptions(sources=("excursion", "ridge"), follow_from=1000)
    detector = fitted(TcnSpec(), {"north": [plant(3000, 1)]}, options)
    rows = 6000
    drift = plant(rows, 8)
    drift[:, 1] += np.linspace(0, 0.5, rows)
    blind = fitted(
        TcnSpec(),
        {"north": [plant(3000, 1)]},
        DetectorOptions(sources=("excursion", "ridge"), follow_from=10**9),
    )
    assert detector.score("north", drift).is_anomaly[-1000:].mean() < 0.3 * max(
        blind.score("north", drift).is_anomaly[-1000:].mean(), 0.01
    )
    jump = plant(400, 8)
    jump[300:, 1] += 4
    assert detector.score("north", jump).is_anomaly[320:].all()


def test_a_threshold_follows_what_is_usual_for_good_and_no_incident_lifts_it_away():
    options = DetectorOptions(sources=("ridge",), false_alarm_rate=0.01)
    detector = fitted(TcnSpec(), {"north": [plant(500, 1)]}, options)
    first = float(detector.calibration.threshold[0])
    noisier = plant(12_000, 8) + np.random.default_rng(1).normal(size=(12_000, 5)) * 0.2
    noisier[:, 4] = 100
    found = detector.score("north", noisier)
    assert found.is_anomaly[:1000].mean() > 3 * found.is_anomaly[-2000:].mean()
    assert first < found.threshold[-1] < 2.001 * first
    assert (np.abs(np.diff(found.threshold)) < 0.002 * first).all()
    incident = plant(600, 8)
    incident[200:500, 1] += 40
    during = detector.score("north", incident)
    assert during.is_anomaly[205:500].all()
    assert during.threshold.max() < 1.5 * first
    assert during.threshold.min() >= first / 1.251
    still = fitted(
        TcnSpec(), {"north": [plant(500, 1)]}, dataclasses.replace(options, threshold_follows=False)
    )
    kept = still.score("north", noisier)
    np.testing.assert_allclose(kept.score, found.score, rtol=1e-5)
    assert (kept.threshold == np.float32(first)).all() and first == still.training_threshold("north")


def test_a_threshold_falls_a_little_where_a_machine_is_calmer_than_in_training():
    def noisy(rows: int, seed: int, size: float) -> np.ndarray:
        values = plant(rows, seed) + np.random.default_rng(seed).normal(size=(rows, 5)) * size
        values[:, 4] = 100
        return values

    detector = fitted(TcnSpec(), {"north": [noisy(500, 1, 0.3)]}, DetectorOptions(sources=("ridge",)))
    first = detector.training_threshold("north")
    found = detector.score("north", noisy(9000, 8, 0.15))
    assert (np.diff(found.threshold) < 1e-5 * first).mean() > 0.9
    assert found.threshold[-1] == pytest.approx(first / 1.25, rel=1e-3)
    assert found.threshold.max() <= first * 1.01


def test_a_score_falls_as_soon_as_the_machine_has_recovered():
    options = DetectorOptions(sources=("ridge",), false_alarm_rate=0.001)
    detector = fitted(TcnSpec(), {"north": [plant(500, 1)]}, options)
    values = plant(300, 6)
    values[200:230, 2] += 30
    found = detector.score("north", values)
    assert found.is_anomaly[202:230].all()
    # The average over 30 steps alone would stay above for some fifty.
    assert not found.is_anomaly[246:].any()


@pytest.mark.parametrize("source", list(SOURCES))
def test_every_source_alone_is_a_detector(source):
    detector = fitted(TcnSpec(channels=8), options=DetectorOptions(sources=(source,)))
    values = plant(300, 6)
    values[200:260, 2] += 30
    found = detector.score("north", values)
    assert found.is_anomaly[205:255].all()
    assert found.is_anomaly[:200].mean() < 0.05


def test_contributions_sum_to_the_score_and_name_the_sensor_that_jumped():
    detector = fitted(TcnSpec(channels=8))
    values = plant(300, 5)
    values[200:210, 2] += 30
    found = detector.score("north", values)
    assert np.isnan(found.score[: detector.context]).all()
    scored = slice(detector.context, None)
    np.testing.assert_allclose(found.contribution.sum(axis=1)[scored], found.score[scored], rtol=1e-5)
    assert found.is_anomaly[205]
    assert found.contribution[205].argmax() == 2


def test_too_little_data_and_wrong_weights_are_named():
    with pytest.raises(NotEnoughData, match="no site has a gap-free run"):
        fitted(TcnSpec(channels=8), {"north": [plant(10, 1)]})
    with pytest.raises(InvalidModel, match="do not fit"):
        fit_detector(TcnSpec(), [], SENSORS, 60.0, STEPS, {}, {}, DetectorOptions())


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
