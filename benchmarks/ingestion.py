"""Ingestion speed beside the bare Kafka client, on one real broker, in one run.

`python benchmarks/ingestion.py --json [--messages N] [--bootstrap HOST:PORT]` prints one object. Every reader runs in a
process of its own: `poll` is a bare kafka-python loop with the same client options, `ingest` ends with closed windows.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PARTITIONS, ASSETS, SENSORS = 4, 40, 5
START_MS = 1_700_000_000_000


def produce(bootstrap: str, topic: str, messages: int) -> int:
    """Write the benchmark's topic; returns the mean size of a value in bytes."""
    from kafka import KafkaAdminClient, KafkaProducer

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics(
        {topic: {"num_partitions": PARTITIONS, "replication_factor": -1, "configs": {}}},
        timeout_ms=20_000,
        wait_for_metadata=True,
    )
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=50, batch_size=256_000)
    rng = random.Random(7)
    size = 0
    names = [f"sensor_{name}" for name in ("temperature", "vibration", "pressure", "flow", "current")]
    for i in range(messages):
        asset = i % ASSETS
        value = json.dumps(
            {
                "asset": f"pump-{asset:02d}",
                "ts": START_MS + (i // ASSETS) * 1000,
                "values": {name: round(rng.gauss(50, 10), 9) for name in names},
                "quality": 192,
                "seq": i // ASSETS,
            }
        ).encode()
        size += len(value)
        producer.send(topic, value=value, key=f"pump-{asset:02d}".encode(), partition=asset % PARTITIONS)
    producer.flush()
    producer.close()
    return size // messages


def read_poll(bootstrap: str, topic: str, messages: int) -> dict[str, float]:
    """Seconds of a bare poll loop over the topic."""
    from kafka import KafkaConsumer, TopicPartition

    from ingestion.consumer import POLL_RECORDS

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=POLL_RECORDS,
    )
    consumer.assign([TopicPartition(topic, p) for p in range(PARTITIONS)])
    seen, began = 0, time.perf_counter()
    while seen < messages:
        seen += sum(map(len, consumer.poll(timeout_ms=500).values()))
    seconds = time.perf_counter() - began
    consumer.close()
    return {"seconds": seconds, "messages": seen}


def read_ingest(bootstrap: str, topic: str, messages: int, folder: str) -> dict[str, float]:
    """Seconds from the first call to closed windows on disk, everything included."""
    from ingestion.consumer import ingest
    from ingestion.settings import EventTimeRules, IngestSettings, Site

    settings = IngestSettings(
        sites=(Site("bench", topic=topic),),
        bootstrap=bootstrap,
        data_dir=Path(folder),
        group_id=f"bench-{os.getpid()}",
        event_time=EventTimeRules(window=60),
        close_open=True,
    )
    cpu, began = time.process_time(), time.perf_counter()
    counts = ingest(settings, until="end").sites["bench"]
    seconds = time.perf_counter() - began
    if counts.kept != messages or not counts.balanced:
        raise SystemExit(f"counts do not add up: {counts.to_dict()}")
    return {
        "seconds": seconds,
        "messages": counts.kept,
        "windows": counts.windows,
        "cpu_seconds": time.process_time() - cpu,
    }


def child(mode: str, bootstrap: str, topic: str, messages: int, folder: str) -> dict[str, float]:
    """Run one reader in its own process and return what it printed."""
    command = [sys.executable, __file__, "--child", mode, "--bootstrap", bootstrap, "--topic", topic]
    command += ["--messages", str(messages), "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def measure(bootstrap: str, messages: int, repeats: int) -> dict[str, object]:
    """Alternate the readers `repeats` times and compare their best times."""
    import kafka
    import pyarrow

    topic = f"bench-{os.getpid()}-{int(time.time())}"
    size = produce(bootstrap, topic, messages)
    polls, ingests = [], []
    for _ in range(repeats):
        polls.append(child("poll", bootstrap, topic, messages, ""))
        with tempfile.TemporaryDirectory() as folder:
            ingests.append(child("ingest", bootstrap, topic, messages, folder))
    poll = min(run["seconds"] for run in polls)
    best = min(ingests, key=lambda run: run["seconds"])
    return {
        "messages": messages,
        "bytes_per_message": size,
        "partitions": PARTITIONS,
        "windows": best["windows"],
        "messages_per_second": round(messages / best["seconds"]),
        "poll_messages_per_second": round(messages / poll),
        "ratio_to_poll": round(poll / best["seconds"], 3),
        "cpu_seconds": round(best["cpu_seconds"], 2),
        "peak_rss_mb": round(max(run["peak_rss_mb"] for run in ingests)),
        "versions": {
            "python": platform.python_version(),
            "kafka-python": kafka.__version__,
            "pyarrow": pyarrow.__version__,
        },
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }


def main() -> None:
    """Parse arguments, start the embedded broker unless one is given, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--messages", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--bootstrap", help="an existing cluster instead of the embedded one")
    parser.add_argument("--child", choices=("poll", "ingest"), help=argparse.SUPPRESS)
    parser.add_argument("--topic", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child == "poll":
        result: dict[str, object] = dict(read_poll(args.bootstrap, args.topic, args.messages))
    elif args.child == "ingest":
        result = dict(read_ingest(args.bootstrap, args.topic, args.messages, args.folder))
        result["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    elif args.bootstrap:
        result = measure(args.bootstrap, args.messages, args.repeats)
    else:
        from ingestion.broker import EmbeddedBroker

        with tempfile.TemporaryDirectory() as folder, EmbeddedBroker.start(Path(folder) / "broker") as broker:
            result = measure(broker.bootstrap, args.messages, args.repeats)
    print(json.dumps(result, indent=None if args.json or args.child else 2))


if __name__ == "__main__":
    main()
