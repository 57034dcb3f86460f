"""The loop: telemetry in, steps through the exported detector, alerts and positions out in one transaction.

A session starts from what the broker holds: it fences earlier scorers, reads back as many messages before the stored
position as the buffers need, and goes on. Any failure ends the session; the next one starts the same way, so nothing is
decided twice and nothing is left out. In endless mode sessions are repeated while the broker is away, for a bounded time.
"""

import time
from collections.abc import Callable
from threading import Event

from kafka import TopicPartition

from ingestion.errors import BrokerUnavailable
from ingestion.settings import Site
from pipeline.monitoring.metrics import BOARD
from pipeline.scoring.model import ServingModel
from pipeline.scoring.settings import ScoreReport, ScoreSettings, SiteScore
from pipeline.scoring.sinks import AlertSink, close_sinks, open_sinks
from pipeline.scoring.site import SiteScorer, make_writer
from pipeline.scoring.topics import Telemetry, ensure_topics, last_alerts, last_memories
from pipeline.scoring.writer import ScoreWriter

_POLL_SECONDS = 0.5
_LOOK_FOR_PARTITIONS = 30.0
_PUBLISH_SECONDS = 60.0
"""How often an endless scorer lets the report see its scores; less often where that takes longer than a fiftieth of the time."""

Progress = Callable[[float, float | None], None]


def score(
    settings: ScoreSettings,
    *,
    until: str | None = None,
    progress: Progress | None = None,
    stop: Event | None = None,
    model: ServingModel | None = None,
) -> ScoreReport:
    """Score the sites' telemetry and send alerts to `iiot.<site>.alerts.v1`, each exactly once.

    With `until="end"` it returns when what was in the topics at the start has been read, otherwise when `stop` is set.
    `progress(messages, total)` is called after each batch. With `settings.scores_dir` the scores of this call are
    written to `scores/<site>.parquet` there and published when it ends well, in endless mode every minute too. The last steps, for which a reading may
    still come within the tolerance, wait for the next call.

    Raises:
        BrokerUnavailable: the broker does not answer (endless mode: for longer than `patience_s`).
        ScoringFailed: the model or a topic cannot be used.
        ScorerReplaced: a later scorer of the same group took over.
        ArtefactError: scores cannot be written.
    """
    started = time.monotonic()
    serving = model or ServingModel.load(settings.model_dir)
    counts = {site.name: SiteScore() for site in settings.sites}
    writers = {site.name: make_writer(settings, serving, site.name) for site in settings.sites}
    stop = stop or Event()
    seconds = [0.0]
    try:
        absent_since: float | None = None
        while True:
            session = _Session(settings, serving, counts, writers, seconds)
            try:
                session.open()
                absent_since = None
                session.run(until, progress, stop)
                break
            except BrokerUnavailable:
                absent_since = absent_since or time.monotonic()
                if until is not None or time.monotonic() - absent_since > settings.patience_s:
                    raise
                if stop.wait(2.0):
                    break
            finally:
                session.close()
        for name, writer in writers.items():
            if writer is not None:
                writer.close()
                counts[name].score_file = str(writer.path)
    except BaseException:
        for writer in writers.values():
            if writer is not None:
                writer.discard()
        raise
    return ScoreReport(counts, serving.name, serving.version, time.monotonic() - started, seconds[0])


