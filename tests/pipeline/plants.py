"""Small plants with a known fault, for tests of whole paths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.artefacts import FEDERATED
from pipeline.cli.main import run
from pipeline.config.schema import Config
from pipeline.datasets.prepared import Prepared
from pipeline.learning.learn import learn
from pipeline.learning.learned import Learned
from pipeline.watch import SilentWatch

START = pd.Timestamp("2026-03-01T00:00:00Z")
UNTIL = "2026-03-01T10:00:00Z"
"""Learning ends here: ten hours behind the start."""
FAULT = slice(700, 760)


def plant(seed: int, rows: int = 900, faulty: bool = True) -> pd.DataFrame:
    """One machine, one reading a minute: three sensors that follow one load; in `FAULT` the third no longer does."""
    random = np.random.default_rng(seed)
    load = np.sin(np.arange(rows) / 17) + 0.3 * np.sin(np.arange(rows) / 5)
    values = np.stack([load, 2 * load + 5, -load], axis=1) * (1 + seed) + random.normal(0, 0.05, (rows, 3))
    label = np.zeros(rows, int)
    if faulty:
        values[FAULT, 2] += 6.0 * (1 + seed)
        label[FAULT] = 1
    frame = pd.DataFrame(values, columns=["load", "power", "flow"]).round(5)
    frame.insert(0, "timestamp", START + pd.to_timedelta(np.arange(rows), "min"))
    frame["label"] = label
    return frame


def write_plants(folder: Path, sites: dict[str, pd.DataFrame]) -> Path:
    """One CSV per site."""
    folder.mkdir(parents=True, exist_ok=True)
    for site, frame in sites.items():
        frame.to_csv(folder / f"{site}.csv", index=False)
    return folder


SETTINGS = """
[dataset]
train_until = "2026-03-01T10:00:00Z"
[model]
steps = 40
channels = 8
[training]
rounds = 3
batch = 16
stride = 2
"""
"""Small enough for seconds, large enough to find the fault: ten hours are learned, five are judged."""


def backtest_of(data: Path, config: Path | str) -> list[str]:
    """The command that learns until `UNTIL` from a folder of site files; more options can follow."""
    return ["backtest", "--data", str(data), "--train-until", UNTIL, "--config", str(config)]


def notes_of_backtest(
    folder: Path,
    plants: dict[str, pd.DataFrame],
    until: int,
    sources: str,
    capsys: pytest.CaptureFixture[str],
) -> list[str]:
    """What a federated backtest without a network tells of plants that learn `until` minutes behind the start; `sources` as in a configuration."""
    config = folder / "fedplant.toml"
    config.write_text(f'[[sites]]\nname = "any"\n[model]\nsteps = 40\n[detector]\nsources = {sources}\n')
    arguments = ["backtest", "--data", str(write_plants(folder / "data", plants))]
    arguments += ["--train-until", (START + pd.Timedelta(minutes=until)).isoformat(), "--config", str(config)]
    assert run([*arguments, "--mode", "federated", "--json"]) == 0
    found: list[str] = json.loads(capsys.readouterr().out)["notes"]
    return found


def learned_together(config: Config, prepared: Prepared, folder: Path) -> Learned:
    """What the sites of a prepared data set learn together, without a word on the screen."""
    rows = prepared.training_rows()
    return learn(config, prepared.dataset, rows, [FEDERATED], workdir=folder / "w", watch=SilentWatch())


def linear_config(folder: Path) -> str:
    """A configuration in the folder with these settings and without a network."""
    path = folder / "fedplant.toml"
    linear = '[detector]\nsources = ["ridge", "pca", "excursion"]\n'
    path.write_text('[[sites]]\nname = "any"\n' + SETTINGS + linear)
    return str(path)
