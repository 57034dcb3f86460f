"""`fedplant demo`: everything once on this machine, with real parts and real data.

A real Kafka is started, each plant's first half is replayed and learned from, then the second half is replayed and scored
live; the labels are opened only for the report.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artefacts import FEDERATED, LOCAL, Evaluation, RunSummary, read_evaluation
from pipeline.config import Config, load_config
from pipeline.config.files import file_layout
from pipeline.config.starter import starter
from pipeline.errors import ConfigError
from pipeline.runs import run_folder
from pipeline.streams.cluster import Cluster, client_options
from pipeline.watch import Watch

if TYPE_CHECKING:
    from ingestion.broker import EmbeddedBroker
    from ingestion.sitefile import SiteFile
    from pipeline.scoring.settings import ScoreReport

ROUNDS = 6
"""Few, so that the demo takes two minutes on two cores; eight gave the same figures within .003."""

PLACES = (
    Path(__file__).parents[2] / "examples" / "machines",
    Path(__file__).parents[1] / "examples" / "machines",
)
EXAMPLE = next((place for place in PLACES if place.is_dir()), PLACES[0])
"""The four machines: in a checkout at its top, in an installed package inside `pipeline`."""


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo made and learned."""

    folder: Path
    summary: RunSummary
    evaluation: Evaluation
    scores: ScoreReport
    report: Path
    bootstrap: str
    seconds: float
    broker: EmbeddedBroker | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "seconds": round(self.seconds, 1),
            "report": str(self.report),
            "model": self.summary.model_path,
            "run": self.summary.to_json(),
            "evaluation": self.evaluation.to_json(),
            "scoring": self.scores.to_json(),
        }

    def screen(self) -> Any:
        """The last screen, for a person."""
        from rich.console import Group

        from pipeline.cli.tables import modes_table, verdict

        alerts = sum(site.opened for site in self.scores.sites.values())
        return Group(
            "",
            f"{len(self.summary.sites)} plants learned one detector together in {self.seconds:.0f} s; "
            "no plant's readings were mixed with another's.",
            verdict(self.evaluation),
            *self._by_site(),
            "",
            modes_table(self.evaluation, "How each site did, on the half it had never seen"),
            "",
            f"{self.scores.scored:,} steps were scored live from Kafka, {alerts} alerts sent to iiot.<site>.alerts.v1",
            f"SavedModel  {_from_here(self.summary.model_path or '-')}",
            f"Report      {_from_here(self.report)}",
            f"Settings    {_from_here(self.folder / 'fedplant.toml')}",
        )

    def _by_site(self) -> list[str]:
        """How many sites the federation served better than their own data alone would have."""
        pairs = [
            (modes[FEDERATED].auc_pr, modes[LOCAL].auc_pr)
            for modes in self.evaluation.sites.values()
            if FEDERATED in modes and LOCAL in modes
        ]
        known = [(together, alone) for together, alone in pairs if together is not None and alone is not None]
        if not known:
            return []
        better = sum(together > alone for together, alone in known)
        return [f"Against training alone, federation was better at {better} of {len(known)} sites."]

    def wait(self) -> None:
        """Keep the broker until Ctrl-C or its own end, then stop it."""
        if self.broker is None:
            return
        try:
            while self.broker.alive():
                time.sleep(0.5)
        except KeyboardInterrupt:
            pass
        finally:
            self.broker.stop()


