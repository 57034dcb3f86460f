from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.audit import audit
from ingestion.consumer import ingest
from ingestion.errors import BrokerUnavailable
from ingestion.settings import Limits
from tests.conftest import create_topic
from tests.ingestion.harness import letters, on_disk, produce, reading, settings_for


def test_a_topic_that_takes_no_letter_ends_the_run_in_time_and_nothing_is_lost(
    broker, make_topic, topic, tmp_path: Path
):
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    dead = f"iiot.{site}.dlq"
    create_topic(broker.bootstrap, dead, configs={"max.message.bytes": "100"})
    poison = b"poison" * 100
    produce(broker, name, [*(reading(s, seq=s) for s in range(100)), poison])
    limits = Limits(session_timeout=1.5, commit_interval=0.1, broker_timeout=10.0)
    settings = settings_for(broker, site, tmp_path, limits=limits, close_open=True)
    with pytest.raises(BrokerUnavailable, match="MSG_SIZE_TOO_LARGE"):
        ingest(settings, until="end")
    assert letters(broker, dead) == []
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, dead, {"max.message.bytes": "1000000"})])
    admin.close()
    counts = ingest(replace(settings, limits=Limits(session_timeout=1.5)), until="end").sites[site]
    assert counts.balanced and dict(counts.dead) == {"not_json": 1}
    assert on_disk(tmp_path) == {(0, offset): 1 for offset in range(100)}
    assert [record.value for record in letters(broker, dead)] == [poison]
    assert audit(settings).clean