class _Session:
    def __init__(
        self,
        settings: ScoreSettings,
        model: ServingModel,
        counts: dict[str, SiteScore],
        writers: dict[str, ScoreWriter | None],
        model_seconds: list[float],
    ) -> None:
        self._settings, self._model = settings, model
        self._counts, self._writers, self._model_seconds = counts, writers, model_seconds
        self._telemetry: Telemetry | None = None
        self._sinks: dict[str, AlertSink] = {}
        self._sites: dict[str, SiteScorer] = {}
        self._begin: dict[TopicPartition, int] = {}
        self._publish_at = time.monotonic() + _PUBLISH_SECONDS

    def open(self) -> None:
        """Fence earlier scorers, then read positions: in this order nobody else can move them afterwards."""
        self._telemetry = Telemetry(self._settings)
        ensure_topics(self._settings)
        self._sinks = open_sinks(self._settings)
        logged, memories = last_alerts(self._settings), last_memories(self._settings)
        for name, counts in self._counts.items():
            self._sites[name] = SiteScorer(
                self._settings, self._model, name, logged[name], memories[name], counts
            )
        self._find_partitions(self._telemetry)

    def _find_partitions(self, telemetry: Telemetry) -> None:
        found = False
        for site in self._settings.sites:
            partitions = telemetry.partitions(site.topic)
            for tp in partitions:
                if tp not in self._begin:
                    stored = telemetry.stored(tp)
                    self._sites[site.name].start(tp, stored)
                    self._begin[tp] = stored.resume
                    found = True
            self._counts[site.name].note = self._note(site, bool(partitions))
        if found:
            done = {tp: telemetry.position(tp) for tp in telemetry.assigned()}
            telemetry.assign({**self._begin, **done})

    def _note(self, site: Site, there: bool) -> str | None:
        removed, told = self._counts[site.name].removed, []
        if not there:
            told.append(f"there is no topic {site.topic}")
        elif site.name not in self._model.sites:
            told.append("the detector does not know it: scored as a machine of the fleet")
        if removed:
            told.append(f"{removed:,} messages were removed from {site.topic} before they were scored")
        return "; ".join(told) or None

    def run(self, until: str | None, progress: Progress | None, stop: Event) -> None:
        telemetry = self._telemetry
        assert telemetry is not None
        ends = telemetry.ends(list(self._begin)) if until == "end" else {}
        total = sum(max(0, end - self._begin[tp]) for tp, end in ends.items()) if until == "end" else None
        read, waited_since, last_commit, looked = 0, time.monotonic(), time.monotonic(), time.monotonic()
        limits = self._settings.limits
        while not stop.is_set():
            if until == "end" and all(telemetry.position(tp) >= end for tp, end in ends.items()):
                break
            jobs, owners = [], []
            batches = telemetry.poll(_POLL_SECONDS) if self._begin else []
            if not self._begin and stop.wait(_POLL_SECONDS):
                break
            for batch in batches:
                new = self._sites[batch.site].take(batch)
                jobs += new
                owners += [batch.site] * len(new)
                read += len(batch.offsets)
            before = time.monotonic()
            scores = self._model.score(jobs)
            self._model_seconds[0] += time.monotonic() - before
            for name, job, found in zip(owners, jobs, scores, strict=True):
                self._sites[name].decide([job], [found])
            now = time.monotonic()
            if batches:
                waited_since = now
            elif until == "end" and now - waited_since > limits.broker_timeout:
                raise BrokerUnavailable(
                    f"{self._settings.bootstrap}: no message for {limits.broker_timeout:g} s although the topics hold more;"
                    " is the broker running?"
                )
            due = now - last_commit >= limits.commit_interval
            self._commit(due)
            last_commit = now if due else last_commit
            if until is None and now >= self._publish_at:
                self._publish()
            for name, site in self._sites.items():
                BOARD.scoring(name, site.counts)
            if progress is not None:
                progress(read, total)
            if until is None and now - looked > _LOOK_FOR_PARTITIONS:
                self._find_partitions(telemetry)
                looked = now
        self._commit(True)

    def _publish(self) -> None:
        began = time.monotonic()
        for writer in self._writers.values():
            if writer is not None:
                writer.publish()
        ended = time.monotonic()
        self._publish_at = ended + max(_PUBLISH_SECONDS, 50 * (ended - began))

    def _commit(self, due: bool) -> None:
        for name, site in self._sites.items():
            site.close_silent()
            offsets = site.offsets()
            if site.alerts or (due and offsets):
                self._sinks[name].commit(site.alerts, offsets, site.memories())
                site.committed(self._writers[name])

    def close(self) -> None:
        if self._telemetry is not None:
            self._telemetry.close()
        close_sinks(self._sinks)
