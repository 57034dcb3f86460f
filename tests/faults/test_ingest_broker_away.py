import threading
import time
from pathlib import Path

from ingestion.audit import audit
from ingestion.consumer import ingest
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
