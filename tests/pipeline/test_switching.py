import json

import numpy as np
import pandas as pd

from pipeline.cli.main import run
from tests.models.test_switching import SENSORS, machine
from tests.pipeline.plants import START, write_plants

ROWS, JUDGED = 1500, 400


def test_a_backtest_says_whose_machine_switches(tmp_path, capsys):
    plants = {}
    for site, values in {
        "line": machine(ROWS + JUDGED, 1),
        "pump": machine(ROWS + JUDGED, 2, 0),
        "steady": machine(ROWS + JUDGED, 3, 0),
    }.items():
        plants[site] = pd.DataFrame(values, columns=SENSORS)
        plants[site].insert(0, "timestamp", START + pd.to_timedelta(np.arange(len(values)), "min"))
    data = write_plants(tmp_path / "data", plants)
    config = tmp_path / "fedplant.toml"
    config.write_text(
        '[[sites]]\nname = "any"\n[model]\nsteps = 40\n[detector]\nsources = ["ridge", "pca", "excursion"]\n'
    )
    until = (START + pd.Timedelta(minutes=ROWS)).isoformat()
    arguments = ["backtest", "--data", str(data), "--train-until", until, "--config", str(config)]
    assert run([*arguments, "--mode", "federated", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    told = [note for note in notes if "switches between states" in note]
    assert [note.split(":")[0] for note in told] == ["line"]
