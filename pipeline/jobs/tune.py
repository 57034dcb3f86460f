"""`fedplant tune`: a search over a few training settings by the federated validation loss, within a time budget.

One setting after the other is varied around the best found so far, beginning with the configuration itself. Every finished trial is
a file, and a trial under way has its checkpoints: killed and started again, the search goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts import write_json
from pipeline.config.change import changed
from pipeline.config.schema import Config
from pipeline.datasets.shards import Dataset
from pipeline.errors import ConfigError, NothingToDo, TrainingFailed
from pipeline.learning import architecture
from pipeline.watch import Watch

Choice = tuple[tuple[str, str, Any], ...]
"""What differs from the configuration: section, key, value."""


@dataclass(frozen=True)
class Trial:
    """One training: what differs from the configuration, and what came of it.

    Attributes:
      changes: `section.key` to value; empty for the configuration itself.
      validation: loss of the best round; None if it failed.
      rounds: that it took.
      seconds: that they took.
      failed: why, if it failed.
    """

    changes: Mapping[str, Any]
    validation: float | None
    rounds: int = 0
    seconds: float = 0.0
    failed: str | None = None


@dataclass(frozen=True)
class Tuning:
    """What the search found.

    Attributes:
      trials: in the order of the search.
      finished: whether everything was tried; else the budget ended first and the same command goes on.
      best: the trial of least validation loss; None if none has a validation loss.
      toml: what to write into the configuration, empty if it is the best.
      path: the file that holds it.
    """

    trials: tuple[Trial, ...]
    finished: bool
    best: Trial | None
    toml: str
    path: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def text(self) -> str:
        """The same for a person."""
        lines = [f"{'validation':>10}  {'rounds':>6}  {'seconds':>7}  differs by"]
        for trial in sorted(self.trials, key=_loss):
            changes = ", ".join(f"{key} = {value}" for key, value in trial.changes.items())
            loss = "failed" if trial.validation is None else f"{trial.validation:.5f}"
            note = f" ({trial.failed})" if trial.failed else ""
            lines.append(
                f"{loss:>10}  {trial.rounds:>6}  {trial.seconds:>7.1f}  {changes or 'nothing'}{note}"
            )
        if not self.finished:
            lines.append("the time budget ended the search; the same command goes on with it")
        if self.best is None:
            lines.append("no trial has a validation loss: give sites more data, then tune again")
        elif not self.toml:
            lines.append("the configuration itself is the best of them")
        else:
            lines.append(f"\nthe best of them, also in {self.path}:\n\n{self.toml.rstrip()}")
        return "\n".join(lines)


def stages(config: Config) -> list[tuple[str, str, tuple[Any, ...]]]:
    """What is varied, in this order: section, key and values beside the configured one."""
    rate, model = config.training.client_learning_rate, config.model
    found: list[tuple[str, str, tuple[Any, ...]]] = [
        ("training", "client_learning_rate", tuple(r for r in (rate / 3, rate * 3) if r <= 10)),
        ("training", "local_epochs", tuple(e for e in (1, 2, 4) if e != config.training.local_epochs)),
        ("training", "algorithm", ("fedavg", "fedprox", "fedavgm", "fedadam")),
    ]
    if config.training.local_steps is not None:
        del found[1]
    if model.architecture == "tcn":
        found.append(("model", "channels", (max(2, model.channels // 2), min(1024, model.channels * 2))))
    return found


def tune(
    config: Config,
    dataset: Dataset,
    folder: Path,
    *,
    budget: float,
    watch: Watch,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Search on a data set.

    Args:
      config: where the search begins.
      dataset: the shards.
      folder: for trials, checkpoints and the result; of this data set and configuration alone.
      budget: seconds, from now; the trial under way when they end goes on at the next call.
      watch: is told about every round.
      clock: seconds that only go forward.
    """
    until = clock() + budget
    trials: list[Trial] = []
    finished = False
    with watch.step("tuning") as step:
        search = _search(config)
        choice: Choice | None = next(search)
        while choice is not None:
            changes = _changes(choice)

            def on_round(number: int, validation: float | None, changes: Mapping[str, Any] = changes) -> None:
                name = (
                    ", ".join(f"{key.split('.')[1]} {value}" for key, value in changes.items())
                    or "as configured"
                )
                known = "" if validation is None else f" validation {validation:.5f}"
                step.update(len(trials), None, f"{name}: round {number}{known}")
                if clock() >= until:
                    raise _BudgetSpent

            try:
                trial = _known(folder, changes) or _try(config, choice, dataset, folder, on_round)
            except _BudgetSpent:
                break
            write_json(_file(folder, changes), asdict(trial))
            trials.append(trial)
            choice = search.send(trial)
            if choice is not None and clock() >= until and _known(folder, _changes(choice)) is None:
                break
        finished = choice is None
    best = min(trials, key=_loss, default=None)
    if best is not None and best.validation is None:
        best = None
    toml = "" if best is None else _toml(best.changes)
    path = folder / "tuned.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(toml or "# the configuration itself is the best that was tried\n", encoding="utf-8")
    return Tuning(tuple(trials), finished, best, toml, str(path))


