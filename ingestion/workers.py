"""Several processes that share the partitions through the consumer group, as one ingestion with one report.

They end with the process that started them, whichever way that ends: a member looks for its parent twice a second.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from confluent_kafka import KafkaException

from ingestion import observation
from ingestion.consumer import Progress, ingest
from ingestion.counts import IngestReport, SiteCounts
from ingestion.errors import IngestionError
from ingestion.settings import IngestSettings
from ingestion.topics import Topics
from ingestion.unreachable import unavailable

_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 10.0


def ingest_shared(
    settings: IngestSettings,
    workers: int,
    *,
    until: Literal["end"] | None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> IngestReport:
    """As `ingest`, in up to `workers` processes; never more than there are partitions.

    Raises what `ingest` raises in any of them, after all have ended; IngestionError if one died.
    """
    asked = stop or threading.Event()
    if workers > 1:
        topics = Topics(settings.bootstrap, settings.client, settings.limits.broker_timeout)
        try:
            workers = min(workers, topics.partitions({site.topic for site in settings.sites}))
        except KafkaException as error:
            raise unavailable(settings.bootstrap, error) from error
    if workers < 2:
        return ingest(settings, until=until, progress=progress, stop=asked)
    began = time.monotonic()
    members = [_Member(settings, until) for _ in range(workers)]
    try:
        _follow(members, progress, asked)
    finally:
        for member in members:
            member.end()
    failed = next((m.outcome for m in members if isinstance(m.outcome, Exception)), None)
    if failed is not None:
        raise failed
    report = united([m.outcome for m in members if isinstance(m.outcome, IngestReport)])
    report.seconds = time.monotonic() - began
    return report


def united(reports: list[IngestReport]) -> IngestReport:
    """One report of several; a topic is missing if it was missing for all."""
    total = IngestReport({})
    for report in reports:
        for site, counts in report.sites.items():
            into = total.sites.setdefault(site, SiteCounts())
            for name, value in vars(counts).items():
                if isinstance(value, Counter):
                    getattr(into, name).update(value)
                else:
                    setattr(into, name, getattr(into, name) + value)
    missing = [set(report.missing_topics) for report in reports]
    total.missing_topics = sorted(set.intersection(*missing)) if missing else []
    return total


class _Member:
    """One process; `outcome` is its report, what it raised, or None while it runs."""

    def __init__(self, settings: IngestSettings, until: Literal["end"] | None) -> None:
        self.news, theirs = multiprocessing.Pipe(duplex=False)
        self.progress = Progress(0, None)
        self.outcome: IngestReport | Exception | None = None
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_run, args=(settings, until, theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()

    def listen(self) -> None:
        """Take in one piece of news."""
        try:
            told = self.news.recv()
        except EOFError:
            self._process.join(_GRACE_SECONDS)
            self.outcome = IngestionError(
                f"an ingesting process died (exit code {self._process.exitcode}); start again: the run continues where it was"
            )
            return
        if isinstance(told, Progress):
            self.progress = told
        else:
            self.outcome = told

    def ask_to_end(self) -> None:
        """SIGTERM, which it obeys within its own bounds."""
        if self._process.is_alive():
            self._process.terminate()

    def end(self) -> None:
        """Return when the process is gone."""
        if self.outcome is None:
            self.ask_to_end()
        self._process.join(_GRACE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.news.close()


def _follow(
    members: list[_Member], progress: Callable[[Progress], None] | None, stop: threading.Event
) -> None:
    """Until every member has said how it ended; one failure or a stop ends all."""
    asked = False
    while running := [member for member in members if member.outcome is None]:
        ready = wait([member.news for member in running], timeout=0.2)
        for member in running:
            if member.news in ready:
                member.listen()
        failed = any(isinstance(member.outcome, Exception) for member in members)
        if (stop.is_set() or failed) and not asked:
            asked = True
            for member in running:
                member.ask_to_end()
        if progress is not None and ready:
            left = [member.progress.remaining for member in members]
            remaining = None if None in left else sum(n for n in left if n is not None)
            view = observation.united(member.progress.view for member in members)
            progress(Progress(sum(member.progress.read for member in members), remaining, view))


def _run(settings: IngestSettings, until: Literal["end"] | None, news: Connection, owner: int) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C reaches the whole group of processes; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(owner, stop), daemon=True).start()
    try:
        outcome: Any = ingest(settings, until=until, progress=news.send, stop=stop)
    except IngestionError as error:
        outcome = error
    news.send(outcome)


def _end_with(owner: int, stop: threading.Event) -> None:
    while os.getppid() == owner:
        time.sleep(_LOOK_SECONDS)
    stop.set()
    time.sleep(_GRACE_SECONDS)
    os._exit(1)
