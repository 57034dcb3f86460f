"""Consumers and broker are killed, stopped and restarted at random; at the end every reading must have exactly one place.

    python benchmarks/chaos.py [--minutes 3] [--seed 1] [--json]

A producer writes good, doubled, late, listed and poisonous messages all the while. Up to two consumer processes share the topic.
The end is judged twice: by `audit`, and by a reader of its own that compares the log with files and letters, reading by reading.
The seed decides what happens and when; how far each process has come by then is the machine's affair. Exit code 1 if anything is lost.
"""

import argparse
import contextlib
import faulthandler
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ingestion.audit import audit
from ingestion.broker import EmbeddedBroker
from ingestion.clients import LOG
from ingestion.consumer import ingest
from ingestion.faultpoint import STEPS
from ingestion.settings import EventTimeRules, IngestSettings, Limits, Site

SITE, TOPIC, PARTITIONS = "chaos", "iiot.chaos.telemetry.v1", 3
START_MS = 1_700_000_040_000
SESSION = 1.5
PROMISED = 10
"""Seconds in which a consumer that is told to end does, on a machine that is not busy."""


def settings_for(bootstrap: str, folder: Path, **more: Any) -> IngestSettings:
    """What all consumers of a run are told."""
    return IngestSettings(
        sites=(Site(SITE),),
        bootstrap=bootstrap,
        data_dir=folder,
        event_time=EventTimeRules(window=5, out_of_orderness=2, allowed_lateness=120, idle_timeout=1),
        limits=Limits(session_timeout=SESSION, commit_interval=0.2, broker_timeout=60),
        **more,
    )