def _from_here(path: Path | str) -> Path:
    """The path as one would type it: relative if it lies below the working directory."""
    whole = Path(path).absolute()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def run_demo(folder: Path, data: Path | None, *, watch: Watch, keep_broker: bool = False) -> DemoOutcome:
    """Run the demo in `folder`, which is made new each time.

    Raises:
      ConfigError: the folder holds something that no demo made, or the data has no labelled second half.
      InputDataError: the site files cannot be used.
      BrokerStartFailed: the embedded broker could not be started.
    """
    from ingestion.broker import EmbeddedBroker
    from ingestion.sitefile import read_site_dir

    started = time.monotonic()
    files = read_site_dir(data or EXAMPLE)
    split = train_end(files.values())
    _fresh(folder)
    watch.say(
        f"Demo in {folder}: {len(files)} plants, learning from readings before {split:%Y-%m-%d %H:%M} UTC"
    )
    with watch.step("starting Apache Kafka") as step:
        broker = EmbeddedBroker.start(folder / "broker", on_message=lambda text: step.update(0, None, text))
        step.update(1, 1, broker.bootstrap)
    try:
        config = _configuration(folder, list(files), broker.bootstrap, split)
        outcome = _learn_and_score(
            config,
            Cluster(broker.bootstrap, client_options(config.kafka)),
            files,
            split,
            data or EXAMPLE,
            watch,
        )
    except BaseException:
        broker.stop()
        raise
    if not keep_broker:
        broker.stop()
    summary, evaluation, scores, report = outcome
    seconds = time.monotonic() - started
    return DemoOutcome(
        folder,
        summary,
        evaluation,
        scores,
        report,
        broker.bootstrap,
        seconds,
        broker if keep_broker else None,
    )


def _learn_and_score(
    config: Config,
    cluster: Cluster,
    files: dict[str, SiteFile],
    split: datetime,
    labels: Path,
    watch: Watch,
) -> tuple[RunSummary, Evaluation, ScoreReport, Path]:
    from ingestion.replay import replay
    from pipeline.jobs.job import run_job
    from pipeline.jobs.reporting import make_report
    from pipeline.streams.intake import ingest_sites
    from pipeline.streams.live import score_sites

    def send(title: str, start: datetime | None, end: datetime | None) -> None:
        with watch.step(title) as step:
            replay(
                files,
                bootstrap=cluster.bootstrap,
                client_options=dict(cluster.client),
                topic_for={site.name: site.telemetry_topic for site in config.sites}.__getitem__,
                start=start,
                end=end,
                speed=None,
                progress=step.update,
            )

    send("replaying normal operation", None, split)
    summary = run_job(config, cluster, watch=watch)
    send("replaying the time after", split, None)
    with watch.step("scoring live") as step:
        scores = score_sites(
            config, cluster, version=summary.version, run_id=summary.run_id, progress=step.update
        )
    with watch.step("ingesting the time after") as step:
        ingest_sites(config, cluster, progress=step.update)
    with watch.step("opening the labels") as step:
        report = make_report(
            config,
            labels=labels,
            layout=file_layout(config),
            run_id=summary.run_id,
            out=None,
            say=watch.say,
            step=step,
        )
    evaluation = read_evaluation(run_folder(config, summary.run_id)) or Evaluation()
    return summary, evaluation, scores, report


def train_end(files: Iterable[SiteFile]) -> datetime:
    """The middle of the time that all sites have in common, UTC: the demo learns before it and judges after it.

    Raises:
      ConfigError: there is no common time span.
    """
    times = [file.frame["timestamp"] for file in files if not file.frame.empty]
    first, last = max(each.iloc[0] for each in times), min(each.iloc[-1] for each in times)
    if first >= last:
        raise ConfigError("the site files share no span of time; give files that overlap")
    return (first + (last - first) / 2).floor("min").to_pydatetime()


def _fresh(folder: Path) -> None:
    """An empty demo folder; only what an earlier demo made is removed."""
    import shutil

    from ingestion.broker import stop

    if folder.exists() and any(folder.iterdir()) and not (folder / "fedplant.toml").exists():
        raise ConfigError(f"{folder} holds something that no demo made; name another folder with --dir")
    for part in ("broker", "data"):
        if (folder / part).exists():
            if part == "broker":
                stop(folder / part)
            shutil.rmtree(folder / part)
    folder.mkdir(parents=True, exist_ok=True)


def _configuration(folder: Path, sites: list[str], bootstrap: str, split: datetime) -> Config:
    path = folder / "fedplant.toml"
    text = starter(sites, bootstrap)
    text = text.replace('name = "fleet"', 'name = "machines"').replace('"fedplant-data"', '"data"')
    text = text.replace('step = "auto"', f'train_until = "{split:%Y-%m-%dT%H:%M:%SZ}"\nstep = "auto"')
    text = text.replace('window = "1min" ', 'window = "6h"   ')
    text = text.replace("rounds = 20", f"rounds = {ROUNDS}")
    path.write_text(text, encoding="utf-8")
    return load_config(path)
