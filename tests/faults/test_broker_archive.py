"""Later starts of the embedded broker map an archive of Kafka's classes; nothing about it stops a start."""

from __future__ import annotations

import fcntl
import shutil
import sys
from pathlib import Path

import pytest

from ingestion.broker import EmbeddedBroker
from ingestion.broker.archive import archive_options, keep_list
from ingestion.broker.jars import kafka_home
from tests.waiting import HANGS


def mapped(broker: EmbeddedBroker) -> bool:
    return ".jsa" in Path(f"/proc/{broker.pid}/maps").read_text()


def test_the_second_start_makes_the_archive_once_and_a_damaged_one_only_makes_a_start_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jars = kafka_home(print)
    home = tmp_path / "cache" / jars.name
    shutil.copytree(jars, home, ignore=shutil.ignore_patterns("classes*"))
    monkeypatch.setenv("FEDPLANT_CACHE", str(home.parent))
    # A minute is enough for an operator, who then has a slow start, and not for every machine that tests.
    monkeypatch.setattr("ingestion.broker.archive.DUMP_SECONDS", HANGS)
    said: list[str] = []
    with EmbeddedBroker.start(tmp_path / "first", on_message=said.append) as first:
        assert not mapped(first)
    assert said == []
    assert not list((tmp_path / "first").glob("classes*"))
    listed = (home / "classes.txt").read_text()
    assert "kafka/server/KafkaBroker" in listed
    assert listed.endswith("\n")

    with EmbeddedBroker.start(tmp_path / "second", on_message=said.append) as second:
        assert mapped(second)
    assert said == ["preparing faster starts of the broker, once (5 s)"]

    (archive,) = home.glob("*.jsa")
    archive.write_bytes(archive.read_bytes()[:100_000])
    with EmbeddedBroker.start(tmp_path / "third", on_message=said.append) as third:
        assert not mapped(third)
    assert len(said) == 1


def test_a_java_that_makes_no_archive_is_asked_once(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("java/lang/Object\n")
    said: list[str] = []
    assert archive_options(tmp_path, ["/bin/false"], tmp_path, said.append) == []
    assert archive_options(tmp_path, ["/bin/false"], tmp_path, said.append) == []
    assert len(said) == 1


def test_an_archive_that_another_process_is_making_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("java/lang/Object\n")
    with (tmp_path / "archive.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert archive_options(tmp_path, [sys.executable], tmp_path, pytest.fail) == []


def test_half_a_line_of_the_list_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "classes.txt").write_text("java/lang/Object\nkafka/")
    keep_list(tmp_path, folder)
    assert (tmp_path / "classes.txt").read_text() == "java/lang/Object\n"


def test_a_home_that_takes_no_file_leaves_the_start_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "classes.txt").write_text("java/lang/Object\nkafka/")
    keep_list(tmp_path / "missing", folder)
    assert list(folder.iterdir()) == []
    (tmp_path / "classes.txt").write_text("")
    (tmp_path / "archive.lock").mkdir()
    assert archive_options(tmp_path, [sys.executable], tmp_path, pytest.fail) == []


def test_archives_of_the_last_javas_are_kept_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("java/lang/Object\n")
    for number in range(4):
        java = tmp_path / f"java-{number}"
        java.write_text(
            "#!/bin/sh\nfor o; do case $o in -XX:SharedArchiveFile=*) echo x >${o#*=};; esac; done\n"
            + "#" * number
        )
        java.chmod(0o755)
        assert archive_options(tmp_path, [str(java)], tmp_path, lambda _line: None) != []
    assert len(list(tmp_path.glob("*.jsa"))) == 3