class Gateway(threading.Thread):
    """Writes messages until told to stop, through broker restarts."""

    def __init__(self, bootstrap: str, seed: int) -> None:
        super().__init__(daemon=True)
        from confluent_kafka import Producer

        self._random = random.Random(seed)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": 300_000,
                "reconnect.backoff.max.ms": 500,
            },
            logger=LOG,
        )
        self.done = threading.Event()
        self.confirmed: list[tuple[int, int]] = []
        self.failed: list[str] = []

    def run(self) -> None:
        """Some 1,500 messages a second; event time runs ten times as fast as the clock."""
        began, seq = time.monotonic(), 0
        while not self.done.is_set():
            now_ms = START_MS + int((time.monotonic() - began) * 10_000)
            for _ in range(15):
                seq += 1
                for value in self._messages(seq, now_ms):
                    self._send(seq % PARTITIONS, value)
            self._producer.poll(0)
            time.sleep(0.01)
        self._producer.flush(120)

    def _messages(self, seq: int, now_ms: int) -> list[bytes]:
        chance, ts = self._random.random(), now_ms - self._random.randrange(1500)
        if chance < 0.01:
            return [
                self._random.choice((b"poison", b"", b"[1, 2]", b'{"ts": 1, "v": 1}', b'{"a": {"b": 1}}'))
            ]
        if chance < 0.03:
            ts -= self._random.choice((10_000, 60_000, 200_000))
        if chance < 0.05:
            return [json.dumps([_reading(seq, ts), _reading(-seq, ts + 1)]).encode()]
        value = json.dumps(_reading(seq, ts)).encode()
        return [value, value] if chance < 0.07 else [value]

    def _send(self, partition: int, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(TOPIC, value, b"k", partition=partition, on_delivery=self._told)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _told(self, error: Any, message: Any) -> None:
        if error is None:
            self.confirmed.append((message.partition(), message.offset()))
        else:
            self.failed.append(str(error))


def _reading(seq: int, ts: int) -> dict[str, Any]:
    return {"asset": f"m{seq % 7}", "ts": ts, "seq": seq, "values": {"v": seq / 4}}


@dataclass
class Storm:
    """What is done to the processes. `ends` counts how consumers ended; `faults` are ends that nothing excuses."""

    broker: EmbeddedBroker
    folder: Path
    dice: random.Random
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_stop: float = 0.0

    def blow(self, seconds: float) -> None:
        """Until the time is over; ends with no consumer running and the broker up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._reap()
            event = self.dice.choices(
                ("start", "kill", "stop", "freeze", "broker_restart", "broker_kill"), (6, 3, 2, 2, 0.3, 0.4)
            )[0]
            if event == "start" and len(self.running) >= 2:
                continue
            if event in ("kill", "stop", "freeze") and not self.running:
                continue
            self.events[event] += 1
            getattr(self, f"_{event}")()
            time.sleep(self.dice.uniform(0.2, 2.5))
        while self.running:
            self._stop()

    def _start(self) -> None:
        crash = f"{self.dice.choice(STEPS)}:{self.dice.randint(1, 12)}" if self.dice.random() < 0.5 else ""
        log = (self.folder / f"consumer-{sum(self.events.values())}.log").open("wb")
        environment = {**os.environ, "FEDPLANT_CRASH_AT": crash}
        command = [sys.executable, __file__, "--child", self.broker.bootstrap, "--folder", str(self.folder)]
        self.running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        log.close()
        end = time.monotonic() + 20
        while b"ready" not in Path(log.name).read_bytes() and time.monotonic() < end:
            time.sleep(0.1)

    def _kill(self) -> None:
        self._one().kill()

    def _stop(self) -> None:
        process, began = self._one(), time.monotonic()
        process.terminate()
        for seconds in PROMISED, 60 - PROMISED:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break
            process.send_signal(signal.SIGUSR1)  # says in its log where it is
        self.slowest_stop = max(self.slowest_stop, time.monotonic() - began)
        if process.poll() is None:
            self.faults.append("a consumer did not end within 60 s of SIGTERM")
            time.sleep(1)
            process.kill()
        self._reap()

    def _freeze(self) -> None:
        """Longer than the session lasts, so that it wakes up as a zombie."""
        process = self._one()
        process.send_signal(signal.SIGSTOP)
        time.sleep(SESSION + self.dice.uniform(0.2, 2))
        process.send_signal(signal.SIGCONT)

    def _broker_restart(self) -> None:
        self.broker.restart()

    def _broker_kill(self) -> None:
        self.broker.kill()
        time.sleep(self.dice.uniform(0, 2))
        self.broker.restart()

    def _one(self) -> subprocess.Popen[bytes]:
        return self.dice.choice(self.running)

    def _reap(self) -> None:
        for process in list(self.running):
            code = process.poll()
            if code is None:
                continue
            self.running.remove(process)
            self.ends[str(code)] += 1
            # -SIGTERM: told to end before it had begun.
            if code not in (0, -signal.SIGKILL, -signal.SIGTERM):
                self.faults.append(f"a consumer ended with code {code}")


def read_log(bootstrap: str, topic: str) -> list[Any]:
    """Every committed record, by the other client."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
    found: list[Any] = []
    if parts:
        # Not where committed reads end now: a killed process may have left a transaction open.
        with contextlib.closing(KafkaConsumer(bootstrap_servers=bootstrap)) as uncommitted:
            ends = uncommitted.end_offsets(parts)
        consumer.assign(parts)
        while any((consumer.position(p) or 0) < ends[p] for p in parts):
            for records in consumer.poll(timeout_ms=500).values():
                found += records
    consumer.close()
    return found


def judge(bootstrap: str, folder: Path) -> tuple[list[str], dict[str, int]]:
    """What is wrong, and totals; shares nothing with the code under test but the file format Parquet."""
    import pyarrow.parquet as pq

    log = read_log(bootstrap, TOPIC)
    letters: dict[str, Counter[tuple[int, int]]] = {}
    for kind in ("dlq", "late"):
        origins = [dict(r.headers) for r in read_log(bootstrap, f"iiot.{SITE}.{kind}")]
        letters[kind] = Counter((int(h["partition"]), int(h["offset"])) for h in origins)
    kept: Counter[tuple[str, int, int]] = Counter()
    values: dict[tuple[str, int, int], float] = {}
    on_disk: set[tuple[int, int]] = set()
    for path in folder.glob("windows/*/*/p*/*.parquet"):
        partition = int(path.parent.name[1:])
        for row in pq.ParquetFile(path).read().to_pylist():
            key = row["asset"], row["event_time"].value // 1_000_000, row["seq"]
            kept[key] += 1
            values[key] = row["v"]
            on_disk.add((partition, row["offset"]))
    wrong: list[str] = []
    for kind, found in letters.items():
        wrong += [f"{kind} letter of {at} {n} times" for at, n in found.items() if n > 1]
    sent: set[tuple[str, int, int]] = set()
    for record in log:
        at = record.partition, record.offset
        dead, late = letters["dlq"][at], letters["late"][at]
        try:
            content = json.loads(record.value)
            items = content if isinstance(content, list) else [content]
            keys = [(i["asset"], i["ts"], i["seq"]) for i in items]
        except (ValueError, TypeError, KeyError):
            if dead != 1 or late or at in on_disk:
                wrong.append(f"poison at {at}: {dead} letters, {late} late")
            continue
        sent.update(keys)
        missing = [key for key in keys if not kept[key]]
        if dead or (missing and not late):
            wrong.append(f"reading at {at}: {dead} letters, {len(missing)} of {len(keys)} without a place")
    wrong += [f"{key} kept {n} times" for key, n in kept.items() if n != 1]
    wrong += [f"{key} was never sent" for key in kept.keys() - sent]
    wrong += [f"{key} has value {value}" for key, value in values.items() if value != key[2] / 4]
    totals = {
        "log": len(log),
        "kept": len(kept),
        "dead": sum(letters["dlq"].values()),
        "late": sum(letters["late"].values()),
    }
    return wrong, totals


def run(minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    """The whole storm; see the module."""
    from kafka import KafkaAdminClient

    began = time.monotonic()
    with EmbeddedBroker.start(folder / "broker") as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics(
            {TOPIC: {"num_partitions": PARTITIONS, "replication_factor": 1, "configs": {}}},
            timeout_ms=20_000,
            wait_for_metadata=True,
        )
        admin.close()
        gateway = Gateway(broker.bootstrap, seed)
        storm = Storm(broker, folder, random.Random(seed))
        gateway.start()
        try:
            storm.blow(minutes * 60)
        finally:
            for process in storm.running:
                process.kill()
        gateway.done.set()
        gateway.join(150)
        settings = settings_for(broker.bootstrap, folder, close_open=True)
        counts = ingest(settings, until="end").sites[SITE]
        report = audit(settings)
        wrong, totals = judge(broker.bootstrap, folder)
    waiting = sum(p.waiting for p in report.partitions)
    if waiting:
        wrong.append(f"{waiting} offsets still wait")
    if gateway.failed or len(gateway.confirmed) > totals["log"]:
        wrong.append(
            f"{len(gateway.failed)} messages refused, {len(gateway.confirmed)} confirmed of {totals['log']}"
        )
    if not counts.balanced:
        wrong.append(f"counts of the last run do not add up: {counts.to_dict()}")
    return {
        "ok": report.clean and not wrong and not storm.faults,
        "seed": seed,
        "minutes": minutes,
        "seconds": round(time.monotonic() - began, 1),
        "events": dict(storm.events),
        "consumer_exit_codes": dict(storm.ends),
        "slowest_stop_s": round(storm.slowest_stop, 1),
        "totals": totals,
        "windows": len(list(folder.glob("windows/*/*/p*/*.parquet"))),
        "audit_clean": report.clean,
        "audit_missing": sum(p.missing for p in report.partitions),
        "audit_doubled": sum(p.doubled for p in report.partitions),
        "wrong": len(wrong),
        "first_wrong": wrong[:10],
        "faults": storm.faults[:10],
    }


def consume(bootstrap: str, folder: Path) -> None:
    """A consumer process: runs until SIGTERM."""
    faulthandler.register(signal.SIGUSR1)
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("ready", flush=True)
    ingest(settings_for(bootstrap, folder), until=None, stop=stop)


def main() -> int:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--keep", type=Path, help="work in this new folder and keep it")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        consume(args.child, args.folder)
        return 0
    if args.keep:
        args.keep.mkdir(parents=True)
        result = run(args.minutes, args.seed, args.keep)
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = run(args.minutes, args.seed, Path(folder))
    print(json.dumps(result, indent=None if args.json else 2))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
