"""The broker's configuration file: one node that is broker and controller, KRaft, loopback only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

KAFKA_VERSION = "4.1.1"
MESSAGE_MAX_BYTES = 10 * 1024 * 1024
_NEVER = str(2**63 - 1)


def server_properties(
    log_dir: Path, *, port: int, controller_port: int, extra: Mapping[str, str] | None = None
) -> str:
    """Text of `server.properties` for a plaintext broker on 127.0.0.1; `extra` replaces or adds keys,
    with `{port}` and `{controller_port}` filled in.

    Nothing expires by time (replayed history is old on arrival), a record may lie in the future (sites with a wrong
    clock are the consumer's business, not the broker's), and no topic appears by being mentioned.
    """
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # A killed broker registers again only when its old session has ended; 9 s is the default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "message.max.bytes": str(MESSAGE_MAX_BYTES),
        "replica.fetch.max.bytes": str(MESSAGE_MAX_BYTES),
        "log.retention.ms": "-1",
        "log.retention.bytes": "-1",
        "log.message.timestamp.after.max.ms": _NEVER,
        "log.message.timestamp.before.max.ms": _NEVER,
        # A fresh group or transaction must not wait for memory that a laptop does not need to spend.
        "log.cleaner.dedupe.buffer.size": "16777216",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
    }
    values.update(
        (key, value.replace("{port}", str(port)).replace("{controller_port}", str(controller_port)))
        for key, value in (extra or {}).items()
    )
    return "".join(f"{key}={_escape(value)}\n" for key, value in values.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


LOG4J2 = """status = error
name = fedplant-broker
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = ${sys:fedplant.log}
appender.file.filePattern = ${sys:fedplant.log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS'Z'}{UTC} %-5p %m (%c{1})%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""
