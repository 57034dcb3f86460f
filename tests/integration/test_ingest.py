import json
from pathlib import Path

import pytest

from ingestion.consumer import ingest
from ingestion.errors import ContinuityError
from ingestion.settings import Site
from ingestion.store import footers, read_site
from pipeline.cli.main import run
from tests.ingestion.harness import START_MS, letters, on_disk, origin, produce, reading, rows, settings_for
from tests.waiting import wait_for


def test_a_topic_becomes_windows_with_the_values_that_were_sent(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    make_topic(2, f"iiot.{site}.telemetry.v1")
    produce(
        broker,
        f"iiot.{site}.telemetry.v1",
        [(s % 2, reading(s, f"m{s % 2}", seq=s, quality=192)) for s in range(200)],
    )
    counts = ingest(settings_for(broker, site, tmp_path), until="end").sites[site]
    assert (counts.read, counts.kept, counts.left_open, counts.windows) == (200, 180, 20, 6)
    assert counts.balanced
    tables = list(read_site(tmp_path, site))
    assert [t.num_rows for t in tables] == [60, 60, 60]
    first = tables[0].slice(0, 2).to_pylist()
    assert [(r["asset"], r["seq"], r["quality"], r["temperature"]) for r in first] == [
        ("m0", 0, 192, 0.0),
        ("m1", 1, 192, 0.1),
    ]
    assert first[0]["event_time"].timestamp() * 1000 == START_MS
    found = [f for _, f in footers(tmp_path, site)]
    assert {
        (f.partition, f.kind, f.reason, f.first_offset, f.position_at_close)
        for f in found
        if f.window_start_ns == START_MS * 10**6
    } == {
        (0, "base", "watermark", 0, 34),
        (1, "base", "watermark", 0, 33),
    }


def test_a_second_run_continues_and_an_idle_one_changes_nothing(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [reading(s) for s in range(100)])
    ingest(settings_for(broker, site, tmp_path), until="end")
    produce(broker, name, [reading(s) for s in range(100, 200)])
    second = ingest(settings_for(broker, site, tmp_path), until="end").sites[site]
    assert (second.kept, second.left_open) == (120, 20) and second.balanced
    before = rows(tmp_path)
    third = ingest(settings_for(broker, site, tmp_path), until="end").sites[site]
    assert (third.kept, third.windows) == (0, 0) and third.balanced
    assert rows(tmp_path) == before


def test_replaying_into_an_empty_folder_gives_the_same_bytes(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [reading(s + 7 * (s % 3), f"m{s % 3}") for s in range(400)])
    ingest(settings_for(broker, site, tmp_path / "one"), until="end")
    other = settings_for(broker, site, tmp_path / "two")
    ingest(type(other)(**{**other.__dict__, "group_id": "other-" + site}), until="end")
    assert rows(tmp_path / "one") == rows(tmp_path / "two") and len(rows(tmp_path / "one")) >= 5


def test_closing_open_windows_early_turns_what_follows_into_an_addendum(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [reading(s) for s in range(30)])
    first = ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site]
    assert (first.kept, first.left_open, first.windows) == (30, 0, 1)
    produce(broker, name, [reading(s) for s in range(30, 60)])
    second = ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site]
    assert (second.late, second.addenda, second.balanced) == (30, 1, True)
    (table,) = read_site(tmp_path, site)
    assert table.column("temperature").to_pylist() == [s / 10 for s in range(60)]


BAD = {
    "not_json": b"hello",
    "wrong_shape": b'{"values": 5}',
    "bad_timestamp": b'{"ts": 12, "values": {"t": 1}}',
    "too_deep": b"[" * 5000,
    "empty_value": b"",
    "null_value": None,
    "duplicate_key": b'{"t": 1, "t": 2}',
    "reserved_name": b'{"values": {"offset": 1}}',
    "no_values": b'{"asset": "x"}',
    "too_large": b'{"t": 1, "note": "' + b"x" * 5_000_000 + b'"}',
    "future_timestamp": json.dumps({"ts": 4_000_000_000_000, "t": 1}).encode(),
}


def test_bad_messages_cost_themselves_and_are_kept_with_their_coordinates(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1", {"max.message.bytes": "10000000"})
    messages: list[bytes | None] = []
    for i, value in enumerate(BAD.values()):
        messages += [reading(3 * i), value, reading(3 * i + 1)]
    produce(broker, name, messages)
    counts = ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site]
    assert dict(counts.dead) == dict.fromkeys(BAD, 1)
    assert (counts.read, counts.kept, counts.balanced) == (33, 22, True)
    found = letters(broker, f"iiot.{site}.dlq")
    assert {dict(r.headers)["reason"].decode(): r.value for r in found} == BAD
    assert sorted(origin(r) for r in found) == [(0, 3 * i + 1) for i in range(len(BAD))]
    assert {r.key for r in found} == {f"{name}-0-{3 * i + 1}".encode() for i in range(len(BAD))}
    assert not set(on_disk(tmp_path)) & {origin(r) for r in found}


