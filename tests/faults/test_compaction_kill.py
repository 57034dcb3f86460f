"""Compaction broken off by kill -9 at every step, beside addenda, replays and a running ingestion: nothing lost, nothing read twice."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from ingestion.audit import audit
from ingestion.compaction import compact
from ingestion.consumer import ingest
from ingestion.errors import StorageError
from ingestion.faultpoint import COMPACTION_STEPS
from ingestion.windowfiles import footers, read_site
from pipeline.cli.main import run
from tests.ingestion.harness import RULES, produce, reading, settings_for
from tests.waiting import HANGS

PERIOD = {"period": 600.0, "older_than": 300.0}
_COMPACT = """
import sys
from pathlib import Path
from ingestion.compaction import compact
compact(Path(sys.argv[1]), [sys.argv[2]], period=300, older_than=300)
"""


def read_by_hand(folder: Path) -> Counter[tuple[int, int]]:
    """(partition, offset) of every row that counts, from plain Parquet and the two rules of the format."""
    found: Counter[tuple[int, int]] = Counter()
    for partition in folder.glob("windows/*/*/p*"):
        files = {path.name: pq.ParquetFile(path) for path in partition.glob("[!.]*.parquet")}
        gone: set[str] = set()
        for name, file in files.items():
            if ".compact-" in name:
                content = orjson.loads(file.metadata.metadata[b"fedplant_compacted"])
                gone |= {member for member, _ in content["members"]} | set(content["replaces"])
        for name, file in files.items():
            if name not in gone:
                offsets = file.read(columns=["offset"]).column("offset").to_pylist()
                found.update((int(partition.name[1:]), offset) for offset in offsets)
    return found


def state(folder: Path, site: str) -> tuple[list[tuple[str, Any]], list[tuple[str, str]]]:
    """What a reader sees: columns and values of every table in order, and names and footers of everything published."""
    tables = [(str(table.schema), table.to_pydict()) for table in read_site(folder, site)]
    return tables, [(path.name, footer.to_json()) for path, footer in footers(folder, site)]


def killed_compaction(folder: Path, site: str, step: str) -> None:
    environment = {**os.environ, "FEDPLANT_CRASH_AT": step, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", _COMPACT, str(folder), site],
        env=environment,
        capture_output=True,
        timeout=HANGS,
    )
    assert done.returncode == -signal.SIGKILL, (step, done.stderr)


@pytest.fixture
def filled(broker, make_topic, topic, tmp_path: Path):
    """Fifty minutes of one-minute windows on two partitions, some sensors only now and then, a late addendum, a repeated reading."""
    site = topic("site")
    name = make_topic(2, f"iiot.{site}.telemetry.v1")
    sent = []
    for second in range(0, 3000, 5):
        values = {"t": second / 10, **({"rare": 1.0} if second % 700 == 0 else {})}
        sent.append((second // 5 % 2, reading(second, f"m{second % 3}", seq=second, values=values)))
    sent[100:100] = [(0, reading(1, "late", seq=1)), (1, reading(0, "m0", seq=0))]
    produce(broker, name, sent)
    settings = replace(settings_for(broker, site, tmp_path), event_time=replace(RULES, allowed_lateness=1500))
    ingest(settings, until="end")
    return site, name, settings


def test_a_kill_at_every_step_changes_nothing_that_a_reader_or_the_audit_sees(filled, tmp_path: Path) -> None:
    site, _, settings = filled
    before, by_hand, audited = state(tmp_path, site), read_by_hand(tmp_path), audit(settings)
    files = len(list(tmp_path.glob("windows/*/*/p*/*.parquet")))
    assert audited.clean and files > 90 and any(".add-" in name for name, _ in before[1])
    for step in ("compact_written:3", "compact_linked:2", "compact_removing:7", *COMPACTION_STEPS):
        killed_compaction(tmp_path, site, step)
        assert state(tmp_path, site) == before, step
        assert read_by_hand(tmp_path) == by_hand, step
        assert audit(settings) == audited, step
    report = compact(tmp_path, [site], **PERIOD)
    left = list(tmp_path.glob("windows/*/*/p*/*.parquet"))
    assert state(tmp_path, site) == before and read_by_hand(tmp_path) == by_hand
    assert audit(settings) == audited
    assert sum(folder.files_after for folder in report.folders) == len(left) < 40
    assert not list(tmp_path.glob("windows/*/*/p*/.compacting-*"))


def test_ingestion_goes_on_over_compacted_windows_late_addenda_and_replays_included(
    broker, filled, tmp_path: Path
) -> None:
    site, name, settings = filled
    held = read_by_hand(tmp_path)
    report = compact(tmp_path, [site], **PERIOD)
    assert report.to_dict()["periods"] >= 6 and report.to_dict()["rows"] > 400
    again_sent = reading(2100, "m0", seq=2100, values={"t": 210.0, "rare": 1.0})
    late = [(0, reading(2101, "late", seq=2)), (0, again_sent)]
    produce(broker, name, [*late, (0, reading(3100, seq=9001)), (1, reading(3100, seq=9002))])
    counts = ingest(settings, until="end").sites[site]
    assert counts.balanced and (counts.late, counts.duplicate) == (1, 1)
    assert any(".add-" in path.name for path in tmp_path.glob("windows/*/*/p0/*"))
    fresh = read_by_hand(tmp_path) - held
    assert set((held & read_by_hand(tmp_path)).items()) == set(held.items())
    assert audit(settings).clean and max(fresh.values()) == 1

    again = compact(tmp_path, [site], **PERIOD).to_dict()
    assert again["periods"] == 1 and audit(settings).clean
    tables = [table.select(["offset"]).to_pydict() for table in read_site(tmp_path, site)]
    assert Counter(offset for table in tables for offset in table["offset"]) == Counter(
        offset for (_, offset), n in read_by_hand(tmp_path).items() for _ in range(n)
    )

    replay = replace(settings, group_id=f"{settings.group_id}-again")
    counts = ingest(replay, until="end").sites[site]
    assert counts.kept == 0 and counts.late == 0 and counts.balanced
    assert audit(settings).clean


def test_a_compaction_beside_a_running_ingestion_loses_and_doubles_nothing(
    broker, filled, tmp_path: Path
) -> None:
    site, name, settings = filled
    settings = replace(settings, event_time=RULES)
    stop = threading.Event()
    outcome: list[object] = []
    runner = threading.Thread(target=lambda: outcome.append(ingest(settings, until=None, stop=stop)))
    runner.start()
    try:
        for turn in range(4):
            begin = 3000 + turn * 600
            produce(
                broker,
                name,
                [(s // 5 % 2, reading(s, f"m{s % 3}", seq=s)) for s in range(begin, begin + 600, 5)]
                + [(0, reading(begin - 500 + turn, "late", seq=begin))],
            )
            compact(tmp_path, [site], **PERIOD)
    finally:
        stop.set()
        runner.join(HANGS)
    assert len(outcome) == 1, "the running ingestion failed"
    ingest(settings, until="end")
    assert audit(settings).clean
    assert max(read_by_hand(tmp_path).values()) == 1
    compact(tmp_path, [site], **PERIOD)
    assert audit(settings).clean


def test_a_damaged_compacted_file_is_named_set_aside_and_rebuilt_from_the_topic(
    filled, tmp_path: Path
) -> None:
    site, _, settings = filled
    before = read_by_hand(tmp_path)
    compact(tmp_path, [site], **PERIOD)
    first = next(iter(sorted(tmp_path.glob("windows/*/*/p0/*.compact-*.parquet"))))
    first.write_bytes(first.read_bytes()[:-1000])
    with pytest.raises(StorageError, match="is damaged; ingest again"):
        list(read_site(tmp_path, site))
    assert audit(settings).bad_files == [str(first)]
    ingest(settings, until="end")
    assert audit(settings).clean and read_by_hand(tmp_path) == before
    assert (first.parent / "damaged").exists()


def test_a_dry_run_a_second_compaction_and_a_damaged_window_are_told_apart(filled, tmp_path: Path) -> None:
    site, _, _ = filled
    before = {path: path.read_bytes() for path in tmp_path.glob("windows/**/*.parquet")}
    planned = compact(tmp_path, [site], dry_run=True, **PERIOD).to_dict()
    assert {path: path.read_bytes() for path in tmp_path.glob("windows/**/*.parquet")} == before
    victim = sorted(tmp_path.glob("windows/*/*/p0/*.parquet"))[0]
    victim.write_bytes(b"")
    done = compact(tmp_path, [site], **PERIOD).to_dict()
    assert victim.exists() and (done["left"], done["periods"]) == (1, planned["periods"] - 1)
    assert compact(tmp_path, [site], **PERIOD).to_dict()["periods"] == 0
    assert json.loads(json.dumps(planned))["files_before"] == len(before)


def test_the_command_unites_what_its_configuration_names(filled, tmp_path: Path, capfd) -> None:
    site, _, _ = filled
    config = tmp_path / "c.toml"
    config.write_text(f'[project]\ndata_dir = "{tmp_path}"\n[[sites]]\nname = "{site}"\n')
    held = read_by_hand(tmp_path)
    capfd.readouterr()
    assert run(["compact", str(config), "--period", "10min", "--older-than", "5min", "--json"]) == 0
    done = json.loads(capfd.readouterr().out)
    assert done["files_after"] < done["files_before"] and read_by_hand(tmp_path) == held
    assert run(["compact", str(config), "--period", "30s"]) == 2
    assert "shorter than a window" in capfd.readouterr().err
