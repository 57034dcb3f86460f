"""Which Kafka a command talks to: the configured cluster, one named on the command line, or the embedded broker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.kafka import KafkaConfig
from pipeline.config.schema import Config
from pipeline.errors import ConfigError

EMBEDDED = "embedded"
PASSWORD_VARIABLE = "FEDPLANT_KAFKA_PASSWORD"
TOKEN_VARIABLE = "FEDPLANT_KAFKA_TOKEN_SECRET"
KEY_VARIABLE = "FEDPLANT_KAFKA_KEY_PASSWORD"


@dataclass(frozen=True)
class Cluster:
    """A reachable cluster: `host:port[,host:port]` and the kafka-python options that secure the connection."""

    bootstrap: str
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)


def client_options(kafka: KafkaConfig, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """kafka-python options for the configured security; secrets are read here and nowhere else.

    Raises:
      ConfigError: a secret is needed and none was given, or a named file cannot be read.
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
    if kafka.key_password_file is not None or (kafka.key_file is not None and KEY_VARIABLE in environment):
        options["ssl_password"] = _secret(kafka, "key_password_file", KEY_VARIABLE, environment)
    if kafka.sasl_mechanism is not None:
        options["sasl_mechanism"] = kafka.sasl_mechanism
    if kafka.sasl_mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = _token_source(kafka, environment)
    elif kafka.sasl_mechanism is not None:
        options["sasl_plain_username"] = kafka.username
        options["sasl_plain_password"] = _secret(kafka, "password_file", PASSWORD_VARIABLE, environment)
    return options


def _secret(kafka: KafkaConfig, key: str, variable: str, environment: Mapping[str, str]) -> str:
    secret, path = environment.get(variable), getattr(kafka, key)
    if secret is None and path is not None:
        secret = _readable(path, f"kafka.{key}").strip()
    if not secret:
        who = {"password_file": f"user {kafka.username!r} needs a password"}.get(
            key, f"{key} holds no secret"
        )
        raise ConfigError(f"kafka: {who}; set {variable} or kafka.{key}")
    return secret


def _token_source(kafka: KafkaConfig, environment: Mapping[str, str]) -> Any:
    from ingestion.tokens import TokenEndpoint, TokenFile, TokenFunction

    if kafka.token_file is not None:
        _readable(kafka.token_file, "kafka.token_file")
        return TokenFile(kafka.token_file)
    if kafka.token_function is not None:
        return TokenFunction(kafka.token_function)
    assert kafka.token_url is not None and kafka.token_client is not None
    secret = _secret(kafka, "token_secret_file", TOKEN_VARIABLE, environment)
    return TokenEndpoint(kafka.token_url, kafka.token_client, secret, kafka.token_scope, kafka.token_ca_file)


def _readable(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} = {path}: cannot be read: {getattr(error, 'strerror', error)}") from None


def secured(cluster: Cluster, timeout: float) -> Cluster:
    """The same cluster, once it has let this client in. Raises BrokerUnavailable with the reason of a refusal."""
    if cluster.client.get("security_protocol", "PLAINTEXT") != "PLAINTEXT":
        from ingestion.preflight import preflight

        preflight(cluster.bootstrap, cluster.client, timeout)
    return cluster


@contextmanager
def connect(config: Config, bootstrap: str | None, say: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster for one command; an embedded broker that is not running yet runs for as long as the command.

    Raises:
      ConfigError: the security settings are incomplete.
      BrokerStartFailed: the embedded broker could not be started.
      BrokerUnavailable: a secured cluster refuses this client.
    """
    chosen = bootstrap or config.kafka.bootstrap
    if chosen != EMBEDDED:
        yield secured(Cluster(chosen, client_options(config.kafka)), config.kafka.request_timeout)
        return

    from ingestion.broker import EmbeddedBroker, default_data_dir, status

    folder = config.kafka.embedded_dir or default_data_dir()
    running = status(folder)
    if running is not None:
        yield Cluster(running.bootstrap, client_options(config.kafka))
        return
    with EmbeddedBroker.start(folder, on_message=say) as broker:
        yield Cluster(broker.bootstrap, client_options(config.kafka))
