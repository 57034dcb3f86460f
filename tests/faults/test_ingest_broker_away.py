import threading
import time
from pathlib import Path

from ingestion.audit import audit
from ingestion.consumer import _Assignment, ingest
from ingestion.settings import Limits
from tests.conftest import create_topic
from tests.ingestion.harness import on_disk, produce, reading, settings_for


def test_a_broker_that_goes_away_and_returns_in_the_middle_costs_nothing(fresh_broker, tmp_path: Path):
    running = fresh_broker()
    create_topic(running.bootstrap, "iiot.s.telemetry.v1")
    produce(running, "iiot.s.telemetry.v1", [reading(s, seq=s) for s in range(30_000)])
    settings = settings_for(
        running,
        "s",
        tmp_path,
        close_open=True,
        limits=Limits(session_timeout=1.5, commit_interval=0.1, broker_timeout=90.0),
    )
    away = threading.Event()

    def restart_once(_progress) -> None:
        if not away.is_set():
            away.set()
            running.kill()
            threading.Thread(target=running.restart).start()

    began = time.monotonic()
    counts = ingest(settings, until="end", progress=restart_once).sites["s"]
    assert away.is_set() and counts.balanced and time.monotonic() - began < 150
    assert on_disk(tmp_path) == {(0, offset): 1 for offset in range(30_000)}
    assert audit(settings).clean


def test_a_client_that_lost_its_join_is_replaced(broker, make_topic, topic, tmp_path: Path, monkeypatch):
    site = topic("site")
    produce(broker, make_topic(1, f"iiot.{site}.telemetry.v1"), [reading(s) for s in range(50)])
    told = _Assignment.on_partitions_assigned
    deaf: list[_Assignment] = []

    def lose_the_first(self: _Assignment, assigned) -> None:
        told(self, assigned)
        if not deaf or self in deaf:
            deaf.append(self)
            self.gained.clear()

    monkeypatch.setattr(_Assignment, "on_partitions_assigned", lose_the_first)
    counts = ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site]
    assert deaf and (counts.kept, counts.balanced) == (50, True)
