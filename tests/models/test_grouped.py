"""One detector in which sites have weights of their own: each scores as a detector of its weights alone would."""

import numpy as np
import pytest

from models.architectures import AutoencoderSpec, TcnSpec, build
from models.detector import Detector
from models.export import export_detector
from models.fitting import fit_detector
from models.options import DetectorOptions
from models.scaling import moments
from tests.models.stranger import run_as_a_stranger
from tests.models.test_detector import SENSORS, STEPS, hard_values, plant

SITES = {
    "east": [plant(300, 1)],
    "north": [plant(300, 2) * 2],
    "south": [plant(300, 3)],
    "west": [plant(300, 4)],
}
OPTIONS = DetectorOptions(sources=("network",))


def weights(spec, seed: int) -> list[np.ndarray]:
    return build(spec, STEPS, 5, seed=seed).get_weights()


def fitted(spec, common: int, own: dict[str, int] | None = None) -> Detector:
    scaling = {site: moments(runs, 5).scaling() for site, runs in SITES.items()}
    theirs = {site: weights(spec, seed) for site, seed in (own or {}).items()}
    return fit_detector(
        spec, weights(spec, common), SENSORS, 60.0, STEPS, scaling, SITES, OPTIONS, own_weights=theirs
    )


@pytest.mark.parametrize("spec", [TcnSpec(channels=4), AutoencoderSpec(widths=(8, 3))])
def test_a_site_scores_by_its_own_weights_and_all_others_by_the_common_ones(spec, tmp_path):
    grouped = fitted(spec, 1, {"north": 2, "south": 3, "west": 2})
    assert len(grouped.sources[0].networks) == 3
    plain = {seed: fitted(spec, seed) for seed in (1, 2, 3)}
    values = hard_values()
    for site, seed in {"east": 1, "north": 2, "south": 3, "west": 2, "unheard": 1}.items():
        ours, theirs = grouped.score(site, values), plain[seed].score(site, values)
        np.testing.assert_allclose(ours.score, theirs.score, rtol=1e-4)
        assert ours.threshold == pytest.approx(theirs.threshold, rel=1e-4)
    # Scoring another detector of the same build in between changes nothing.
    other = fitted(spec, 4, {"north": 5, "south": 6})
    before = grouped.score("north", values).score
    assert not np.allclose(other.score("north", values).score, before, equal_nan=True)
    np.testing.assert_array_equal(grouped.score("north", values).score, before)
    grouped.save(tmp_path / "detector")
    again = Detector.load(tmp_path / "detector")
    for site in (*SITES, "unheard"):
        np.testing.assert_array_equal(again.score(site, values).score, grouped.score(site, values).score)


def test_one_saved_model_serves_each_site_with_its_weights_by_tensorflow_alone(tmp_path):
    detector = fitted(TcnSpec(channels=4), 1, {"north": 2, "south": 3})
    folder = export_detector(detector, tmp_path / "fleet")
    values = hard_values()[:100]
    sites = ["north", "unheard", "south", "east", "north"]
    np.save(tmp_path / "values.npy", values.astype(np.float32))
    code = f"""
loaded = tf.saved_model.load({str(folder)!r})
serve, stream, start = (loaded.signatures[name] for name in ("serving_default", "stream", "start"))
values = np.load("values.npy")
site = tf.constant({sites!r})
every = tf.repeat(tf.constant(values)[None], len(site), axis=0)
state = start(site=site)
answer = stream(site=site, values=every, **state)
np.save("stream.npy", answer["score"].numpy())
np.save("serve.npy", serve(site=site, window=every[:, -{STEPS}:])["score"].numpy())
"""
    run_as_a_stranger(code, tmp_path)
    expected = np.stack([detector.score(site, values).score for site in sites])
    np.testing.assert_allclose(np.load(tmp_path / "stream.npy"), expected, rtol=1e-4)
    windows = np.stack([detector.score(site, values[-STEPS:]).score[-1] for site in sites])
    np.testing.assert_allclose(np.load(tmp_path / "serve.npy"), windows, rtol=1e-4)
    assert not np.allclose(expected[0], expected[1], equal_nan=True)
