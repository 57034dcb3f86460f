import numpy as np

from models.baselines import fit_baseline
from models.scaling import moments
from pipeline.datasets.run import Run
from pipeline.evaluation.judging import Judged
from pipeline.evaluation.sensors import sensor_notes
from pipeline.remarks import together


def test_an_evaluation_says_which_sensors_it_could_not_rely_on():
    random = np.random.default_rng(1)
    train = random.normal(size=(500, 8))
    train[:, 1:] *= [1, 0, 0, 0, 0, 0, 0]
    names = ("flow", "heat", *"abcdef")
    detector = fit_baseline(
        "pca", names, 60.0, 32, {"north": moments([train], 8).scaling()}, {"north": [train]}
    )
    later = train[:100].copy()
    later[50:, 0], later[40:, 1], later[60:, 3] = 0.5, np.nan, 7.0
    run = Run("north", "pump", 0, 60 * 10**9, later)
    notes = together(sensor_notes(detector, {"north": [Judged(run, np.zeros(100, np.int8))]}))
    assert notes == [
        "north: in training constant: a, b, c, d, e and 1 more",
        "north: where the readings of pump end, dead: heat; stuck: flow; woke up: b",
    ]
