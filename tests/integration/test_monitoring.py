"""What a running ingestion shows to the outside, asked as an operator's tools would ask."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingestion.observation import PublishTimes, View
from pipeline.cli.main import run
from pipeline.monitoring.metrics import METRICS, Board, reference
from pipeline.scoring.settings import SiteScore
from tests.ingestion.harness import produce, reading
from tests.waiting import HANGS, wait_for

COMMAND = str(Path(sys.executable).parent / "fedplant")


def config_of(broker: Any, site: str, folder: Path, more: str = "") -> Path:
    path = folder / "fedplant.toml"
    path.write_text(
        f'[project]\ndata_dir = "{folder}/data"\n[kafka]\nbootstrap = "{broker.bootstrap}"\n[[sites]]\nname = "{site}"\n'
        f'[ingestion]\ngroup = "g-{site}"\nout_of_orderness = "5s"\n'
        f"[ingestion.sensors.temperature]\nmax = 20\n{more}"
    )
    return path


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values...) -> value."""
    return {
        (sample.name, *(sample.labels[label] for label in METRICS[known].labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for known in METRICS
        if known.removesuffix("_total") == family.name and "_bucket" not in sample.name
    }


def scraped(port: int) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return samples(answer.read().decode())


def test_a_running_ingestion_is_scraped_logs_json_and_is_seen_by_status(
    broker, make_topic, topic, tmp_path: Path, capfd
) -> None:
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")
    config = config_of(broker, site, tmp_path)
    sent = [(s % 2, b"poison" if s == 7 else reading(s, seq=s)) for s in range(300)]
    produce(broker, name, [*sent, sent[100], (0, reading(0.5, "late", seq=1))])
    command = [COMMAND, "ingest", str(config), "--follow", "--metrics-port", "0", "--log-json", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stderr is not None
    lines = []
    while not (found := re.search(r"127\.0\.0\.1:(\d+)/metrics", line := process.stderr.readline())):
        lines.append(line)
        assert line, "ended without serving metrics"
    port, seen = int(found[1]), {}

    def settled() -> bool:
        """Everything was read, and what is closed by it published: four windows of each partition."""
        seen.update(scraped(port))
        expected = {
            ("fedplant_ingest_rows_in_total", site): 302,
            ("fedplant_ingest_dead_letters_total", site, "not_json"): 1,
            ("fedplant_ingest_windows_total", site, "window"): 8,
            **{("fedplant_ingest_lag_messages", site, name, partition): 0 for partition in "01"},
        }
        return seen | expected == seen

    wait_for(settled)
    assert (
        seen[("fedplant_ingest_rows_in_total", site)] == seen[("fedplant_ingest_messages_total", site)] == 302
    )
    assert seen[("fedplant_ingest_rows_total", site, "kept")] >= 230
    assert seen[("fedplant_ingest_dropped_values_total", site, "temperature", "out_of_range")] > 90
    assert seen[("fedplant_ingest_windows_total", site, "window")] == seen_kept(tmp_path)
    assert seen[("fedplant_ingest_publish_seconds_count",)] >= 2
    for partition in "01":
        place = (site, name, partition)
        assert seen[("fedplant_ingest_lag_messages", *place)] == 0
        assert seen[("fedplant_ingest_open_windows", *place)] >= 1
        assert seen[("fedplant_ingest_lag_seconds", *place)] > 1e6
    assert {key[0] for key in seen if key[0].startswith("fedplant_ingest")} >= {
        name for name, what in METRICS.items() if name.startswith("fedplant_ingest") and what.kind == "gauge"
    }

    capfd.readouterr()
    assert run(["status", str(config), "--json"]) == 0
    parts = json.loads(capfd.readouterr().out)["partitions"]
    assert [(p["log_end"], p["partition"]) for p in parts] == [(152, 0), (150, 1)]
    assert sum(p["windows"] for p in parts) == seen_kept(tmp_path)
    assert all(p["last_window_end"] == 1_700_000_280_000_000_000 for p in parts)
    assert run(["status", str(config)]) == 0
    assert f"{site}[1]" in capfd.readouterr().out

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 0 and json.loads(out)["sites"][site]["messages"] == 302
    logged = [json.loads(line) for line in [*lines, *err.splitlines()]]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in logged)
    assert logged[-1]["event"] == "done" and logged[-1]["message"] == "ingesting"


def seen_kept(folder: Path) -> int:
    return len([p for p in folder.glob("data/windows/*/*/p*/*.parquet") if ".add-" not in p.name])


def test_a_taken_port_is_one_clear_line(broker, topic, tmp_path: Path, capfd) -> None:
    config = config_of(broker, topic("site"), tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(["ingest", str(config), "--metrics-port", str(port)]) == 2
    assert (
        f"metrics port {port} on 127.0.0.1: Address already in use; name a free one" in capfd.readouterr().err
    )


def test_status_of_nothing_and_of_a_broker_that_is_away(broker, topic, tmp_path: Path, capfd) -> None:
    site = topic("site")
    config = config_of(broker, site, tmp_path)
    assert run(["status", str(config)]) == 0
    assert f"no topic iiot.{site}.telemetry.v1 yet" in capfd.readouterr().out
    config.write_text(config.read_text().replace("[kafka]", '[kafka]\nrequest_timeout = "1s"'))
    assert run(["status", str(config), "--bootstrap", "127.0.0.1:1"]) == 3
    assert "127.0.0.1:1" in capfd.readouterr().err


def test_a_failure_is_a_json_line_too(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[kafka]\nbootstrap = "127.0.0.1:1"\nrequest_timeout = "1s"\n[[sites]]\nname = "a"\n')
    done = subprocess.run(
        [COMMAND, "ingest", str(path), "--log-json"], capture_output=True, text=True, timeout=HANGS
    )
    last = json.loads(done.stderr.splitlines()[-1])
    assert done.returncode == 3 and (last["level"], last["event"], last["exit_code"]) == (
        "error",
        "failed",
        3,
    )


def test_ingestions_that_follow_each_other_add_up() -> None:
    board = Board()
    counts = {
        "a": {
            "messages": 5,
            "read": 5,
            "kept": 4,
            "late": 1,
            "late_topic": 0,
            "duplicate": 0,
            "already_handled": 0,
        }
        | {
            "left_open": 0,
            "windows": 2,
            "addenda": 1,
            "dead_lettered_by_reason": {"not_json": 1},
            "sensors": {},
        }
    }
    for _ in range(2):
        board.ingesting(View((), counts, PublishTimes()))
        board.ingested(counts)
    board.scoring("a", SiteScore(messages=3, flagged=1))
    board.ingesting(View((), counts))
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(board)  # type: ignore[arg-type]
    seen = samples(generate_latest(registry).decode())
    assert seen[("fedplant_ingest_rows_total", "a", "kept")] == 12
    assert seen[("fedplant_ingest_dead_letters_total", "a", "not_json")] == 3
    assert seen[("fedplant_score_steps_total", "a", "flagged")] == 1


def test_the_metrics_page_is_what_the_code_says_and_every_metric_is_shown() -> None:
    page = Path(__file__).parents[2] / "docs/reference/metrics.md"
    assert page.read_text() == reference(), (
        "write pipeline.monitoring.metrics.reference() to docs/reference/metrics.md"
    )
    shown = {family.name for family in Board().collect()}
    assert shown == {name.removesuffix("_total") for name in METRICS}


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_metric_says_what_it_is(name: str) -> None:
    what = METRICS[name]
    assert name.endswith("_total") == (what.kind == "counter") and what.help.endswith(".")
