"""`detector.logarithms` on its way through data sets, sums, trainings and judging; outside all is raw."""

import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ingestion.layout import Layout
from ingestion.sitefile import read_site_dir
from models.detector import Detector
from models.export import export_detector
from models.scaling import SensorScaling
from models.sources.gram import federated_prior
from models.sources.ridge import RidgeFit
from models.store import READS
from pipeline.artefacts import CENTRALISED, FEDERATED, LOCAL, MODES, Evaluation
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.config.change import changed
from pipeline.config.schema import Config
from pipeline.datasets.prepared import Prepared
from pipeline.datasets.shards import alone_shards
from pipeline.datasets.snapshot import take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.errors import ConfigError
from pipeline.evaluation.injection import found_faults
from pipeline.federation.statistics import Design, federated_statistics
from pipeline.jobs import trial
from pipeline.jobs.backtest import run_backtest
from pipeline.jobs.exports import read_exports
from pipeline.jobs.job import dataset_settings, prepare_training
from pipeline.jobs.record import summarise
from pipeline.manifest import run_id
from pipeline.scoring.asset import AssetState, Job
from pipeline.scoring.buffer import GridRules
from pipeline.scoring.model import ServingModel
from pipeline.scoring.settings import ScoringFailed
from pipeline.watch import SilentWatch
from tests.pipeline.plants import SETTINGS, START, learned_together, write_plants

UNTIL = datetime(2026, 3, 1, 10, tzinfo=timezone.utc)
LOGARITHMS = 'logarithms = ["vibration_*", "particles"]\n'
VARY = ["vibration_x", "vibration_y", "particles"]
SENSORS = ["oil", "particles", "vibration_x", "vibration_y"]


def shaken(seed: int, rows: int = 900) -> pd.DataFrame:
    """One machine, a reading a minute: three sensors that vary by factors with one load, and the oil's temperature. From row 620 on,
    every forty rows, one of the three leaves the load for ten: by less than its ordinary peaks, but not by less than its factor."""
    random = np.random.default_rng(seed)
    load = np.convolve(random.normal(size=rows + 19), np.ones(20) / np.sqrt(20), "valid")
    factors = 1.2 * load[:, None] + 0.15 * random.normal(size=(rows, 3))
    label = np.zeros(rows, int)
    for number, at in enumerate(range(620, rows - 20, 40)):
        factors[at : at + 10, number % 3] += 1.2 * random.choice([-1, 1])
        label[at : at + 10] = 1
    values = np.exp(factors) * [0.8, 1.5, 40.0] * (1 + seed)
    values[:, 2] = np.round(values[:, 2])
    values[5, 2] = 0.0
    frame = pd.DataFrame(values, columns=VARY)
    frame["oil"] = 60 - load + 0.3 * random.normal(size=rows)
    frame.insert(0, "timestamp", START + pd.to_timedelta(np.arange(rows), "min"))
    frame["label"] = label
    return frame


def by_hand(frame: pd.DataFrame) -> pd.DataFrame:
    """With the logarithms instead of the readings, and the floor's where there is none."""
    logged = frame.copy()
    for name in VARY:
        positive = frame[name].where(frame[name] > 0)
        logged[name] = np.log(positive.fillna(positive.min()))
    return logged


def configured(folder: Path, sites: list[str], detector: str = LOGARITHMS, more: str = "") -> Path:
    path = folder / "fedplant.toml"
    path.write_text(
        "".join(f'[[sites]]\nname = "{site}"\n' for site in sites)
        + SETTINGS
        + f"[detector]\n{detector}{more}"
    )
    return path


def prepared_from(
    folder: Path, frames: dict[str, pd.DataFrame], detector: str = LOGARITHMS
) -> tuple[Config, Prepared]:
    folder.mkdir(exist_ok=True)
    config = load_config(configured(folder, sorted(frames), detector))
    readings = FileReadings(read_site_dir(write_plants(folder / "data", frames)))
    snapshot = take_snapshot(readings.sources(), dataset_settings(config))
    return config, prepare_training(config, folder / "datasets", snapshot, readings, SilentWatch())


def shard_rows(path: str) -> np.ndarray:
    return np.frombuffer(b"".join(read_records(path)), "<f4").reshape(-1, 4)


def read_records(path: str) -> list[bytes]:
    import tensorflow as tf

    return list(tf.data.TFRecordDataset(path).as_numpy_iterator())


