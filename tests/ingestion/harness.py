"""What the ingestion tests share: produce to a real broker, and read the outcome without the code under test."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import confluent_kafka
import pyarrow.parquet as pq
from confluent_kafka.admin import AdminClient
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from ingestion.settings import EventTimeRules, IngestSettings, Site
from tests.waiting import HANGS, wait_for

START_MS = 1_700_000_040_000  # a full minute
RULES = EventTimeRules(window=60, out_of_orderness=5, allowed_lateness=600)


def reading(second: float, asset: str = "a", **more: Any) -> bytes:
    values = more.pop("values", {"temperature": second / 10})
    return json.dumps(
        {"asset": asset, "ts": START_MS + int(second * 1000), "values": values, **more}
    ).encode()


def settings_for(broker: Any, site: str, folder: Path, **more: Any) -> IngestSettings:
    return IngestSettings(
        sites=(Site(site),),
        bootstrap=broker.bootstrap,
        data_dir=folder,
        group_id=f"g-{site}",
        event_time=RULES,
        **more,
    )


def produce(broker: Any, topic: str, messages: Iterable[bytes | tuple[int, bytes | None] | None]) -> None:
    # Sent when the last is there: how fast they come after each other is no matter of the machine.
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=60_000, max_request_size=16 << 20)
    futures = []
    for message in messages:
        partition, value = message if isinstance(message, tuple) else (0, message)
        futures.append(producer.send(topic, value=value, key=b"k", partition=partition))
    producer.flush(HANGS)
    for future in futures:
        future.get(HANGS)
    producer.close()


def delete_before(broker, name: str, offset: int) -> None:
    """Remove what the topic's first partition holds before an offset, as retention does."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    asked = admin.delete_records([confluent_kafka.TopicPartition(name, 0, offset)])
    for answer in asked.values():
        answer.result(HANGS)


def committed(broker: Any, group: str, topic: str) -> int:
    """A group's offset in the topic's first partition; -1 while the cluster cannot tell."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    try:
        return int(consumer.committed([confluent_kafka.TopicPartition(topic, 0)], timeout=60)[0].offset)
    except confluent_kafka.KafkaException:
        return -1
    finally:
        consumer.close()


def letters(broker: Any, topic: str) -> list[Any]:
    """Every committed record of a topic."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    found: list[Any] = []
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        if not partitions:
            return found
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)

        def all_read() -> bool:
            for records in consumer.poll(timeout_ms=200).values():
                found.extend(records)
            return all((consumer.position(p) or 0) >= ends[p] for p in partitions)

        wait_for(all_read)
        return found
    finally:
        consumer.close()


def origin(record: Any) -> tuple[int, int]:
    """(partition, offset) that a dead or late letter says it came from."""
    headers = dict(record.headers)
    return int(headers["partition"]), int(headers["offset"])


def on_disk(folder: Path) -> Counter[tuple[int, int]]:
    """(partition, offset) of every row in every window file, read as plain Parquet."""
    found: Counter[tuple[int, int]] = Counter()
    for path in folder.glob("windows/*/*/p*/*.parquet"):
        partition = int(path.parent.name[1:])
        found.update((partition, o) for o in pq.ParquetFile(path).read().column("offset").to_pylist())
    return found


def rows(folder: Path) -> dict[str, bytes]:
    """Every window file by its path below the data folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("windows/*/*/p*/*.parquet")
    }


_RUN = """
import json, signal, sys, threading
from pathlib import Path
from ingestion.consumer import ingest
from ingestion.settings import Limits
from tests.ingestion.harness import settings_for
class Broker: bootstrap = sys.argv[1]
stop = threading.Event()
if sys.argv[5] == "follow":
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
# Killed, it shall not hold its partitions for long.
limits = Limits(session_timeout=1.5)
settings = settings_for(Broker, sys.argv[2], Path(sys.argv[3]), close_open=sys.argv[4] == "close", limits=limits)
report = ingest(settings, until=None if sys.argv[5] == "follow" else "end", stop=stop)
print(json.dumps(report.to_dict()))
"""


def start_process(
    broker: Any, site: str, folder: Path, crash_at: str = "", close: bool = True, follow: bool = False
) -> subprocess.Popen[str]:
    """A real ingesting process, told to kill itself at a step; with `follow` it reads until SIGTERM."""
    environment = {**os.environ, "FEDPLANT_CRASH_AT": crash_at, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", _RUN, broker.bootstrap, site, str(folder), "close" if close else "keep"]
    return subprocess.Popen(
        [*command, "follow" if follow else "end"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


MakeTopic = Callable[..., str]
