"""Which Kafka a command talks to: the configured cluster, one named on the command line, or the embedded broker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config, KafkaConfig
from pipeline.errors import ConfigError

EMBEDDED = "embedded"
PASSWORD_VARIABLE = "FEDPLANT_KAFKA_PASSWORD"


@dataclass(frozen=True)
class Cluster:
    """A reachable cluster: `host:port[,host:port]` and the kafka-python options that secure the connection."""

    bootstrap: str
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)


def client_options(kafka: KafkaConfig, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """kafka-python options for the configured security; the secret is read here and nowhere else.

    Raises:
      ConfigError: a password is needed and none was given, or a named file cannot be read.
    """
    options: dict[str, Any] = {
        "security_protocol": kafka.security_protocol,
        # Without it a client waits its own 30 s for a cluster that is not there.
        "bootstrap_timeout_ms": int(kafka.request_timeout * 1000),
    }
    for key, path in (
        ("ssl_cafile", kafka.ca_file),
        ("ssl_certfile", kafka.cert_file),
        ("ssl_keyfile", kafka.key_file),
    ):
        if path is not None:
            _readable(path, key)
            options[key] = str(path)
    if kafka.sasl_mechanism is not None:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.username
        options["sasl_plain_password"] = _password(kafka, environment)
    return options


def _password(kafka: KafkaConfig, environment: Mapping[str, str]) -> str:
    secret = environment.get(PASSWORD_VARIABLE)
    if secret is None and kafka.password_file is not None:
        secret = _readable(kafka.password_file, "kafka.password_file").strip()
    if not secret:
        raise ConfigError(
            f"kafka: user {kafka.username!r} needs a password; set {PASSWORD_VARIABLE} or kafka.password_file"
        )
    return secret


def _readable(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} = {path}: cannot be read: {getattr(error, 'strerror', error)}") from None


@contextmanager
def connect(config: Config, bootstrap: str | None, say: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster for one command; an embedded broker that is not running yet runs for as long as the command.

    Raises:
      ConfigError: the security settings are incomplete.
      BrokerStartFailed: the embedded broker could not be started.
    """
    chosen = bootstrap or config.kafka.bootstrap
    if chosen != EMBEDDED:
        yield Cluster(chosen, client_options(config.kafka))
        return

    from ingestion.broker import EmbeddedBroker, default_data_dir, status

    folder = config.kafka.embedded_dir or default_data_dir()
    running = status(folder)
    if running is not None:
        yield Cluster(running.bootstrap, client_options(config.kafka))
        return
    with EmbeddedBroker.start(folder, on_message=say) as broker:
        yield Cluster(broker.bootstrap, client_options(config.kafka))
