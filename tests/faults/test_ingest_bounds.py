"""Memory and time stay bounded: a slow disk, a burst, a backfill of hours, thousands of files."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

import ingestion.consumer
import ingestion.consuming.handover
import ingestion.store
from ingestion.audit import audit
from ingestion.consumer import ingest
from ingestion.eventtime import NS
from ingestion.records import BASE_FIELDS
from ingestion.store import Identity, PartitionStore
from ingestion.windowing import Rules, Windows
from tests.ingestion.harness import START_MS, on_disk, produce, reading, settings_for
from tests.measuring import processor_seconds
from tests.waiting import HANGS


def test_a_slow_disk_pauses_the_partitions_and_they_resume_by_themselves(
    broker, make_topic, topic, tmp_path: Path, monkeypatch
):
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [(s % 2, reading(s / 10, seq=s)) for s in range(8_000)])
    sync, events, queued = ingestion.store.sync_folder, list[str](), list[int]()
    paused = threading.Event()

    def slowly(folder: Path) -> None:
        # However fast or slow the machine, slower than the reading of what is too much.
        assert paused.wait(HANGS)
        time.sleep(0.05)
        sync(folder)

    class Watched(ingestion.consumer.Consumer):
        def pause(self, partitions) -> None:
            events.append("pause")
            super().pause(partitions)
            paused.set()

        def resume(self, partitions) -> None:
            events.append("resume")
            super().resume(partitions)

    class Counted(ingestion.consumer.Worker):
        def feed(self, key, batch, size) -> None:
            super().feed(key, batch, size)
            queued.append(self.queued_bytes)

    monkeypatch.setattr(ingestion.store, "sync_folder", slowly)
    monkeypatch.setattr(ingestion.consumer, "Consumer", Watched)
    monkeypatch.setattr(ingestion.consumer, "Worker", Counted)
    monkeypatch.setattr(ingestion.consumer, "_HOLD_SECONDS", 0.05)
    monkeypatch.setattr(ingestion.consuming.handover, "POLL_RECORDS", 500)
    limit = 60_000
    settings = settings_for(broker, site, tmp_path, close_open=True)
    # A commit waits for the window that is being written, and the first of them is written when the loop has paused.
    settings = replace(
        settings, limits=replace(settings.limits, max_queued_bytes=limit, commit_interval=HANGS)
    )
    counts = ingest(settings, until="end").sites[site]
    assert (counts.kept, counts.balanced) == (8_000, True)
    assert events[:2] == ["pause", "resume"] and events.count("pause") == events.count("resume")
    # Never more than the bound and what one poll brings.
    assert max(queued) <= limit + 500 * 200
    assert audit(settings).clean


BACKFILL = """
import json, sys, time
from pathlib import Path
from ingestion.consumer import ingest
from tests.ingestion.harness import settings_for
from dataclasses import replace
class Broker: bootstrap = sys.argv[1]
settings = settings_for(Broker, sys.argv[2], Path(sys.argv[3]), close_open=True)
settings = replace(settings, event_time=replace(settings.event_time, allowed_lateness=86400.0))
began = time.process_time()
counts = ingest(settings, until="end").sites[sys.argv[2]]
assert counts.balanced
# Not ru_maxrss, which begins with what the parent had.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([counts.kept, counts.late, counts.duplicate, counts.late_topic, time.process_time() - began,
    int(peak.split()[1]) / 1024]))
"""


def test_a_million_readings_that_come_hours_late_are_taken_in_within_bounds(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    hours, assets, listed = 5, 56, 250  # 5 h of a reading a second from each of 56 machines
    first = range(0, hours * 3600, 60)
    live = [reading(second, "m0", seq=second) for second in [*first, hours * 3600 + 100]]
    rows = [(second, asset) for second in range(hours * 3600) for asset in range(assets)]
    late = []
    for at in range(0, len(rows), listed):
        items = [
            {"asset": f"m{a}", "ts": START_MS + s * 1000, "seq": s, "values": {"temperature": s / 10}}
            for s, a in rows[at : at + listed]
        ]
        late.append(json.dumps(items).encode())
    produce(broker, name, live + late)
    done = subprocess.run(
        [sys.executable, "-c", BACKFILL, broker.bootstrap, site, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    kept, added, doubled, beyond, seconds, peak = json.loads(done.stdout)
    assert kept == len(live) and beyond == 0
    # What the live link had delivered already is in the base files and is not kept again.
    assert (added, doubled) == (len(rows) - len(first), len(first))
    assert len(rows) > 1_000_000 and peak < 400 and seconds < 60
    assert sum(on_disk(tmp_path).values()) == len(live) + len(rows) - len(first)


def test_ten_thousand_files_are_scanned_for_what_a_look_at_each_costs(tmp_path: Path):
    """Usually four times what it costs to read the files and do nothing with them: a quarter of a second."""
    count, length = 10_000, 60 * NS
    identity = Identity("s", "cluster", "t", "id", 0)
    windows = Windows(Rules(length, 0, 3600 * NS), 0)
    times = START_MS * 1_000_000 + np.arange(count + 1) * length
    columns = [
        np.arange(count + 1),
        pa.array(times).cast(BASE_FIELDS[1].type),
        ["a"] * (count + 1),
        np.arange(count + 1),
        pa.nulls(count + 1, pa.int16()),
        np.arange(count + 1) / 2,
    ]
    rows = pa.table(columns, schema=pa.schema([*BASE_FIELDS, pa.field("x", pa.float64())]))
    PartitionStore(tmp_path, identity, length).scan().publish(windows.push(rows, count + 1).closed)
    paths = list(tmp_path.glob("windows/*/*/p*/*.parquet"))

    def scan() -> None:
        assert len(PartitionStore(tmp_path, identity, length).scan().footers) == count

    plain = processor_seconds(lambda: [path.read_bytes() for path in paths])
    assert processor_seconds(scan) < 20 * plain
