"""The doctor names what is wrong with what to do, in bounded time, and never raises for what it finds."""

import socket
import subprocess
import sys
import threading
import time
from importlib import metadata

import pytest
from kafka import KafkaProducer

from pipeline.doctor.machine import Cluster, diagnose
from tests.waiting import HANGS, wait_for


def by_name(findings):
    return {f.name: f for f in findings}


def test_a_sound_machine_passes_without_importing_tensorflow(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipeline.doctor.machine import diagnose\n"
        f"found = diagnose(data_dir=Path({str(tmp_path)!r}) / 'new', embedded=True)\n"
        "assert 'tensorflow' not in sys.modules and 'tensorflow_federated' not in sys.modules\n"
        "print([f.name for f in found if f.status == 'fail'])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGS, check=False
    )
    assert answer.stdout.strip() == "[]", answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("x")
    found = diagnose(
        data_dir=tmp_path / "file" / "below",
        cluster=Cluster("nowhere"),
        configuration_error="plant.toml: sites.0.nmae is unknown",
    )
    assert by_name(found)["configuration"].detail == "plant.toml: sites.0.nmae is unknown"
    assert by_name(found)["data folder"].status == "fail"
    assert by_name(found)["broker"].detail == "'nowhere' is not host:port"
    assert all(f.advice for f in found if f.status != "ok")


@pytest.mark.parametrize("refused", [["os.link"], ["Path.open", "Path.unlink"]])
def test_a_read_only_folder_is_found_by_writing(tmp_path, monkeypatch, refused):
    def refuse(*_args, **_kwargs):
        raise OSError(30, "Read-only file system")

    for name in refused:
        monkeypatch.setattr(f"pipeline.doctor.machine.{name}", refuse)
    finding = by_name(diagnose(data_dir=tmp_path))["data folder"]
    assert finding.status == "fail"
    assert "Read-only file system" in finding.detail
    assert list(tmp_path.iterdir()) == []


def test_an_untested_version_and_a_missing_package_are_told_apart(tmp_path, monkeypatch):
    real = metadata.version

    def version(name):
        if name == "numpy":
            return "2.0.1"
        if name == "pandas":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("pipeline.doctor.machine.metadata.version", version)
    found = by_name(diagnose(data_dir=tmp_path))
    assert (found["numpy"].status, found["pandas"].status) == ("warn", "fail")
    assert "2.0.1" in found["numpy"].detail


def test_nothing_listening_is_one_line_at_once(tmp_path):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        started = time.monotonic()
        finding = by_name(diagnose(data_dir=tmp_path, cluster=Cluster(address)))["broker"]
    assert finding.status == "fail"
    assert address in finding.detail
    # Without waiting the eight seconds out that an answer may take.
    assert time.monotonic() - started < 8


def test_a_port_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.doctor.cluster._NETWORK_SECONDS", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        threading.Thread(target=lambda: mute.accept(), daemon=True).start()
        started = time.monotonic()
        cluster = Cluster(f"127.0.0.1:{mute.getsockname()[1]}", ["a"])
        finding = by_name(diagnose(data_dir=tmp_path, cluster=cluster))["broker"]
    assert finding.status == "fail"
    assert time.monotonic() - started < 25


def test_topics_rights_and_clock_of_a_real_broker(tmp_path, broker, make_topic):
    telemetry = make_topic(3)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    producer.send(telemetry, b"{}", partition=0).get(timeout=HANGS)
    producer.close()
    started = time.monotonic()
    cluster = Cluster(broker.bootstrap, reads=[telemetry, "absent-telemetry"], writes=["absent-alerts"])
    found = by_name(diagnose(data_dir=tmp_path, cluster=cluster))
    assert time.monotonic() - started < 15
    assert found["broker"].status == "ok"
    assert found[f"topic {telemetry}"].status == "ok"
    assert found[f"topic {telemetry}"].detail.startswith("3 partitions")
    assert found["topic absent-telemetry"].status == "warn"
    assert "or create it" in found["topic absent-telemetry"].advice  # this broker makes no topic by itself
    assert "absent-alerts" in found["topics to be created"].detail
    assert found["clock"].status == "ok"


def test_a_broker_in_the_future_is_a_clock_finding(tmp_path, broker, make_topic):
    telemetry = make_topic(1)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    producer.send(telemetry, b"{}", timestamp_ms=int((time.time() + 600) * 1000)).get(timeout=HANGS)
    producer.close()
    cluster = Cluster(broker.bootstrap, reads=[telemetry])
    # Where the broker is too busy to show the message within a second, there is none to compare with.
    wait_for(lambda: by_name(diagnose(data_dir=tmp_path, cluster=cluster))["clock"].status == "fail")


@pytest.mark.parametrize("missing", ["missing", "forbidden"])
def test_a_worker_that_cannot_run_is_named(tmp_path, monkeypatch, missing):
    class Located:
        name = "worker_binary"

        def locate(self):
            return tmp_path / "worker_binary"

    if missing == "forbidden":
        (tmp_path / "worker_binary").write_text("")
        monkeypatch.setattr("pipeline.doctor.machine.os.access", lambda *_: False)
    monkeypatch.setattr("pipeline.doctor.machine.metadata.files", lambda _name: [Located()])
    finding = by_name(diagnose(data_dir=tmp_path))["training worker"]
    assert finding.status == "fail"
    assert ("missing" in finding.detail) == (missing == "missing")


@pytest.mark.parametrize("there", [True, False])
def test_a_reader_that_was_not_built_is_named(tmp_path, monkeypatch, there):
    built = tmp_path / "messages.so"
    if there:
        built.write_bytes(b"no library")
    monkeypatch.setattr("ingestion.native.BUILT", built)
    finding = by_name(diagnose(data_dir=tmp_path))["compiled reader"]
    assert finding.status == "warn"
    assert ("another version" if there else "not built") in finding.detail
    assert "compiler" in finding.advice
