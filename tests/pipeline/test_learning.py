"""What the ways of learning hand on beside detectors."""

from pathlib import Path

from ingestion.sitefile import read_site_dir
from pipeline.artefacts import FEDERATED, Evaluation
from pipeline.config import load_config
from pipeline.datasets.snapshot import take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.jobs.job import dataset_settings, prepare_training
from pipeline.jobs.record import summarise
from pipeline.learning import learn
from pipeline.watch import SilentWatch
from tests.pipeline.plants import SETTINGS, plant, write_plants


def test_a_site_that_was_left_out_on_the_way_is_told_with_the_reason(tmp_path):
    data = write_plants(
        tmp_path / "data", {name: plant(seed) for seed, name in enumerate(("east", "north", "west"))}
    )
    path = tmp_path / "fedplant.toml"
    path.write_text("".join(f'[[sites]]\nname = "{name}"\n' for name in ("east", "north", "west")) + SETTINGS)
    config = load_config(path)
    readings = FileReadings(read_site_dir(data))
    snapshot = take_snapshot(readings.sources(), dataset_settings(config))
    prepared = prepare_training(config, tmp_path / "datasets", snapshot, readings, SilentWatch())
    Path(prepared.dataset.shards["north"].train).write_bytes(b"not a shard " * 9)
    rows = prepared.training_rows()
    learned = learn(config, prepared.dataset, rows, [FEDERATED], workdir=tmp_path / "w", watch=SilentWatch())
    warnings = summarise(tmp_path, config, prepared, learned, Evaluation()).warnings
    for what in ("federated rounds", "shared sum of statistics"):
        assert any(
            line.startswith(f"north: left out of the {what}: its shard cannot be read") for line in warnings
        )
    assert learned.detector is not None and set(learned.detector.sites) == {"east", "north", "west"}
