import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from ingestion.audit import audit
from ingestion.consumer import ingest
from ingestion.errors import BrokerUnavailable
from ingestion.settings import Limits
from tests.conftest import create_topic
from tests.ingestion.harness import (
    letters,
    on_disk,
    origin,
    produce,
    reading,
    settings_for,
    start_process,
)
from tests.waiting import HANGS, wait_for

POISON_EVERY = 100
LIMITS = Limits(session_timeout=1.5, commit_interval=0.1, broker_timeout=90.0)


def test_a_broker_killed_during_polls_commits_and_letters_costs_nothing(fresh_broker, tmp_path: Path):
    running = fresh_broker()
    create_topic(running.bootstrap, "iiot.s.telemetry.v1")
    count = 30_000
    produce(
        running,
        "iiot.s.telemetry.v1",
        [b"poison" if s % POISON_EVERY == 50 else reading(s, seq=s) for s in range(count)],
    )
    settings = settings_for(running, "s", tmp_path, close_open=True, limits=LIMITS)
    away = threading.Event()

    def restart_once(_progress) -> None:
        if not away.is_set():
            away.set()
            running.kill()
            threading.Thread(target=running.restart).start()

    began = time.monotonic()
    counts = ingest(settings, until="end", progress=restart_once).sites["s"]
    assert away.is_set() and counts.balanced and time.monotonic() - began < 150
    dead = Counter(origin(record) for record in letters(running, "iiot.s.dlq"))
    assert dead == {(0, offset): 1 for offset in range(50, count, POISON_EVERY)}
    assert on_disk(tmp_path) == {(0, o): 1 for o in range(count) if o % POISON_EVERY != 50}
    assert audit(settings).clean


def test_a_broker_that_refuses_commits_is_named_and_nothing_is_lost(fresh_broker, tmp_path: Path):
    folder = tmp_path / "broker"
    refusing = fresh_broker(folder, extra_properties={"offset.metadata.max.bytes": "16"})
    create_topic(refusing.bootstrap, "iiot.s.telemetry.v1")
    produce(refusing, "iiot.s.telemetry.v1", [reading(s, seq=s) for s in range(300)])
    limits = replace(LIMITS, broker_timeout=10.0)
    settings = settings_for(refusing, "s", tmp_path / "data", limits=limits)
    with pytest.raises(BrokerUnavailable, match="OFFSET_METADATA_TOO_LARGE"):
        ingest(settings, until="end")
    assert len(on_disk(tmp_path / "data")) == 240
    refusing.stop()
    willing = fresh_broker(folder)
    settings = settings_for(willing, "s", tmp_path / "data", close_open=True, limits=LIMITS)
    assert ingest(settings, until="end").sites["s"].balanced
    assert on_disk(tmp_path / "data") == {(0, offset): 1 for offset in range(300)}
    assert audit(settings).clean


def test_a_broker_that_hangs_does_not_hold_up_the_end_of_a_process(fresh_broker, tmp_path: Path):
    broker = fresh_broker()
    site = "hung"
    create_topic(broker.bootstrap, f"iiot.{site}.telemetry.v1", partitions=2)
    sent = [(s % 2, b"poison" if s % 20 == 9 else reading(s, seq=s)) for s in range(10_000)]
    produce(broker, f"iiot.{site}.telemetry.v1", sent)
    port = int(broker.bootstrap.rpartition(":")[2])
    for reads in (True, False):
        if not reads:
            os.kill(broker.pid, signal.SIGSTOP)
        process = start_process(broker, site, tmp_path, close=False, follow=True)
        try:
            if reads:
                wait_for(lambda: any(tmp_path.glob("windows/*/*/*/*.parquet")))
                os.kill(broker.pid, signal.SIGSTOP)
            else:
                wait_for(partial(connected, psutil.Process(process.pid), port))
            began = time.monotonic()
            process.terminate()
            _, said = process.communicate(timeout=HANGS)
            # Ten are promised; a machine with other work may take longer, but not the half minute of a client that waits for its broker.
            assert time.monotonic() - began < 25 and process.returncode == 0, said
        finally:
            process.kill()
            os.kill(broker.pid, signal.SIGCONT)
    # A broker that hung has to find its controller again, which may take longer than a start.
    broker.kill()
    broker.restart()
    assert not list(tmp_path.glob("windows/*/*/*/.tmp-*"))
    assert ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site].balanced
    assert audit(settings_for(broker, site, tmp_path)).clean
    assert sum(on_disk(tmp_path).values()) == 9_500


def connected(process: psutil.Process, port: int) -> bool:
    return any(c.raddr and c.raddr.port == port for c in process.net_connections())
