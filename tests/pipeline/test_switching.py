import numpy as np
import pandas as pd

from tests.models.test_switching import SENSORS, machine
from tests.pipeline.plants import START, notes_of_backtest

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
    notes = notes_of_backtest(tmp_path, plants, ROWS, '["ridge", "pca", "excursion"]', capsys)
    told = [note for note in notes if "switches between states" in note]
    assert [note.split(":")[0] for note in told] == ["line"]
