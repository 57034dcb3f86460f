"""Same snapshot, settings, seeds and versions: the same bytes."""

from pathlib import Path

from pipeline.artefacts import FEDERATED
from pipeline.config import load_config
from pipeline.datasets.snapshot import take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.jobs.job import dataset_settings, prepare_training
from pipeline.learning import learn
from pipeline.watch import SilentWatch
from tests.pipeline.plants import SETTINGS, plant, write_plants


def detector_bytes(folder: Path, data: Path) -> tuple[str, bytes]:
    """The data set's id and the file of the detector that was learned in `folder`."""
    from ingestion.sitefile import read_site_dir

    folder.mkdir()
    path = folder / "fedplant.toml"
    sites = '[[sites]]\nname = "east"\n[[sites]]\nname = "west"\n'
    path.write_text(sites + SETTINGS.replace("rounds = 3", "rounds = 2"))
    config = load_config(path)
    readings = FileReadings(read_site_dir(data))
    snapshot = take_snapshot(readings.sources(), dataset_settings(config))
    prepared = prepare_training(config, folder / "datasets", snapshot, readings, SilentWatch())
    rows = prepared.training_rows()
    learned = learn(config, prepared.dataset, rows, [FEDERATED], workdir=folder / "w", watch=SilentWatch())
    assert learned.detector is not None
    learned.detector.save(folder / "detector")
    return snapshot.id, (folder / "detector").read_bytes()


def test_two_trainings_in_different_folders_give_the_same_file(tmp_path):
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    snapshot, first = detector_bytes(tmp_path / "one", data)
    again = detector_bytes(tmp_path / "two", data)
    assert again == (snapshot, first) and len(first) > 10_000
