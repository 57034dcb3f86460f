from __future__ import annotations

import time
from datetime import datetime, timezone

import numpy as np
import orjson
import pandas as pd
import pytest
from kafka import KafkaConsumer, TopicPartition

from ingestion.errors import BrokerUnavailable, InputDataError
from ingestion.replay import replay
from ingestion.sitefile import SiteFile
from tests.waiting import HANGS


def site_file(site, rows=300, assets=("a", "b"), start="2026-01-05T00:00:00Z", step="1s"):
    times = pd.date_range(start, periods=rows, freq=step).repeat(len(assets))
    frame = pd.DataFrame({"timestamp": times.astype("datetime64[ns, UTC]"), "asset": list(assets) * rows})
    frame["temp"] = np.arange(len(frame), dtype=float)
    frame["flow"] = np.where(np.arange(len(frame)) % 7 == 0, np.nan, 0.125)
    labels = pd.Series([1] * len(frame), dtype="Int8")
    return SiteFile(site, frame, ("temp", "flow"), labels, ())


def everything(bootstrap, topic):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    parts = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
    consumer.assign(parts)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(parts)
    records = []
    deadline = time.monotonic() + HANGS
    while any(consumer.position(part) < ends[part] for part in parts):
        assert time.monotonic() < deadline
        for batch in consumer.poll(timeout_ms=200).values():
            records.extend(batch)
    consumer.close()
    return records


def test_what_arrives_is_every_row_once_as_a_gateway_sends_it_and_never_the_label(broker, topic):
    site = topic("site")
    file = site_file(site)
    before = time.time() * 1000
    report = replay({site: file}, bootstrap=broker.bootstrap, partitions=2)
    records = everything(broker.bootstrap, f"iiot.{site}.telemetry.v1")
    messages = [orjson.loads(record.value) for record in records]

    assert report.sites[site].messages == len(records) == 600
    assert report.sites[site].bytes == sum(len(record.value) for record in records)
    assert {tuple(message) for message in messages} == {("asset", "ts", "values", "quality", "seq")}
    assert not any(b"label" in record.value for record in records)
    for asset in ("a", "b"):
        own = [(m, r) for m, r in zip(messages, records, strict=True) if m["asset"] == asset]
        rows = file.frame[file.frame["asset"] == asset]
        assert {record.key for _, record in own} == {asset.encode()}
        assert len({record.partition for _, record in own}) == 1
        assert [m["seq"] for m, _ in own] == list(range(300))
        assert [m["ts"] for m, _ in own] == [int(t.timestamp() * 1000) for t in rows["timestamp"]]
        assert [m["values"]["temp"] for m, _ in own] == rows["temp"].tolist()
        assert [m["values"]["flow"] is None for m, _ in own] == rows["flow"].isna().tolist()
    assert all(record.timestamp >= before - 1 for record in records)


def test_a_reading_from_the_future_never_runs_ahead_of_its_own_record(broker, topic):
    site = topic("site")
    replay({site: site_file(site, rows=5, start="2099-01-01T00:00:00Z")}, bootstrap=broker.bootstrap)
    records = everything(broker.bootstrap, f"iiot.{site}.telemetry.v1")
    assert len(records) == 10
    assert all(record.timestamp == orjson.loads(record.value)["ts"] for record in records)


def test_two_spans_continue_each_other_without_gap_or_overlap(broker, topic):
    site = topic("site")
    files = {site: site_file(site)}
    cut = datetime(2026, 1, 5, 0, 1, tzinfo=timezone.utc)
    first = replay(files, bootstrap=broker.bootstrap, end=cut)
    second = replay(files, bootstrap=broker.bootstrap, start=cut)
    assert (first.messages, second.messages) == (120, 480)
    messages = [orjson.loads(r.value) for r in everything(broker.bootstrap, f"iiot.{site}.telemetry.v1")]
    assert [m["seq"] for m in messages if m["asset"] == "a"] == list(range(300))


def test_speed_is_a_factor_of_real_time(broker, topic):
    site = topic("site")
    began = time.monotonic()
    replay({site: site_file(site, rows=41, step="1s")}, bootstrap=broker.bootstrap, speed=20.0)
    seconds = time.monotonic() - began
    # The forty seconds of the file in two; what a slow machine adds is less than them.
    assert 1.9 <= seconds < 40


def test_one_process_for_each_site_sends_the_same(broker, topic):
    files = {site: site_file(site, rows=50) for site in (topic("site"), topic("site"))}
    seen: list[tuple[int, int, str]] = []
    report = replay(
        files, bootstrap=broker.bootstrap, processes="per-site", progress=lambda *now: seen.append(now)
    )
    assert {site: sent.messages for site, sent in report.sites.items()} == dict.fromkeys(files, 100)
    assert seen[-1][:2] == (200, 200)
    for site in files:
        assert len(everything(broker.bootstrap, f"iiot.{site}.telemetry.v1")) == 100


def test_a_dry_run_counts_without_a_broker():
    report = replay({"s": site_file("s")}, bootstrap="", dry_run=True)
    assert report.to_dict()["messages"] == 600
    assert report.sites["s"].bytes > 600 * 60


def test_a_broker_that_is_away_is_one_clear_line_within_the_time_limit():
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1: no answer from Kafka"):
        replay({"s": site_file("s", rows=1)}, bootstrap="127.0.0.1:1", timeout=1.0)
    assert time.monotonic() - began < 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": ["x"]}, "no file of site x"),
        ({"speed": 0.0}, "expected a positive factor"),
        ({"start": datetime(2027, 1, 1)}, "no reading between 2027"),
    ],
)
def test_an_impossible_replay_is_refused_before_anything_is_sent(options, message):
    with pytest.raises(InputDataError, match=message):
        replay({"s": site_file("s")}, bootstrap="127.0.0.1:1", **options)
