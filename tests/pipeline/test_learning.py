"""What the ways of learning hand on beside detectors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.liars import liar, lying
from ingestion.sitefile import read_site_dir
from models.detector import Detector
from models.options import DetectorOptions
from models.scaling import moments
from pipeline.artefacts import CENTRALISED, FEDERATED, Evaluation
from pipeline.config import Config, SiteConfig, load_config
from pipeline.config.change import changed
from pipeline.datasets.prepared import Prepared
from pipeline.datasets.snapshot import take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.jobs.job import dataset_settings, prepare_training
from pipeline.jobs.record import summarise
from pipeline.learning import cost
from pipeline.learning.configured import calibration
from pipeline.learning.learn import learn
from pipeline.learning.sharing import young_scaling
from pipeline.watch import SilentWatch
from tests.pipeline.plants import SETTINGS, plant, write_plants


def prepared_plants(folder: Path, settings: str = "", *, spikes: bool = False) -> tuple[Config, Prepared]:
    """Three plants, read and brought to shards; `spikes` are single readings of eight scales."""
    names = ("east", "north", "west")
    plants = {name: plant(seed) for seed, name in enumerate(names)}
    if spikes:
        for frame in plants.values():
            frame.loc[::37, "flow"] += 8 * frame["flow"].std()
    data = write_plants(folder / "data", plants)
    path = folder / "fedplant.toml"
    path.write_text("".join(f'[[sites]]\nname = "{name}"\n' for name in names) + SETTINGS + settings)
    config = load_config(path)
    readings = FileReadings(read_site_dir(data))
    snapshot = take_snapshot(readings.sources(), dataset_settings(config))
    return config, prepare_training(config, folder / "datasets", snapshot, readings, SilentWatch())


def test_every_key_of_the_detectors_table_reaches_the_detector():
    asked = {
        "sources": ["pca"],
        "threshold": "tail",
        "false_alarm_rate": 0.02,
        "alarms_per_week": 3.0,
        "threshold_follows": False,
        "averages": ["5min", "1h"],
        "follow_from": "2d",
    }
    config = changed(Config(sites=[SiteConfig(name="any")]), {"detector": asked})
    assert calibration(config) == DetectorOptions(
        sources=("pca",),
        rule="tail",
        false_alarm_rate=0.02,
        alarms_per_week=3.0,
        threshold_follows=False,
        average_seconds=(300.0, 3600.0),
        follow_from_seconds=172_800.0,
    )
    assert calibration(changed(config, {"scoring": {"hold_off": "30s"}})).hold_off_seconds == 30.0
    # Logarithms are of the data set; with another key this test asks where it goes.
    assert set(asked) | {"logarithms"} == set(type(config.detector).model_fields)


def test_another_hold_off_is_another_training_only_where_alarms_are_counted_by_it():
    config = Config(sites=[SiteConfig(name="any")])
    other = {"scoring": {"hold_off": "30s"}}
    counted = changed(config, {"detector": {"threshold": "alarms_per_week"}})
    assert changed(config, other).fingerprint_fields() == config.fingerprint_fields()
    assert changed(counted, other).fingerprint_fields() != counted.fingerprint_fields()
    # Results of releases before, which counted by the default, are still those of these settings.
    assert "scoring" not in counted.fingerprint_fields()


def test_linear_sources_of_a_federation_are_those_of_the_pooled_data(tmp_path):
    config, prepared = prepared_plants(
        tmp_path, '[detector]\nsources = ["ridge", "stiff_ridge", "pca"]\n', spikes=True
    )
    rows = prepared.training_rows()
    learned = learn(
        config, prepared.dataset, rows, [FEDERATED, CENTRALISED], workdir=tmp_path / "w", watch=SilentWatch()
    )
    federated, pooled = (learned.scorers[mode]["east"] for mode in (FEDERATED, CENTRALISED))
    assert isinstance(federated, Detector) and isinstance(pooled, Detector)
    for one, other in zip(federated.sources, pooled.sources, strict=True):
        for name, values in one.arrays().items():
            # The cut before the validation part takes the ridges the past of three rows; the components look at no past.
            np.testing.assert_allclose(values, other.arrays()[name], atol=1e-4 if one.name == "pca" else 0.02)


def test_a_site_that_was_left_out_on_the_way_is_told_with_the_reason(tmp_path):
    config, prepared = prepared_plants(tmp_path)
    Path(prepared.dataset.shards["north"].train).write_bytes(b"not a shard " * 9)
    rows = prepared.training_rows()
    learned = learn(config, prepared.dataset, rows, [FEDERATED], workdir=tmp_path / "w", watch=SilentWatch())
    warnings = summarise(tmp_path, config, prepared, learned, Evaluation()).warnings
    for what in ("federated rounds", "shared sum of statistics"):
        assert any(
            line.startswith(f"north: left out of the {what}: its shard cannot be read") for line in warnings
        )
    assert learned.detector is not None and set(learned.detector.sites) == {"east", "north", "west"}


@pytest.mark.parametrize("aggregation", ["mean", "median"])
def test_that_too_few_sites_were_left_for_a_robust_aggregation_is_told(aggregation, tmp_path):
    config, prepared = prepared_plants(tmp_path)
    config = changed(config, {"training": {"aggregation": aggregation}, "detector": {"sources": ["network"]}})
    Path(prepared.dataset.shards["north"].train).write_bytes(b"not a shard " * 9)
    learned = learn(
        config,
        prepared.dataset,
        prepared.training_rows(),
        [FEDERATED],
        workdir=tmp_path / "w",
        watch=SilentWatch(),
    )
    told = [site for site, what in learned.remarks if "could not tell a bad one apart" in what]
    assert told == (["east", "west"] if aggregation == "median" else [])


def test_a_site_whose_update_would_outweigh_the_others_is_told_in_the_warnings_and_takes_part(tmp_path):
    config, prepared = prepared_plants(tmp_path)
    shards = {
        **prepared.dataset.shards,
        "north": liar(prepared.dataset.shards["north"], "turned round, tenfold"),
    }
    dataset = replace(prepared.dataset, shards=shards)
    with lying():
        learned = learn(
            config,
            dataset,
            prepared.training_rows(),
            [FEDERATED],
            workdir=tmp_path / "w",
            watch=SilentWatch(),
        )
    rounds = len(learned.curves.modes[FEDERATED].rounds)
    warnings = summarise(tmp_path, config, prepared, learned, Evaluation()).warnings
    (told,) = [line for line in warnings if "times as long" in line]
    assert told.startswith("north: its update was up to ") and f"in {rounds} of {rounds} rounds" in told
    assert "training.aggregation" in told
    assert learned.curves.modes[FEDERATED].excluded == {}


def test_sites_tell_young_ones_what_to_take_but_not_where_noise_protects_what_is_shared(tmp_path):
    config, prepared = prepared_plants(tmp_path)
    rows = {site: prepared.training_rows()[site] for site in prepared.dataset.shards}
    known = moments([rows["east"][0][:40]], len(prepared.dataset.sensors))
    told = young_scaling(config, prepared.dataset, rows)("east", known)
    assert not np.array_equal(told.scale, known.scaling().scale)
    private = changed(config, {"dataset": {"share_scale": False}})
    kept = young_scaling(private, prepared.dataset, rows)("east", known)
    np.testing.assert_array_equal(kept.scale, known.scaling().scale)
    noisy = changed(config, {"dataset": {"share_scale": False}, "training": {"statistics_noise": 1.0}})
    assert young_scaling(noisy, prepared.dataset, rows) is None
    assert young_scaling(config, prepared.dataset, {"east": rows["east"]}) is None


@pytest.mark.parametrize(("sources", "told"), [(["stiff_ridge", "pca"], True), (["pca", "excursion"], False)])
def test_what_ridges_of_many_sensors_cost_is_said_before_they_are_fitted(
    tmp_path, monkeypatch, sources, told
):
    assert cost.cost([499] * 4) is None and cost.cost([]) is None
    monkeypatch.setattr(cost, "_WORTH_SAYING", 0.0)
    config, prepared = prepared_plants(tmp_path, f"[detector]\nsources = {sources}\n")
    watch = SilentWatch()
    learn(
        config, prepared.dataset, prepared.training_rows(), [FEDERATED], workdir=tmp_path / "w", watch=watch
    )
    assert [line for line in watch.said if "sensors move" in line] == ([cost.cost([3, 3, 3])] if told else [])
