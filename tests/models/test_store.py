import json

import numpy as np
import pytest

from models.architectures import AutoencoderSpec, TcnSpec, build
from models.baselines import fit_baseline
from models.detector import Detector
from models.errors import DetectorUnreadable
from models.fitting import fit_detector
from models.options import DetectorOptions
from models.scaling import moments
from tests.models.stored import arrays_in
from tests.models.test_detector import SENSORS, STEPS, plant


@pytest.mark.parametrize(
    ("spec", "sources"),
    [
        (TcnSpec(channels=4, dilations=(1, 2)), ("ridge", "stiff_ridge", "pca", "excursion", "network")),
        (AutoencoderSpec(widths=(8, 2)), ("pca", "network")),
        (AutoencoderSpec(widths=(8, 2)), ("excursion",)),
    ],
)
def test_a_stored_detector_scores_as_before(spec, sources, tmp_path):
    runs = {"north": [plant(300, 1)], "south": [plant(300, 2) * 2]}
    scaling = {site: moments(of_site, 5).scaling() for site, of_site in runs.items()}
    weights = build(spec, STEPS, 5, seed=3).get_weights()
    options = DetectorOptions(sources=sources)
    before = fit_detector(spec, weights, SENSORS, 60.0, STEPS, scaling, runs, options)
    before.save(tmp_path / "kept")
    after = Detector.load(tmp_path / "kept")
    assert (after.sensors, after.sites, after.options) == (before.sensors, before.sites, before.options)
    for site in ("south", "nobody"):
        one, other = before.score(site, plant(120, 4)), after.score(site, plant(120, 4))
        np.testing.assert_array_equal(one.score, other.score)
        np.testing.assert_array_equal(one.threshold, other.threshold)
        assert one.known_site == other.known_site


@pytest.mark.parametrize("name", ["zscore", "pca"])
def test_a_stored_baseline_scores_as_before(name, tmp_path):
    runs = {"north": [plant(300, 1)]}
    before = fit_baseline(name, SENSORS, 60.0, STEPS, {"north": moments(runs["north"], 5).scaling()}, runs)
    before.save(tmp_path / "kept")
    np.testing.assert_array_equal(
        Detector.load(tmp_path / "kept").score("north", plant(90, 4)).score,
        before.score("north", plant(90, 4)).score,
    )


class Trap:
    def __reduce__(self):
        return (open, ("trapped", "w"))


def test_every_damaged_file_is_refused_and_nothing_in_it_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = {"north": [plant(300, 1)]}
    scaling = {"north": moments(runs["north"], 5).scaling()}
    good = tmp_path / "good"
    fit_baseline("pca", SENSORS, 60.0, STEPS, scaling, runs).save(good)
    content = good.read_bytes()
    arrays = arrays_in(good)
    header = json.loads(arrays["header"].tobytes())

    def stored(**changes):
        with (tmp_path / "bad").open("wb") as file:
            np.savez(file, **{**arrays, **changes})
        return (tmp_path / "bad").read_bytes()

    def headed(**changes):
        return stored(header=np.frombuffer(json.dumps({**header, **changes}).encode(), np.uint8))

    flipped = bytearray(content)
    flipped[content.index(arrays["mean"].tobytes()) + 3] ^= 0xFF
    bad = {
        "empty": b"",
        "half": content[: len(content) // 2],
        "flipped": bytes(flipped),
        "text": b"hello",
        "pickle": stored(header=np.array([Trap()], object)),
        "shape": stored(mean=arrays["mean"][:, :-1]),
        "nan": stored(threshold=arrays["threshold"] * np.nan),
        "version": headed(format_version=99),
        "source": headed(sources=[{"name": "oracle", "floor": 0.1}]),
        "header": stored(header=np.frombuffer(b"[]", np.uint8)),
        "option": headed(options={"nonsense": 1}),
        "projection": stored(**{"0.source.projection": arrays["0.source.projection"][:, :2]}),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DetectorUnreadable, match="not a saved detector"):
            Detector.load(tmp_path / name)
    with pytest.raises(DetectorUnreadable):
        Detector.load(tmp_path / "missing")
    assert not (tmp_path / "trapped").exists()
