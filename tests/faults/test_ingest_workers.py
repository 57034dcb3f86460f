import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ingestion.audit import audit
from ingestion.errors import IngestionError
from ingestion.settings import Limits
from ingestion.workers import ingest_shared
from tests.ingestion.harness import letters, on_disk, origin, produce, reading, settings_for
from tests.waiting import HANGS, alive, wait_for

MESSAGES = [(s % 4, b"poison" if s % 50 == 7 else reading(s / 4, f"m{s % 8}", seq=s)) for s in range(4000)]


def test_processes_share_the_partitions_and_give_one_report(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    produce(broker, make_topic(4, f"iiot.{site}.telemetry.v1"), MESSAGES)
    settings = settings_for(broker, site, tmp_path, close_open=True)
    report = ingest_shared(settings, 2, until="end")
    counts = report.sites[site]
    dead = Counter(origin(r) for r in letters(broker, f"iiot.{site}.dlq"))
    assert sum(on_disk(tmp_path).values()) == 3920 == counts.kept and counts.balanced
    assert len(dead) == 80 == sum(dead.values()) == counts.dead_lettered
    assert audit(settings).clean


def test_one_killed_member_ends_all_with_one_line_and_the_next_run_loses_nothing(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    produce(broker, make_topic(4, f"iiot.{site}.telemetry.v1"), MESSAGES[:2000])
    settings = settings_for(broker, site, tmp_path, limits=Limits(session_timeout=1.5))
    before = set(psutil.Process().children())

    def kill_one() -> None:
        wait_for(lambda: len(on_disk(tmp_path)) > 100)
        child = next(
            iter(
                c for c in psutil.Process().children() if c not in before and "spawn_main" in str(c.cmdline())
            )
        )
        child.kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(IngestionError, match=r"an ingesting process died \(exit code -9\)"):
        ingest_shared(settings, 2, until=None)
    killer.join()
    produce(broker, f"iiot.{site}.telemetry.v1", MESSAGES[2000:])
    counts = ingest_shared(settings_for(broker, site, tmp_path, close_open=True), 1, until="end").sites[site]
    assert counts.balanced and sum(on_disk(tmp_path).values()) == 3920
    assert audit(settings).clean


PARENT = """
import sys
from pathlib import Path
from ingestion.settings import Limits
from ingestion.workers import ingest_shared
from tests.ingestion.harness import settings_for
class Broker: bootstrap = sys.argv[1]
if __name__ == "__main__":
    ingest_shared(settings_for(Broker, sys.argv[2], Path(sys.argv[3])), 2, until=None)
"""


def shares(broker, group: str) -> list[int]:
    """How many partitions each member of a group has; none while the cluster cannot tell."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    try:
        found = admin.describe_consumer_groups([group], request_timeout=10)[group].result(20)
    except KafkaException:
        return []
    return sorted(len(member.assignment.topic_partitions) for member in found.members)


def test_members_share_and_end_when_their_parent_is_killed(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    produce(broker, make_topic(2, f"iiot.{site}.telemetry.v1"), [(s % 2, reading(s)) for s in range(400)])
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script), broker.bootstrap, site, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    wait_for(lambda: len(list(tmp_path.glob("windows/*/*/*/*.parquet"))) > 0)
    wait_for(lambda: shares(broker, f"g-{site}") == [1, 1])
    members = [c for c in psutil.Process(parent.pid).children() if "spawn_main" in str(c.cmdline())]
    assert len(members) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait(HANGS)
    wait_for(lambda: not alive(members))
