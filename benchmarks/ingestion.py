"""Ingestion speed beside its peers, on one real broker, in one run.

    python benchmarks/ingestion.py --json [--messages N] [--quick] [--repeats N] [--bootstrap HOST:PORT]

prints one object. Every reader runs in a process of its own: `poll` is a bare kafka-python loop, Quix Streams (in an environment
of its own, made once with `uv` and kept in the user's cache) collects the same one-minute windows, `ingest` ends with closed
Parquet windows on disk. Readers of one topic take turns; the best of `--repeats` counts; the second and third way of Quix Streams run once. Quix Streams reads the same messages in three ways: as it
comes (at least once, its state durable through changelog topics), without changelog topics, and doing what `ingest` does (exactly once, windows
to Parquet files).
`workers` compares one and two processes over the same topic: from the first call to the last window (`wall`, with the
start of the processes), and between the first and the last word of progress (`steady`). `scan_seconds` is the start over 10,000 files.
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.command import command_line

PARTITIONS, ASSETS = 4, 40
NAMES = [f"sensor_{name}" for name in ("temperature", "vibration", "pressure", "flow", "current")]
START_MS = 1_700_000_000_000
QUIX = ("quixstreams==3.28.1", "pyarrow<20")
QUIX_WAYS = ("default", "light", "files")
OTHERS = {"narrow": "narrow", "sparkplug_protobuf": "sparkplug", "opcua": "opcua", "avro": "avro"}
Figures = dict[str, Any]


def flat(messages: int) -> Iterable[tuple[bytes, bytes]]:
    """Key and value of flat JSON messages of about 245 bytes, 5 sensors, a second between an asset's readings."""
    rng = random.Random(7)
    for i in range(messages):
        asset = f"pump-{i % ASSETS:02d}"
        value = {
            "asset": asset,
            "ts": START_MS + (i // ASSETS) * 1000,
            "values": {name: round(rng.gauss(50, 10), 9) for name in NAMES},
            "quality": 192,
            "seq": i // ASSETS,
        }
        yield asset.encode(), json.dumps(value).encode()


def other(label: str, messages: int) -> Iterable[tuple[bytes, bytes]]:
    """Messages of another format, as `decoding.py` makes them."""
    from benchmarks.decoding import FORMATS

    make = FORMATS[label][1]
    for i in range(messages):
        key, value = make(i)
        yield key.encode(), value


def produce(bootstrap: str, topic: str, made: Iterable[tuple[bytes, bytes]]) -> Figures:
    """Write a topic, an asset always to the same partition; returns messages and the mean size of a value in bytes."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(20)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "batch.size": 256_000})
    size = count = 0
    for key, value in made:
        size, count = size + len(value), count + 1
        while True:
            try:
                producer.produce(topic, value, key, partition=(count - 1) % ASSETS % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        if count % 1000 == 0:
            producer.poll(0)
    if producer.flush(60):
        raise SystemExit("the broker did not take all messages within 60 s")
    return {"messages": count, "bytes_per_message": size // count}


def read_poll(bootstrap: str, topic: str, messages: int) -> Figures:
    """Seconds of a bare kafka-python poll loop over the topic."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_records=10_000,
    )
    consumer.assign([TopicPartition(topic, p) for p in range(PARTITIONS)])
    seen, began = 0, time.perf_counter()
    while seen < messages:
        seen += sum(map(len, consumer.poll(timeout_ms=500).values()))
    seconds = time.perf_counter() - began
    consumer.close()
    return {"seconds": seconds}


def read_ingest(bootstrap: str, topic: str, messages: int, folder: str, form: str, workers: int) -> Figures:
    """Seconds from the first call to closed windows on disk, everything included."""
    from benchmarks.decoding import SCHEMA
    from ingestion.consumer import Progress
    from ingestion.settings import DecodeRules, EventTimeRules, IngestSettings, Site
    from ingestion.workers import ingest_shared

    schemas = Path(folder) / "schemas"
    schemas.mkdir()
    (schemas / "1.avsc").write_text(json.dumps(SCHEMA))
    seen: list[tuple[float, int]] = []

    def tell(at: Progress) -> None:
        if at.view is not None and at.view.counts["bench"]["messages"]:
            seen.append((time.perf_counter(), at.view.counts["bench"]["messages"]))

    settings = IngestSettings(
        sites=(Site("bench", topic=topic),),
        bootstrap=bootstrap,
        data_dir=Path(folder),
        group_id=f"bench-{os.getpid()}-{time.time_ns()}",
        event_time=EventTimeRules(window=60),
        decode=DecodeRules(format=form, schema_registry=str(schemas)),
        close_open=True,
    )
    began = time.perf_counter()
    counts = ingest_shared(settings, workers, until="end", progress=tell).sites["bench"]
    seconds = time.perf_counter() - began
    if counts.kept + counts.late != messages or not counts.balanced:
        raise SystemExit(f"counts do not add up: {counts.to_dict()}")
    own, members = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    spent = seen[-1][0] - seen[0][0]
    return {
        "seconds": seconds,
        "steady": (seen[-1][1] - seen[0][1]) / spent if spent else 0.0,
        "windows": counts.windows,
        "cpu_seconds": sum(u.ru_utime + u.ru_stime for u in (own, members)),
        "peak_rss_mb": max(own.ru_maxrss, members.ru_maxrss) / 1024,
    }


