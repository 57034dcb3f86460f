"""`fedplant tune`: a search over a few settings by what can be measured without labels, within a time budget.

Two measures, of every trial: the federated validation loss of the network, and how well the whole detector finds faults injected into
rows it did not learn from (`pipeline.evaluation.injection`). Either decides.
One setting after the other is varied around the best found so far, beginning with the configuration itself. Every finished trial is
a file, and a trial under way has its checkpoints: killed and started again, the search goes on where it was.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ingestion.alone import alone
from ingestion.layout import Layout
from pipeline.artefacts import write_json
from pipeline.config.load import named_sites
from pipeline.config.recipes import LINEAR
from pipeline.config.schema import Config
from pipeline.datasets.prepared import Prepared
from pipeline.errors import ConfigError, NothingToDo
from pipeline.jobs.trial import (
    INJECTED,
    VALIDATION,
    Choice,
    Trial,
    changes_of,
    key_of,
    loss_of,
    run_trial,
)
from pipeline.watch import Watch


@dataclass(frozen=True)
class Tuning:
    """What the search found.

    Attributes:
      trials: in the order of the search.
      finished: whether everything was tried; else the budget ended first and the same command goes on.
      best: the best trial by the measure that decides; None if none has it.
      toml: what to write into the configuration, empty if it is the best.
      path: the file that holds it.
      by: the measure that decides, `validation` or `injected`.
    """

    trials: tuple[Trial, ...]
    finished: bool
    best: Trial | None
    toml: str
    path: str
    by: str = VALIDATION

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def text(self) -> str:
        """The same for a person."""
        lines = [f"{'validation':>10}  {'injected':>8}  {'rounds':>6}  {'seconds':>7}  differs by"]
        for trial in sorted(self.trials, key=lambda each: loss_of(each, self.by)):
            changes = ", ".join(f"{key} = {value}" for key, value in trial.changes.items())
            loss = "-" if trial.validation is None else f"{trial.validation:.5f}"
            found = "-" if trial.injected is None else f"{trial.injected:.4f}"
            note = f" ({trial.failed})" if trial.failed else ""
            lines.append(
                f"{loss:>10}  {found:>8}  {trial.rounds:>6}  {trial.seconds:>7.1f}  {changes or 'nothing'}{note}"
            )
        if not self.finished:
            lines.append("the time budget ended the search; the same command goes on with it")
        if self.best is None:
            reasons = dict.fromkeys(trial.failed for trial in self.trials if trial.failed)
            too_little = "give sites more data, then tune again"
            why = "; ".join(reasons) or (
                too_little if self.trials else "none came to its end; give it a longer --budget"
            )
            lines.append(f"no trial could be measured: {why}")
        elif not self.toml:
            lines.append("the configuration itself is the best of them")
        else:
            lines.append(f"\nthe best of them, also in {self.path}:\n\n{self.toml.rstrip()}")
        return "\n".join(lines)


def stages(config: Config, by: str) -> list[tuple[str, str, tuple[Any, ...]]]:
    """What is varied, in this order: section, key and values beside the configured one.

    The detector's sources are varied where injected faults decide, since the network's loss knows nothing of them.
    """
    rate, model = config.training.client_learning_rate, config.model
    sources: list[tuple[str, str, tuple[Any, ...]]] = []
    if by == INJECTED:
        sources = [("detector", "sources", ([*LINEAR, "network"], LINEAR, ["ridge", "stiff_ridge"], ["pca"]))]
        if "network" not in config.detector.sources:
            return sources
    found: list[tuple[str, str, tuple[Any, ...]]] = [
        ("training", "client_learning_rate", tuple(r for r in (rate / 3, rate * 3) if r <= 10)),
        ("training", "local_epochs", tuple(e for e in (1, 2, 4) if e != config.training.local_epochs)),
        ("training", "algorithm", ("fedavg", "fedprox", "fedavgm", "fedadam")),
    ]
    if config.training.local_steps is not None:
        del found[1]
    if model.architecture == "tcn":
        found.append(("model", "channels", (max(2, model.channels // 2), min(1024, model.channels * 2))))
    return [*sources, *found]


def tune(
    config: Config,
    prepared: Prepared,
    folder: Path,
    *,
    budget: float,
    watch: Watch,
    by: str = VALIDATION,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Search on a data set.

    Args:
      config: where the search begins.
      prepared: the shards and the runs behind them.
      folder: for trials, checkpoints and the result; of this data set and configuration alone.
      budget: seconds, from now; the trial under way when they end goes on at the next call.
      watch: is told about every round.
      by: which measure decides, `validation` or `injected`.
      clock: seconds that only go forward.

    Raises:
      ConfigError: no network is trained, and its validation loss shall decide.
      StorageError: another process tunes in this folder.
    """
    if by == VALIDATION and "network" not in config.detector.sources:
        raise ConfigError(
            "detector.sources has no network, so there is no validation loss to tune by; use --by injected"
        )
    until = clock() + budget
    trials: list[Trial] = []
    finished = False
    # Two would write the same shards, and what fails for it would count as tried.
    with alone(folder, "tuning"), watch.step("tuning") as step:
        search = _search(config, by)
        choice: Choice | None = next(search)
        while choice is not None:
            changes = changes_of(choice)

            def on_round(number: int, validation: float | None, changes: Mapping[str, Any] = changes) -> None:
                name = (
                    ", ".join(f"{key.split('.')[1]} {value}" for key, value in changes.items())
                    or "as configured"
                )
                known = "" if validation is None else f" validation {validation:.5f}"
                step.update(len(trials), None, f"{name}: round {number}{known}")
                if clock() >= until:
                    raise _BudgetSpent

            trial = _known(folder, changes)
            if trial is None:
                try:
                    trial = run_trial(config, choice, prepared, folder, on_round)
                except _BudgetSpent:
                    break
                write_json(_file(folder, changes), asdict(trial))
            trials.append(trial)
            choice = search.send(trial)
            if choice is not None and clock() >= until and _known(folder, changes_of(choice)) is None:
                break
        finished = choice is None
    best = min(trials, key=lambda trial: loss_of(trial, by), default=None)
    if best is not None and not math.isfinite(loss_of(best, by)):
        best = None
    toml = "" if best is None else _toml(best.changes)
    path = folder / "tuned.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    same = "# the configuration itself is the best that was tried\n"
    path.write_text(toml or ("# no trial could be measured\n" if best is None else same), encoding="utf-8")
    return Tuning(tuple(trials), finished, best, toml, str(path), by)


