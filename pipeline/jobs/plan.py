"""`fedplant run --dry-run`: what a job would read and train, without changing anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.artefacts import read_summary
from pipeline.config.schema import Config
from pipeline.datasets.snapshot import take_snapshot
from pipeline.jobs.settings import dataset_settings, modes_of, window_readings
from pipeline.manifest import run_id
from pipeline.runs import run_folder
from pipeline.streams.cluster import EMBEDDED


@dataclass(frozen=True)
class Plan:
    """What lies on disk now and what a job would make of it.

    Attributes:
      broker: where it would read from.
      readings: by site, rows already in window files.
      run_id: name of the run if nothing new arrived.
      done: that run exists already.
      modes: ways of training that would be compared.
      rounds: most rounds of each.
    """

    broker: str
    readings: dict[str, int]
    run_id: str
    done: bool
    modes: tuple[str, ...]
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def text(self) -> str:
        """The same for a person."""
        many = len(self.readings)
        topics = "the topic of 1 site" if many == 1 else f"the topics of {many} sites"
        lines = [f"would read {topics} at {self.broker}"]
        lines += [
            f"  {site}: {rows:,} readings are in windows already" for site, rows in self.readings.items()
        ]
        lines.append(f"would train {', '.join(self.modes)}, at most {self.rounds} rounds each")
        if self.done:
            lines.append(f"without new readings nothing would be trained: run {self.run_id} is complete")
        return "\n".join(lines)


def plan(config: Config, bootstrap: str | None) -> Plan:
    """Look at the data folder only; neither a broker is started nor a topic read.

    Raises:
      StorageError: the data folder cannot be read.
    """
    readings = window_readings(config)
    sources = readings.sources()
    name = run_id(take_snapshot(sources, dataset_settings(config)).id, config)
    broker = bootstrap or config.kafka.bootstrap
    return Plan(
        "the embedded broker" if broker == EMBEDDED else broker,
        {site: sum(source.rows for source in files) for site, files in sources.items()},
        name,
        read_summary(run_folder(config, name)) is not None,
        modes_of(config),
        config.training.rounds,
    )
