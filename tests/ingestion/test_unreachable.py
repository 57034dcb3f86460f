"""A cluster that is not there is one line with what to do, whichever command and client finds out."""

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka.errors import GroupAuthorizationFailedError, KafkaTimeoutError

from ingestion.unreachable import unavailable
from pipeline.cli.main import run


@pytest.mark.parametrize("command", ["audit", "status", "ingest", "run"])
def test_a_command_without_its_broker_says_so_once_and_what_to_do(tmp_path, capsys, command):
    config = tmp_path / "fedplant.toml"
    kafka = '[kafka]\nbootstrap = "127.0.0.1:1"\nrequest_timeout = "1s"\n'
    config.write_text(f'[[sites]]\nname = "east"\n{kafka}')
    assert run([command, str(config)]) == 3
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fedplant: ")]
    assert len(said) == 1
    assert said[0].startswith("fedplant: 127.0.0.1:1: no answer from Kafka (")
    assert "start the broker or correct the address" in said[0] and "`fedplant doctor`" in said[0]
    assert said[0].count("KafkaTimeoutError") <= 1


def test_what_was_asked_for_is_named_and_a_refusal_is_not_taken_for_silence():
    away = str(unavailable("kafka:9092", KafkaTimeoutError("gone"), "topic t"))
    assert away.startswith("kafka:9092: topic t: no answer from Kafka (KafkaTimeoutError: gone); start")
    bare = str(unavailable("kafka:9092", KafkaTimeoutError()))
    assert "(KafkaTimeoutError);" in bare
    for refused in (
        GroupAuthorizationFailedError("g"),
        KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)),
    ):
        told = str(unavailable("kafka:9092", refused))
        assert "no answer" not in told and told.endswith("; check broker and permissions")
