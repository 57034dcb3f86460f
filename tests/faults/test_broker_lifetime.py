"""The embedded broker ends with its owner however that ends, comes back on its data, and says in one line why it cannot start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from ingestion.broker import EmbeddedBroker, start_detached, status, stop
from ingestion.broker.guard import start_ticks
from ingestion.broker.state import read_state, write_state
from ingestion.errors import BrokerStartFailed
from tests.conftest import create_topic
from tests.waiting import HANGS, wait_for

OWNER = """
import sys, time
from pathlib import Path
from ingestion.broker import EmbeddedBroker
broker = EmbeddedBroker.start(Path(sys.argv[1]))
print(broker.pid, broker.guard_pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> None:
    wait_for(lambda: start_ticks(pid) is None)


def owner_process(folder: Path) -> tuple[subprocess.Popen[str], int, int]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    jvm, guard = map(int, owner.stdout.readline().split())
    return owner, jvm, guard


def test_an_owner_killed_by_sigkill_takes_its_broker_along_and_the_folder_starts_again(tmp_path):
    owner, jvm, guard = owner_process(tmp_path)
    owner.kill()
    owner.wait()
    gone(jvm)
    gone(guard)
    assert status(tmp_path) is None
    with EmbeddedBroker.start(tmp_path) as again:
        assert again.pid != jvm
        assert again.alive()


def test_a_guard_killed_by_sigkill_takes_the_jvm_along(tmp_path):
    owner, jvm, guard = owner_process(tmp_path)
    try:
        os.kill(guard, signal.SIGKILL)
        gone(jvm)
    finally:
        owner.kill()
        owner.wait()


def test_what_was_confirmed_is_there_after_kill_and_restart_at_the_same_address(fresh_broker):
    broker = fresh_broker()
    create_topic(broker.bootstrap, "kept")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    for number in range(50):
        producer.send("kept", b"%d" % number)
    producer.flush(HANGS)
    producer.close()
    address, pid = broker.bootstrap, broker.pid
    broker.kill()
    assert not broker.alive()
    broker.restart()
    assert (broker.bootstrap, broker.pid != pid) == (address, True)
    consumer = KafkaConsumer(bootstrap_servers=address)
    part = TopicPartition("kept", 0)
    consumer.assign([part])
    consumer.seek_to_beginning()
    got: list[bytes] = []
    deadline = time.monotonic() + HANGS
    while len(got) < 50 and time.monotonic() < deadline:
        got += [record.value for batch in consumer.poll(timeout_ms=500).values() for record in batch]
    consumer.close()
    assert got == [b"%d" % number for number in range(50)]

    with pytest.raises(BrokerStartFailed, match=rf"in use by a broker .* at {address} \(pid {broker.pid}\)"):
        EmbeddedBroker.start(broker.data_dir)
    assert broker.alive()


def test_a_detached_broker_is_seen_and_stopped_through_its_folder_and_only_once(tmp_path):
    state = start_detached(tmp_path)
    assert status(tmp_path) == state
    assert stop(tmp_path) is True
    gone(state.pid)
    assert status(tmp_path) is None
    assert stop(tmp_path) is False


def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(fresh_broker, tmp_path):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        folder = tmp_path / "old"
        folder.mkdir()
        other = start_ticks(stranger.pid)
        assert other is not None
        from ingestion.broker.state import BrokerStatus

        write_state(
            folder, BrokerStatus("127.0.0.1:1", stranger.pid, other - 5, stranger.pid, other - 5, 1, 2, "log")
        )
        assert read_state(folder) is not None
        assert status(folder) is None
        assert stop(folder) is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def refused(folder: Path, **options: object) -> str:
    with pytest.raises(BrokerStartFailed) as failure:
        EmbeddedBroker.start(folder, **options)  # type: ignore[arg-type]
    text = str(failure.value)
    assert "\n" not in text
    assert status(folder) is None
    return text


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is taken" in refused(tmp_path, port=port)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write the broker's folder" in refused(tmp_path / "file" / "broker")


def test_too_little_space_is_said_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("ingestion.broker.launch.MIN_FREE_BYTES", 2**62)
    assert "no space for a broker" in refused(tmp_path)


def test_a_missing_or_broken_java_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDPLANT_JAVA", str(tmp_path / "no-java"))
    assert "Java is missing" in refused(tmp_path / "a")
    fake = tmp_path / "java"
    fake.write_text(
        "#!/bin/sh\necho 'Error: java.lang.UnsupportedClassVersionError: kafka/Kafka' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("FEDPLANT_JAVA", str(fake))
    assert "wrong Java" in refused(tmp_path / "b")


def test_a_broker_that_dies_while_starting_says_what_its_log_said_last(tmp_path):
    text = refused(tmp_path, extra_properties={"log.retention.ms": "soon"})
    assert "broker died while starting" in text
    assert "log.retention.ms" in text


def test_a_start_that_takes_too_long_is_ended(tmp_path):
    assert "not ready after 0 s" in refused(tmp_path, timeout=0.3)


def test_jars_that_cannot_be_resolved_are_one_line_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDPLANT_CACHE", str(tmp_path / "empty-cache"))
    monkeypatch.setattr("ingestion.broker.jars._ENDPOINTS", {"org.apache.kafka:no-such-artifact:0.0.0": ""})
    text = refused(tmp_path / "broker")
    assert "cannot resolve org.apache.kafka:no-such-artifact:0.0.0" in text
    assert "check the network" in text
