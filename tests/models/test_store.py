import dataclasses
import json

import numpy as np
import pytest

from models.architectures import AutoencoderSpec, TcnSpec, build
from models.baselines import fit_baseline
from models.detector import Detector
from models.errors import DetectorUnreadable
from models.fitting import fit_detector
from models.options import SOURCES, DetectorOptions
from models.scaling import moments
from models.store import SWITCHING_VERSION, format_version
from tests.models.stored import arrays_in
from tests.models.test_detector import SENSORS, STEPS, plant
from tests.models.test_fitting import RUNS


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


@pytest.fixture(scope="module")
def whole():
    """A detector with everything that can be stored: a machine that switches, networks of sites, logarithms, and another sampling period."""
    spec = TcnSpec(channels=2, dilations=(1,))
    floor = np.array([50.0, *[np.nan] * 4])
    scaling = {site: moments(of, 5, floor).scaling() for site, of in RUNS.items()}
    common, own = (build(spec, STEPS, 5, seed=seed).get_weights() for seed in (3, 4))
    options = DetectorOptions(sources=tuple(SOURCES), min_steps=200)
    return fit_detector(
        spec, common, SENSORS, 30.0, STEPS, scaling, RUNS, options, own_weights={"north": own}
    )


def test_everything_that_is_stored_is_read_back(whole, tmp_path):
    sources = tuple(dataclasses.replace(each, floor=0.25) for each in whole.sources[1:])
    networks = tuple(dataclasses.replace(each, floor=0.25) for each in whole.sources[0].networks)
    before = dataclasses.replace(
        whole, sources=(dataclasses.replace(whole.sources[0], networks=networks), *sources)
    )
    before.save(tmp_path / "kept")
    after = Detector.load(tmp_path / "kept")
    assert (after.step_seconds, after.steps, after.options) == (30.0, STEPS, before.options)
    assert [each.floor for each in after.sources] == [0.25] * 6
    assert [each.excursion for each in after.sources] == [each.excursion for each in before.sources]
    kept = before.table_arrays()
    assert {name: value.dtype for name, value in after.table_arrays().items()} == {
        name: value.dtype for name, value in kept.items()
    }
    for name, value in after.table_arrays().items():
        np.testing.assert_array_equal(value, kept[name], err_msg=name)


def test_an_array_of_another_shape_or_with_what_is_no_number_is_refused_whatever_it_is(whole, tmp_path):
    whole.save(tmp_path / "kept")
    arrays = arrays_in(tmp_path / "kept")
    assert {"floor", "restless", "descent", "regime_size", "0.source.group", "3.source.switches"} <= set(
        arrays
    )

    def refused(name, wrong):
        np.savez(tmp_path / "altered.npz", **{**arrays, name: wrong})
        with pytest.raises(DetectorUnreadable, match="not a saved detector"):
            Detector.load(tmp_path / "altered.npz")

    for name, value in arrays.items():
        if name == "header":
            continue
        for axis in range(value.ndim):
            refused(name, np.delete(value, -1, axis))
        if value.dtype.kind == "f":
            refused(name, np.where(np.arange(value.size).reshape(value.shape) == 0, np.inf, value))
    for group in ([0, 0, 2, 0], [0, -1, 0, 0]):
        refused("0.source.group", np.array(group, np.int32))
    refused("floor", np.where(np.isnan(arrays["floor"]), np.nan, -1.0))
    refused("regime_size", np.zeros_like(arrays["regime_size"]))
    header = json.loads(arrays["header"].tobytes())
    fewer = json.dumps({**header, "sites": header["sites"][:-1]}).encode()
    refused("header", np.frombuffer(fewer, np.uint8))


@pytest.mark.parametrize("source", ["network", "ridge"])
def test_what_a_machine_that_switches_is_told_by_is_in_the_format_whatever_the_source(source):
    scaling = {"east": moments(RUNS["east"], 5).scaling()}
    plain = DetectorOptions(sources=(source,), regimes=False, ordinary=False, fill=False)
    spec = TcnSpec(channels=2, dilations=(1,))
    weights = build(spec, STEPS, 5, seed=3).get_weights()
    found = fit_detector(spec, weights, SENSORS, 60.0, STEPS, scaling, {"east": RUNS["east"]}, plain)
    assert format_version(found) == SWITCHING_VERSION


def test_who_reads_while_it_is_written_sees_the_old_file_and_a_failure_leaves_it(tmp_path, monkeypatch):
    runs = {"north": [plant(300, 1)]}
    detector = fit_baseline(
        "zscore", SENSORS, 60.0, STEPS, {"north": moments(runs["north"], 5).scaling()}, runs
    )
    path = tmp_path / "kept"
    detector.save(path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        dataclasses.replace(detector, step_seconds=30.0).save(path)
        assert reader.read() == before
    after = path.read_bytes()
    assert after != before

    def full(file, **_):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space left"):
        detector.save(path)
    assert path.read_bytes() == after and list(tmp_path.iterdir()) == [path]