class _BudgetSpent(Exception):
    """The time is up in the middle of a trial."""


def _search(config: Config, by: str) -> Generator[Choice | None, Trial, None]:
    """Gives the next choice to try and is sent its trial; None at the end."""
    best: Choice = ()
    least = loss_of((yield best), by)
    for section, key, values in stages(config, by):
        base = best
        sources = changes_of(best).get("detector.sources", config.detector.sources)
        if section != "detector" and "network" not in sources:
            # What trains a network changes nothing where there is none.
            break
        for value in values:
            if value == getattr(getattr(config, section), key):
                continue
            choice = (*base, (section, key, value))
            loss = loss_of((yield choice), by)
            if loss < least:
                best, least = choice, loss
    yield None


def _file(folder: Path, changes: Mapping[str, Any]) -> Path:
    return folder / "trials" / f"{key_of(changes)}.json"


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


def run_tuning(
    config: Config, data: Path | None, layout: Layout, budget: float, watch: Watch, by: str = VALIDATION
) -> Tuning:
    """Search on the windows on disk, or on site files of this layout in the folder `data`; nothing is read from Kafka.

    Raises:
      NothingToDo: no site can train.
      InputDataError: `data` holds no usable site file.
    """
    from pipeline.config.leaveout import refuse_unknown_sites
    from pipeline.datasets.snapshot import take_snapshot
    from pipeline.datasets.sources import FileReadings, Readings
    from pipeline.jobs.job import prepare_training
    from pipeline.jobs.mapped import mapped_files
    from pipeline.jobs.settings import dataset_settings, window_readings
    from pipeline.manifest import run_id
    from pipeline.sitefiles import read_told

    root = config.project.data_dir
    if data is None:
        readings: Readings = window_readings(config)
    else:
        files = mapped_files(read_told(data, layout, watch.say), config, watch.say)
        refuse_unknown_sites(config.dataset, (*named_sites(config), *files))
        readings = FileReadings(files)
    snapshot = take_snapshot(readings.sources(), dataset_settings(config))
    if not any(snapshot.sources.values()):
        raise NothingToDo(
            "there are no windows to tune on: run `fedplant ingest` first, or give site files with --data"
        )
    prepared = prepare_training(config, root / "datasets", snapshot, readings, watch)
    folder = root / "tuning" / run_id(snapshot.id, config)
    return tune(config, prepared, folder, budget=budget, watch=watch, by=by)
