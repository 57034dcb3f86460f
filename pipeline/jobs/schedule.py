"""Runs the job once, or again and again: periodic retraining as one long-running process.

A trigger other than time, such as drift, would call `Job.run` too.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.artefacts import RunSummary
from pipeline.config.schema import Config
from pipeline.errors import NothingToDo
from pipeline.interrupt import asked, heed, remembered
from pipeline.jobs.job import run_job
from pipeline.streams.cluster import connect
from pipeline.streams.intake import NO_CONSENT, Consent
from pipeline.watch import Watch


@dataclass(frozen=True)
class Job:
    """Everything one start of the job needs: the cluster is the configured one unless `bootstrap` names another."""

    config: Config
    watch: Watch
    bootstrap: str | None = None
    consent: Consent = NO_CONSENT
    force: bool = False

    def run(self) -> RunSummary:
        """One complete job. Raises as `pipeline.jobs.job.run_job`."""
        with connect(self.config, self.bootstrap, self.watch.say) as cluster:
            return run_job(self.config, cluster, watch=self.watch, force=self.force, consent=self.consent)


def run_periodically(job: Job, period: float, *, on_summary: Callable[[RunSummary], None]) -> int:
    """Run the job every `period` seconds, counted from start to start, until SIGTERM or SIGINT; returns 0 then.

    A job that fails is reported and tried again at the next turn, so that a broker's bad night does not end retraining.
    """
    # The job under way is interrupted too: it can be stopped at any instruction and resumes from its checkpoint.
    with remembered(signal.SIGTERM, signal.SIGINT):
        try:
            while True:
                started = time.monotonic()
                try:
                    on_summary(job.run())
                except NothingToDo as nothing:
                    job.watch.say(str(nothing))
                except Exception as error:
                    if not isinstance(getattr(error, "exit_code", None), int):
                        raise
                    job.watch.say(f"this run failed: {error}; next one in {period:g} s")
                heed()
                time.sleep(max(0.0, period - (time.monotonic() - started)))
        except KeyboardInterrupt:
            if not asked():
                raise
            return 0
