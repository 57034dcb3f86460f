"""Same snapshot, settings, seeds and versions: the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

from models.export import export_detector
from pipeline.artefacts import FEDERATED
from pipeline.config import load_config
from pipeline.datasets.snapshot import take_snapshot
from pipeline.datasets.sources import FileReadings
from pipeline.jobs.job import dataset_settings, prepare_training
from pipeline.learning.learn import learn
from pipeline.watch import SilentWatch
from tests.pipeline.plants import SETTINGS, plant, write_plants

ROOT = Path(__file__).parents[2]


def learned_files(folder: Path, data: Path) -> tuple[str, dict[str, bytes]]:
    """The data set's id and, by name, the files of the detector that was learned in `folder`, and of its SavedModel."""
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
    export_detector(learned.detector, folder / "exported", 1)
    files = sorted(path for path in folder.glob("exported/**/*") if path.is_file())
    return snapshot.id, {
        str(path.relative_to(folder)): path.read_bytes() for path in (folder / "detector", *files)
    }


def learned_elsewhere(folder: Path, data: Path, order: str) -> tuple[str, dict[str, bytes]]:
    """The same, of a process of its own: graphs are compiled anew there, and sets have the order that `order` seeds."""
    program = (
        "import sys; from pathlib import Path; from tests.pipeline.test_reproducible import learned_files\n"
        "print(learned_files(Path(sys.argv[1]), Path(sys.argv[2]))[0])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(data)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": order, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
        timeout=800,
    )
    files = [folder / "detector", *(path for path in folder.glob("exported/**/*") if path.is_file())]
    return ran.stdout.split()[-1], {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_trainings_in_other_folders_and_processes_give_the_same_files(tmp_path):
    data = write_plants(tmp_path / "data", {"east": plant(1), "west": plant(2)})
    snapshot, first = learned_elsewhere(tmp_path / "one", data, "1")
    assert learned_elsewhere(tmp_path / "two", data, "2") == (snapshot, first)
    assert len(first["detector"]) > 10_000 and "exported/1/saved_model.pb" in first
    # A process that has made other graphs numbers what it makes from elsewhere, which no file shows.
    assert learned_files(tmp_path / "three", data) == (snapshot, first)
