"""What a scorer is told and what it reports. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ingestion.settings import IngestSettings, Intake
from pipeline.errors import PipelineError


class ScoringFailed(PipelineError):
    """Live scoring cannot go on (model unusable, topic refused)."""

    exit_code = 12


class ScorerReplaced(ScoringFailed):
    """Another scorer with the same group took over these sites; this one stopped without sending anything more."""


@dataclass(frozen=True)
class ScoreSettings(Intake):
    """Everything one scorer needs; `event_time.out_of_orderness` is the tolerance of the grid.

    Attributes:
        model_dir: the SavedModel's version folder.
        group_id: consumer group of the positions, also the stem of the transactional ids.
        start_group: where a scorer that has never run begins: at what this group has read (a detector does not judge what
            it learned from); None begins with the oldest message.
        max_gap_s: how long a value is held; None takes five steps.
        hold_off_s: an alert ends after the score stayed normal for longer than this.
        top_sensors: sensors named in an alert.
        scores_dir: run folder that receives `scores/<site>.parquet`; None writes none.
        patience_s: in endless mode, how long an absent broker is waited for.
        memory_dir: where decoders keep births and recognised formats of their own.
    """

    model_dir: Path
    group_id: str = "fedplant-score"
    start_group: str | None = None
    max_gap_s: float | None = None
    hold_off_s: float = 600.0
    top_sensors: int = 5
    scores_dir: Path | None = None
    patience_s: float = 600.0
    memory_dir: Path = Path()

    def decoding(self) -> IngestSettings:
        """The same rules in the form that `ingestion.decode.build_decoder` takes."""
        return IngestSettings(**self.shared(), data_dir=self.memory_dir)


def alert_topic(site: str) -> str:
    """The topic of a site's alerts."""
    return f"iiot.{site}.alerts.v1"


@dataclass
class SiteScore:
    """What was done for one site in this call; steps are counted per machine.

    Attributes:
        messages: read, without those read again to rebuild the buffers.
        readings: rows they held.
        removed: offsets that the log no longer held when the scorer came to them; what was there was never scored.
        rejected: messages that could not be used, by reason; ingestion dead-letters them, the scorer only counts.
        late: readings for a step that was already final.
        duplicate: readings that said again what was known.
        steps: final grid steps.
        scored: steps with a score (after the warm-up).
        flagged: steps above the threshold.
        opened: alerts opened.
        closed: alerts closed.
        machines: assets seen.
        score_file: where the scores were written.
        note: why nothing was done, what it was scored by where no detector was calibrated for it, or what was removed.
    """

    messages: int = 0
    readings: int = 0
    removed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    late: int = 0
    duplicate: int = 0
    steps: int = 0
    scored: int = 0
    flagged: int = 0
    opened: int = 0
    closed: int = 0
    machines: int = 0
    score_file: str | None = None
    note: str | None = None

    def then(self, later: SiteScore) -> SiteScore:
        """What was done in two calls one after the other."""
        summed = {
            key: value + getattr(later, key)
            for key, value in vars(self).items()
            if isinstance(value, (int, Counter)) and key != "machines"
        }
        return replace(later, **summed, machines=max(self.machines, later.machines))


@dataclass(frozen=True)
class ScoreReport:
    """What `score` did: by site, seconds in all, seconds spent inside the model."""

    sites: Mapping[str, SiteScore]
    detector: str
    version: int
    seconds: float
    model_seconds: float

    @property
    def scored(self) -> int:
        """Steps with a score, over all sites."""
        return sum(site.scored for site in self.sites.values())

    def to_json(self) -> dict[str, Any]:
        """Plain dict for `--json`."""
        return {
            "detector": self.detector,
            "model_version": self.version,
            "seconds": round(self.seconds, 3),
            "model_seconds": round(self.model_seconds, 3),
            "scored": self.scored,
            "sites": {name: asdict(site) for name, site in self.sites.items()},
        }

    to_dict = to_json

    def then(self, later: ScoreReport) -> ScoreReport:
        """Both as one; detector and version are the later's."""
        sites = {
            name: self.sites[name].then(site) if name in self.sites else site
            for name, site in later.sites.items()
        }
        return replace(
            later,
            sites=sites,
            seconds=self.seconds + later.seconds,
            model_seconds=self.model_seconds + later.model_seconds,
        )
