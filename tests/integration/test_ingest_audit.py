import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.audit import audit
from ingestion.consumer import ingest
from tests.ingestion.harness import START_MS, produce, reading, settings_for


def test_the_audit_names_what_is_missing_doubled_damaged_or_only_waiting(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    two = b'[{"ts": %d, "t": 1}, {"ts": %d, "t": 2}]' % (START_MS + 100_000, START_MS + 101_000)
    messages = [reading(s) for s in range(100)] + [reading(99), two, b"poison", reading(170)]
    produce(broker, name, messages)
    assert [(p.position, p.waiting, p.missing) for p in audit(settings).partitions] == [(None, 104, 0)]

    ingest(settings, until="end")
    report = audit(settings)
    (found,) = report.partitions
    assert report.clean and (found.log_start, found.log_end) == (0, 104)
    assert (found.kept, found.duplicate, found.dead, found.waiting, found.late_topic) == (101, 1, 1, 1, 0)

    first, second = sorted(tmp_path.glob("windows/*/*/p0/*.parquet"))
    kept = first.read_bytes()
    first.unlink()
    report = audit(settings)
    (found,) = report.partitions
    assert not report.clean
    assert (found.missing, found.first_missing, found.doubled) == (60, list(range(10)), 0)
    first.write_bytes(kept)

    file = pq.ParquetFile(second)
    footer = file.metadata.metadata[b"fedplant"]
    again = file.read().slice(2, 1).replace_schema_metadata({b"fedplant": footer})
    doubled = second.with_name(second.name.replace(".parquet", ".add-62.parquet"))
    pq.write_table(again, doubled)
    assert [(p.doubled, p.first_doubled) for p in audit(settings).partitions] == [(1, [62])]

    pq.write_table(pa.table({"offset": [1]}), doubled)
    assert audit(settings).bad_files == [str(doubled)]
    doubled.unlink()
    assert audit(settings).clean
    other = replace(settings, sites=(*settings.sites, type(settings.sites[0])(topic("none"))))
    assert audit(other).missing_topics == [other.sites[1].topic]


def test_offsets_that_hold_no_message_are_no_loss(broker, make_topic, topic, tmp_path: Path):
    from kafka import KafkaProducer

    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=f"tx-{site}")
    producer.init_transactions()
    for keep in (True, False, True):
        producer.begin_transaction()
        for second in range(5):
            producer.send(name, reading(second + (100 if keep else 0), seq=int(keep)), partition=0)
        producer.flush(20)
        producer.commit_transaction() if keep else producer.abort_transaction()
    producer.close()
    settings = settings_for(broker, site, tmp_path, close_open=True)
    counts = ingest(settings, until="end").sites[site]
    assert (counts.read, counts.kept, counts.duplicate) == (10, 5, 5)
    report = audit(settings)
    (found,) = report.partitions
    assert report.clean
    assert (found.log_end, found.kept, found.duplicate, found.no_record) == (18, 5, 5, 8)


def test_letters_behind_the_open_transaction_of_a_killed_process_are_waited_for(
    broker, make_topic, topic, tmp_path: Path
):
    from kafka import KafkaProducer

    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path, close_open=True)
    produce(broker, name, [reading(1), b"poison", reading(2)])
    killed = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=f"killed-{site}")
    killed.init_transactions()
    killed.begin_transaction()
    killed.send(make_topic(1, settings.sites[0].dead_letter_topic), b"never", partition=0).get(20)
    ingest(settings, until="end")
    broker_ends_it = threading.Timer(3, killed.abort_transaction)
    broker_ends_it.start()
    report = audit(settings)
    broker_ends_it.join()
    killed.close()
    assert report.clean and [(p.kept, p.dead) for p in report.partitions] == [(2, 1)]