class _BudgetSpent(Exception):
    """The time is up in the middle of a trial."""


def _search(config: Config) -> Generator[Choice | None, Trial, None]:
    """Gives the next choice to try and is sent its trial; None at the end."""
    best: Choice = ()
    least = _loss((yield best))
    for section, key, values in stages(config):
        base = best
        for value in values:
            if value == getattr(getattr(config, section), key):
                continue
            choice = (*base, (section, key, value))
            loss = _loss((yield choice))
            if loss < least:
                best, least = choice, loss
    yield None


def _try(
    config: Config,
    choice: Choice,
    dataset: Dataset,
    folder: Path,
    on_round: Callable[[int, float | None], None],
) -> Trial:
    from pipeline.federation.training import train

    changes = _changes(choice)
    try:
        tried = changed(config, _by_section(choice))
        result = train(
            dataset.shards,
            architecture(tried),
            tried.training.settings(tried.model.steps),
            steps=tried.model.steps,
            sensors=len(dataset.sensors),
            workdir=folder / "training" / _key(changes),
            on_round=lambda done: on_round(done.round, done.validation),
        )
    except (ConfigError, TrainingFailed) as error:
        return Trial(changes, None, failed=str(error))
    best = result.curve[result.best_round - 1].validation if result.best_round else None
    usable = best is not None and math.isfinite(best)
    return Trial(
        changes,
        best if usable else None,
        len(result.curve),
        round(sum(done.seconds for done in result.curve), 3),
        None if usable else "no validation loss",
    )


def _changes(choice: Choice) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, key, value in choice}


def _by_section(choice: Choice) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for section, key, value in choice:
        found.setdefault(section, {})[key] = value
    return found


def _loss(trial: Trial) -> float:
    return math.inf if trial.validation is None else trial.validation


def _key(changes: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:12]


def _file(folder: Path, changes: Mapping[str, Any]) -> Path:
    return folder / "trials" / f"{_key(changes)}.json"


def _known(folder: Path, changes: Mapping[str, Any]) -> Trial | None:
    """The trial that was finished before; a damaged file counts as none."""
    try:
        found = json.loads(_file(folder, changes).read_bytes())
        return Trial(**found) if found["changes"] == dict(changes) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _toml(changes: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for section in dict.fromkeys(name.split(".")[0] for name in changes):
        lines.append(f"[{section}]")
        for name, value in changes.items():
            if name.startswith(f"{section}."):
                # JSON's numbers and plain strings are TOML's.
                lines.append(f"{name.split('.')[1]} = {json.dumps(value)}")
        lines.append("")
    return "\n".join(lines)


def run_tuning(config: Config, data: Path | None, budget: float, watch: Watch) -> Tuning:
    """Search on the windows on disk, or on site files in the folder `data`; nothing is read from Kafka.

    Raises:
      NothingToDo: no site can train.
      InputDataError: `data` holds no usable site file.
    """
    from ingestion.sitefile import read_site_dir
    from pipeline.datasets.snapshot import take_snapshot
    from pipeline.datasets.sources import FileReadings, Readings, WindowReadings
    from pipeline.jobs.job import dataset_settings, prepare_training
    from pipeline.manifest import run_id

    root = config.project.data_dir
    if data is None:
        readings: Readings = WindowReadings(root, [site.name for site in config.sites])
    else:
        readings = FileReadings(read_site_dir(data))
    snapshot = take_snapshot(readings.sources(), dataset_settings(config))
    if not any(snapshot.sources.values()):
        raise NothingToDo(
            "there are no windows to tune on: run `fedplant ingest` first, or give site files with --data"
        )
    prepared = prepare_training(config, root / "datasets", snapshot, readings, watch)
    folder = root / "tuning" / run_id(snapshot.id, config)
    return tune(config, prepared.dataset, folder, budget=budget, watch=watch)
