from __future__ import annotations

import threading

from ingestion.broker import jars
from tests.waiting import HANGS


def test_two_first_resolves_at_once_give_one_whole_set_of_jars(tmp_path, monkeypatch):
    small = "org.slf4j:slf4j-api:1.7.36"
    monkeypatch.setattr(jars, "_ENDPOINTS", {small: ""})
    runs: list[str] = []
    real = jars._run_jgo
    monkeypatch.setattr(
        jars, "_run_jgo", lambda endpoint, scratch: (runs.append(endpoint), real(endpoint, scratch))[1]
    )
    said: list[str] = []
    paths: list[str] = []

    def resolve():
        paths.append(jars.classpath(jars.kafka_home(said.append, tmp_path)))

    threads = [threading.Thread(target=resolve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGS)
    assert runs == [small]
    assert len(said) == 1
    assert "first time only" in said[0]
    assert len(paths) == 2
    assert paths[0] == paths[1]
    assert paths[0].endswith("slf4j-api-1.7.36.jar")

    # A jar that was cut short counts as not resolved, and is fetched again.
    jar = tmp_path / f"kafka-{jars.KAFKA_VERSION}" / "slf4j-api-1.7.36.jar"
    whole = jar.read_bytes()
    jar.write_bytes(whole[:1000])
    jars.kafka_home(said.append, tmp_path)
    assert jar.read_bytes() == whole
    assert len(runs) == 2