FRAMES = {"east": shaken(1), "north": shaken(2), "west": shaken(3), "young": shaken(4).iloc[500:]}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return prepared_from(tmp_path_factory.mktemp("raw"), FRAMES)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    frames = {site: by_hand(frame[frame["timestamp"] < UNTIL]) for site, frame in FRAMES.items()}
    return prepared_from(tmp_path_factory.mktemp("logged"), frames, "")


def test_shards_are_those_of_a_plant_that_sends_logarithms(raw, logged, tmp_path):
    """Moments, scales shared between sites, training and validation rows, and the shards of a site alone."""
    (_, ours), (_, theirs) = raw, logged
    assert ours.dataset.sensors == tuple(SENSORS) and sorted(ours.dataset.shards) == sorted(FRAMES)
    assert ours.dataset.scaling["young"]["scale"] != ours.dataset.own_scaling["young"]["scale"]
    for site, paths in ours.dataset.shards.items():
        others = theirs.dataset.shards[site]
        alone, alone_there = (
            alone_shards(each.dataset, site, tmp_path / name / site)
            for name, each in (("a", ours), ("b", theirs))
        )
        for one, other in ((paths, others), (alone, alone_there)):
            for split in ("train", "validation"):
                np.testing.assert_allclose(
                    shard_rows(getattr(one, split)), shard_rows(getattr(other, split)), atol=2e-5
                )