def test_repairs_and_duplicates_are_counted(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    nan = b'{"ts": %d, "values": {"temperature": NaN, "flow": 1}}' % START_MS
    again = reading(2, seq=5)
    produce(
        broker,
        name,
        [nan, reading(1), again, again, reading(3, values={"temperature": "7.5"}), b'{"temperature": 5}'],
    )
    counts = ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site]
    assert (counts.kept, counts.duplicate, counts.balanced) == (5, 1, True)
    assert counts.repaired == {"non_finite": 1, "unknown_time": 1, "text_number": 1}
    tables = list(read_site(tmp_path, site))
    assert tables[0].column("temperature").to_pylist() == [None, 0.1, 0.2, 7.5]


def test_rows_beyond_the_lateness_go_to_the_late_topic(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [reading(3000), reading(0), reading(2500), reading(3100)])
    counts = ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site]
    assert (counts.kept, counts.late, counts.late_topic, counts.balanced) == (2, 2, 1, True)
    (late,) = letters(broker, f"iiot.{site}.late")
    assert late.value == reading(0) and origin(late) == (0, 1)
    assert dict(late.headers)["reason"] == b"too_late"


def test_an_empty_topic_and_a_missing_one_are_named_and_no_error(broker, make_topic, topic, tmp_path: Path):
    site, other = topic("site"), topic("site")
    make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    both = type(settings)(**{**settings.__dict__, "sites": (*settings.sites, type(settings.sites[0])(other))})
    report = ingest(both, until="end")
    assert report.missing_topics == [f"iiot.{other}.telemetry.v1"]
    assert report.sites[site].read == report.sites[other].read == 0


def test_a_missing_topic_is_named_on_the_screen_beside_the_counts(
    broker, make_topic, topic, tmp_path: Path, capfd
):
    site, other = topic("site"), topic("site")
    produce(broker, make_topic(1, f"iiot.{site}.telemetry.v1"), [reading(s) for s in range(100)])
    config = tmp_path / "plant.toml"
    config.write_text(f'[[sites]]\nname = "{site}"\n[[sites]]\nname = "{other}"\n')
    assert run(["ingest", str(config), "--bootstrap", broker.bootstrap]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == f"no topic iiot.{other}.telemetry.v1 yet"
    assert sum("no topic" in line for line in lines) == 1


def test_a_topic_created_again_stops_the_run_until_the_operator_decides(
    broker, make_topic, topic, tmp_path: Path
):
    from kafka import KafkaAdminClient

    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    produce(broker, name, [reading(s) for s in range(100)])
    ingest(settings_for(broker, site, tmp_path), until="end")
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_topics([name])
    wait_for(lambda: name not in admin.list_topics())
    admin.close()
    make_topic(1, name)
    produce(broker, name, [reading(s) for s in range(100)])
    with pytest.raises(ContinuityError, match="created again"):
        ingest(settings_for(broker, site, tmp_path), until="end")
    counts = ingest(settings_for(broker, site, tmp_path, new_topic=True), until="end").sites[site]
    assert (counts.kept, counts.left_open) == (60, 40)


def test_one_row_a_constant_sensor_and_an_unknown_one_are_kept(broker, make_topic, topic, tmp_path: Path):
    one, constant = topic("site"), topic("site")
    produce(broker, make_topic(1, f"iiot.{one}.telemetry.v1"), [b'{"ts": %d, "t": 1}' % START_MS])
    same = [reading(s, values={"stuck": 5, **({"new": s} if s > 1 else {})}) for s in range(4)]
    produce(broker, make_topic(1, f"iiot.{constant}.telemetry.v1"), same)
    settings = settings_for(broker, one, tmp_path, close_open=True)
    both = type(settings)(**{**settings.__dict__, "sites": (*settings.sites, Site(constant))})
    counts = ingest(both, until="end").sites
    assert (counts[one].kept, counts[constant].kept) == (1, 4)
    (single,) = read_site(tmp_path, one)
    assert single.column("asset").to_pylist() == ["k"] and single.column("t").to_pylist() == [1.0]
    (table,) = read_site(tmp_path, constant)
    assert table.column("stuck").to_pylist() == [5.0] * 4
    assert table.column("new").to_pylist() == [None, None, 2.0, 3.0]