def scan(folder: str, files: int = 10_000) -> Figures:
    """Seconds to read what a partition's folder of so many window files holds, as every start does."""
    import numpy as np
    import pyarrow as pa

    from ingestion.eventtime import NS
    from ingestion.records import BASE_FIELDS
    from ingestion.store import Identity, PartitionStore
    from ingestion.windowing import Rules, Windows

    length, numbers = 60 * NS, np.arange(files + 1)
    columns = [
        numbers,
        pa.array(START_MS * 1_000_000 // length * length + numbers * length).cast(BASE_FIELDS[1].type),
        ["pump"] * len(numbers),
        numbers,
        pa.nulls(len(numbers), pa.int16()),
        *(numbers / 2 for _ in NAMES),
    ]
    names = [*BASE_FIELDS, *(pa.field(name, pa.float64()) for name in NAMES)]
    closed = (
        Windows(Rules(length, 0, 0), 0).push(pa.table(columns, schema=pa.schema(names)), files + 1).closed
    )
    identity = Identity("bench", "cluster", "topic", "id", 0)
    PartitionStore(Path(folder), identity, length).scan().publish(closed)
    began = time.perf_counter()
    found = PartitionStore(Path(folder), identity, length).scan()
    seconds = time.perf_counter() - began
    if len(found.footers) != files:
        raise SystemExit(f"{len(found.footers)} files found of {files}")
    return {"seconds": seconds}


def child(command: list[str]) -> Figures:
    """Run one reader in its own process and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def reader(
    mode: str, bootstrap: str, topic: str, messages: int, form: str = "flat", workers: int = 1
) -> Figures:
    """One run of `poll` or `ingest`."""
    command = [sys.executable, __file__, "--child", mode, "--bootstrap", bootstrap, "--topic", topic]
    command += ["--messages", str(messages), "--folder", tempfile.mkdtemp(), "--format", form]
    return child([*command, "--workers", str(workers)])


def quix(bootstrap: str, topic: str, messages: int, way: str) -> Figures:
    """One run of Quix Streams over the first `messages` messages; `quix_windows.py` knows the ways."""
    import platformdirs

    home = Path(platformdirs.user_cache_dir("fedplant")) / f"{QUIX[0].replace('==', '-')}-files"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["uv", "venv", "-q", "--clear", "--python", platform.python_version(), home], check=True
        )
        # Elsewhere than here, where uv would apply this project's pins.
        subprocess.run(["uv", "pip", "install", "-q", "--python", python, *QUIX], check=True, cwd=home)
        (home / "ready").touch()
    script = Path(__file__).with_name("quix_windows.py")
    command = [str(python), "-W", "ignore", str(script), bootstrap, topic, str(messages), tempfile.mkdtemp()]
    return child([*command, way])


def best(runs: Iterable[Figures]) -> Figures:
    """The fastest run, with the largest memory of any."""
    known = list(runs)
    found = min(known, key=lambda run: run["seconds"])
    memory = [run["peak_rss_mb"] for run in known if "peak_rss_mb" in run]
    return {**found, **({"peak_rss_mb": max(memory)} if memory else {})}


def compared(bootstrap: str, topic: str, size: Figures, form: str, repeats: int) -> tuple[Figures, Figures]:
    """The bare loop and ingestion over one topic, in turns: best runs, and what is reported of them."""
    messages = size["messages"]
    polls, ingests = [], []
    for _ in range(repeats):
        polls.append(reader("poll", bootstrap, topic, messages))
        ingests.append(reader("ingest", bootstrap, topic, messages, form))
    poll, ours = best(polls), best(ingests)
    return ours, {
        **size,
        "messages_per_second": round(messages / ours["seconds"]),
        "poll_messages_per_second": round(messages / poll["seconds"]),
        "ratio_to_poll": round(poll["seconds"] / ours["seconds"], 3),
        "cpu_seconds": round(ours["cpu_seconds"], 2),
        "peak_rss_mb": round(ours["peak_rss_mb"]),
    }


def shared(bootstrap: str, topic: str, messages: int, workers: int, repeats: int) -> Figures:
    """Messages per second of so many processes, start included and not."""
    runs = [reader("ingest", bootstrap, topic, messages, workers=workers) for _ in range(repeats)]
    return {
        "wall": round(messages / min(run["seconds"] for run in runs)),
        "steady": round(max(run["steady"] for run in runs)),
    }


def scanned(repeats: int) -> Iterable[Figures]:
    """Runs of `scan`."""
    for _ in range(repeats):
        yield child([sys.executable, __file__, "--child", "scan", "--folder", tempfile.mkdtemp()])


def measure(bootstrap: str, messages: int, repeats: int) -> Figures:
    """All figures."""
    import confluent_kafka
    import kafka
    import pyarrow

    from benchmarks.provenance import made_with

    names = (f"bench-{os.getpid()}-{int(time.time())}-{number}" for number in itertools.count())
    # The first group of a new broker waits for the broker's own topics.
    topic = next(names)
    produce(bootstrap, topic, flat(100))
    reader("ingest", bootstrap, topic, 100)
    topic = next(names)
    size = produce(bootstrap, topic, flat(messages))
    ours, result = compared(bootstrap, topic, size, "flat", repeats)
    formats = {"flat": result}
    turns = {way: repeats if way == QUIX_WAYS[0] else 1 for way in QUIX_WAYS}
    peers = {way: best(quix(bootstrap, topic, messages, way) for _ in range(turns[way])) for way in QUIX_WAYS}
    rates = {way: messages / peer["seconds"] for way, peer in peers.items()}
    workers = {str(n): shared(bootstrap, topic, messages, n, repeats) for n in (1, 2)}
    for label, form in OTHERS.items():
        topic = next(names)
        size = produce(bootstrap, topic, other(label, max(1000, messages // 10)))
        formats[label] = compared(bootstrap, topic, size, form, repeats)[1]
    peers_of = {
        "confluent-kafka": confluent_kafka.version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "kafka-python": kafka.__version__,
        "pyarrow": pyarrow.__version__,
        "quixstreams": QUIX[0].split("==")[1],
    }
    return {
        **result,
        "ratio_to_quix": round(result["messages_per_second"] / rates["default"], 1),
        "ratio_to_quix_by_way": {w: round(result["messages_per_second"] / r, 1) for w, r in rates.items()},
        "quix_messages_per_second": {way: round(rate) for way, rate in rates.items()},
        "windows": ours["windows"],
        "partitions": PARTITIONS,
        "workers": workers,
        "scan_seconds": round(best(scanned(repeats))["seconds"], 3),
        "formats": formats,
        **made_with(beside=peers_of),
    }


def main() -> None:
    """Parse arguments, start the embedded broker unless one is given, print."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--messages", type=int, default=1_000_000, help="of flat JSON; a tenth for each other format"
    )
    parser.add_argument("--quick", action="store_true", help="40,000 messages, every reader once")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--bootstrap", help="an existing cluster instead of the embedded one")
    for hidden in ("--child", "--topic", "--folder", "--format"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.messages, args.repeats = 40_000, 1
    if args.child == "poll":
        result = read_poll(args.bootstrap, args.topic, args.messages)
    elif args.child == "ingest":
        result = read_ingest(
            args.bootstrap, args.topic, args.messages, args.folder, args.format, args.workers
        )
    elif args.child == "scan":
        result = scan(args.folder)
    else:
        # Everything is removed at the end: a file system that has just lost many files is slow to make new ones.
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            bootstrap = args.bootstrap
            if not bootstrap:
                from ingestion.broker import EmbeddedBroker

                bootstrap = stack.enter_context(EmbeddedBroker.start(Path(folder) / "broker")).bootstrap
            tempfile.tempdir = folder
            result = measure(bootstrap, args.messages, args.repeats)
    print(json.dumps(result, indent=None if args.json or args.child else 2))


if __name__ == "__main__":
    main()