def test_the_shared_sum_over_shards_is_that_of_the_pooled_logarithms(raw):
    _, prepared = raw
    dataset, fit = prepared.dataset, RidgeFit(4)
    central = []
    for site in sorted(dataset.shards):
        scaling = SensorScaling.from_dict(dataset.scaling[site])
        parts = [scaling.apply(run.values) for runs in prepared.parts(site) for run in runs]
        sums = [fit.summarise(part, 0, len(part)) for part in parts]
        central.append(sums[0] if len(sums) == 1 else sums[0].plus(sums[1]))
    fleet = federated_statistics(dict(dataset.shards), Design(4))
    expected, found = federated_prior(central), fleet.prior("nobody")
    assert found.rows == expected.rows
    np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-9, atol=1e-9 * np.abs(expected.gram).max())


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A backtest of every way of training, with and without."""
    folder = tmp_path_factory.mktemp("judged")
    data = write_plants(folder / "data", {site: FRAMES[site] for site in ("east", "north", "west")})
    found = {}
    for name, detector in (("with", LOGARITHMS), ("without", "")):
        (folder / name).mkdir()
        exports = read_exports(
            data,
            UNTIL,
            Layout(),
            load_config(configured(folder / name, ["any"], detector)),
            None,
            SilentWatch(),
        )
        found[name] = run_backtest(exports, work_dir=folder / name / "w", report=None, watch=SilentWatch())
    return folder, found


def test_faults_of_sensors_that_vary_by_factors_are_found_much_better_in_every_way_of_training(judged):
    _, found = judged
    better = {
        mode: tuple(found[name].evaluation.mean[mode].auc_pr for name in ("with", "without"))
        for mode in MODES
    }
    assert set(better) == set(MODES)
    for mode in (FEDERATED, LOCAL, CENTRALISED):
        assert better[mode][0] > better[mode][1] + 0.2 and better[mode][0] > 0.6, better


def test_every_kept_detector_takes_them_and_the_network_learned_from_them(judged):
    folder, found = judged
    kept = [Detector.load(path) for path in sorted(folder.glob("with/w/runs/*/detectors/*/*"))]
    assert len(kept) == 2 + 3 * 3 and {each.logarithms for each in kept} == {tuple(SENSORS[1:])}
    assert all(Detector.load(path).floor is None for path in folder.glob("without/w/runs/*/detectors/*/*"))
    curves = [found[name].curves.modes[FEDERATED].rounds[-1].validation for name in ("with", "without")]
    assert curves[0] != curves[1]


def test_the_live_scorer_gives_the_detectors_scores_of_raw_readings(judged, tmp_path):
    folder, _ = judged
    detector = Detector.load(next(folder.glob("with/w/runs/*/detectors/federated/all")))
    values = FRAMES["east"][SENSORS].to_numpy()[600:]
    values[50, 1], values[60:64, 2] = 0.0, -1.0
    model = ServingModel.load(export_detector(detector, tmp_path / "fleet"))
    rules = GridRules(60 * 10**9, 300 * 10**9, 0)
    machine = AssetState("east", "m", rules, 4, 0)
    jobs = [
        Job("east", machine, np.arange(len(part)), part.astype(np.float32), False, True, None)
        for part in np.array_split(values, 7)
    ]
    scores = np.concatenate([each.score for each in model.score(jobs)])
    np.testing.assert_allclose(scores, detector.score("east", values).score, rtol=1e-4)
    told = tmp_path / "fleet" / "1" / "assets.extra" / "detector.json"
    later = max(READS) + 1
    told.write_text(json.dumps(json.loads(told.read_text()) | {"format_version": later}))
    known = ", ".join(map(str, READS))
    with pytest.raises(ScoringFailed, match=f"format version {later}, this release reads {known}"):
        ServingModel.load(tmp_path / "fleet" / "1")


def test_injected_faults_are_as_large_as_readings_vary(raw, monkeypatch):
    """`tune --by injected`: deviations of readings, not of logarithms, whatever the detector looks at."""
    config, prepared = raw
    seen = {}

    def spy(detector, site, held_out, deviation, seed):
        seen[site] = deviation
        return found_faults(detector, site, held_out, deviation, seed)

    monkeypatch.setattr(trial, "found_faults", spy)
    linear = changed(config, {"detector": {"sources": ["ridge"]}})
    done = trial.run_trial(linear, (), prepared, Path("unused"), lambda *_: None)
    assert done.failed is None
    learned = np.concatenate([run.values for run in prepared.parts("east")[0]])
    np.testing.assert_allclose(seen["east"][1:], learned.std(axis=0)[1:], rtol=1e-6)
    assert seen["east"][0] == prepared.dataset.scaling["east"]["scale"][0]


def test_a_recipe_may_take_them_with_a_data_set_of_its_own(tmp_path, capsys):
    data = write_plants(tmp_path / "data", {site: FRAMES[site] for site in ("east", "west")})
    recipe = f"[recipes.factors]\ndetector.sources = ['ridge']\ndetector.{LOGARITHMS}"
    config = configured(tmp_path, ["any"], 'sources = ["ridge"]\n', recipe)
    arguments = ["backtest", "--data", str(data), "--train-until", UNTIL.isoformat(), "--config", str(config)]
    assert run([*arguments, "--recipe", "default,factors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["recipes"]
    assert found["factors"]["mean"]["auc_pr"] > found["default"]["mean"]["auc_pr"] + 0.2
    assert len({of["manifest"]["snapshot"] for of in found.values()}) == 2


def test_without_the_option_data_sets_and_runs_keep_their_names(tmp_path):
    config = load_config(configured(tmp_path, ["a"], ""))
    asked = load_config(configured(tmp_path, ["a"]))
    assert "logarithms" not in dataset_settings(config).to_json()
    assert "logarithms" not in config.fingerprint_fields()["detector"]
    assert dataset_settings(asked).to_json()["logarithms"] == ("vibration_*", "particles")
    assert run_id("s", asked) != run_id("s", config)
    assert take_snapshot({}, dataset_settings(asked)).id != take_snapshot({}, dataset_settings(config)).id


def test_a_site_without_a_positive_reading_is_told_so(tmp_path):
    frames = {site: FRAMES[site].head(600) for site in ("east", "west")}
    frames["west"] = frames["west"].assign(particles=0.0, vibration_y=np.nan)
    config, prepared = prepared_from(tmp_path, frames, LOGARITHMS + 'sources = ["ridge"]\n')
    learned = learned_together(config, prepared, tmp_path)
    warnings = summarise(tmp_path, config, prepared, learned, Evaluation()).warnings
    told = [line for line in warnings if "logarithm" in line]
    assert told == [
        "west: no reading above 0, so none has a logarithm and all count as unknown: particles (detector.logarithms)"
    ]
    assert "west: sent no vibration_y while learning" in warnings


@pytest.mark.parametrize("pattern", ["vibraton_*", "Vibration_*", "load"])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_pattern_that_matches_nothing_is_refused_with_what_there_is(tmp_path, capsys, pattern, dry):
    data = write_plants(
        tmp_path / "data", {"east": FRAMES["east"].drop(columns="label"), "west": FRAMES["west"]}
    )
    config = configured(tmp_path, ["any"], f'logarithms = ["particles", "{pattern}"]\n')
    arguments = ["backtest", "--data", str(data), "--train-until", UNTIL.isoformat(), "--config", str(config)]
    assert run([*arguments, *dry]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"detector.logarithms: '{pattern}' matches no sensor" in error
    assert "name one of oil, particles, vibration_x, vibration_y" in error


@pytest.mark.parametrize("text", ['["a", "a"]', '[""]', '[" "]', '"vibration"', "true", "[1]"])
def test_what_is_no_list_of_patterns_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="logarithms"):
        load_config(configured(tmp_path, ["a"], f"logarithms = {text}\n"))
