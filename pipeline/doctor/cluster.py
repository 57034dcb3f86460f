"""The part of the diagnosis that asks a Kafka cluster; every step is bounded, secrets are never shown."""

import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]

_NETWORK_SECONDS = 8.0
_CLOCK_WARN_S, _CLOCK_FAIL_S = 2.0, 60.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `detail` is what was found, `advice` what to do, empty when `status` is ok."""

    name: str
    status: Status
    detail: str
    advice: str = ""


@dataclass(frozen=True)
class Cluster:
    """The cluster to look at.

    `reads` and `writes` are topics that FedPlant consumes and produces; a topic of `writes` that does not exist is
    expected to be created on first use. `groups` are the consumer groups. `client` holds kafka-python's security options, never shown.
    """

    bootstrap: str
    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    groups: Sequence[str] = ()
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)


def look_at_cluster(cluster: Cluster) -> list[Finding]:
    """Reachability, topics with this user's rights, and the clock; within `_NETWORK_SECONDS` and never raising."""
    reached = _reachable(cluster.bootstrap)
    if reached.status == "fail":
        return [reached]
    outcome: list[list[Finding]] = []

    def ask() -> None:
        try:
            outcome.append(_ask(cluster))
        except Exception as error:
            outcome.append([_failed(cluster, error)])

    worker = threading.Thread(target=ask, daemon=True, name="doctor")
    worker.start()
    worker.join(_NETWORK_SECONDS)
    if not outcome:
        return [
            Finding(
                "broker",
                "fail",
                f"{cluster.bootstrap} accepts connections but did not answer within {_NETWORK_SECONDS:g} s",
                "Check that the port speaks Kafka, that `kafka.security_protocol` is the listener's, and that the broker's"
                " advertised listeners can be reached from here.",
            )
        ]
    return outcome[0]


def _failed(cluster: Cluster, error: Exception) -> Finding:
    return Finding(
        "broker",
        "fail",
        f"{cluster.bootstrap}: {type(error).__name__} {error}".strip(),
        "Check `kafka.security_protocol`, certificates and advertised listeners, and see the broker's log.",
    )


def _reachable(bootstrap: str) -> Finding:
    reasons = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdigit():
            reasons.append(f"{address.strip()!r} is not host:port")
            continue
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=1.5):
                return Finding("broker", "ok", f"{address.strip()} accepts connections")
        except OSError as error:
            reasons.append(f"{address.strip()}: {error.strerror or error}")
        if len(reasons) >= 4:
            break
    return Finding(
        "broker",
        "fail",
        "; ".join(reasons),
        "Start the broker, or correct `kafka.bootstrap`; a firewall must let this host through.",
    )


def _ask(cluster: Cluster) -> list[Finding]:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError, SaslAuthenticationFailedError

    from ingestion.errors import IngestionError
    from ingestion.preflight import preflight

    if cluster.client.get("security_protocol", "PLAINTEXT") != "PLAINTEXT":
        try:
            preflight(cluster.bootstrap, cluster.client, _NETWORK_SECONDS / 2)
        except IngestionError as error:
            found, _, advice = str(error).rpartition("; ")
            return [Finding("broker", "fail", found or advice, advice.capitalize() + ".")]
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=cluster.bootstrap,
            request_timeout_ms=4000,
            **{"client_id": "fedplant-doctor", **cluster.client},
        )
    except (KafkaError, OSError, ssl.SSLError, ValueError, AssertionError) as error:
        refused = isinstance(error, SaslAuthenticationFailedError)
        advice = (
            "Check user name and password."
            if refused
            else "Check `kafka.security_protocol`, certificates and advertised listeners."
        )
        return [
            Finding("broker", "fail", f"{cluster.bootstrap}: {type(error).__name__} {error}".strip(), advice)
        ]
    try:
        findings = [_answered(cluster, admin)]
        findings += _topics(cluster, admin)
        findings += _groups(cluster)
        findings.append(_clock(cluster, admin))
        return findings
    except (KafkaError, OSError) as error:
        return [
            Finding(
                "broker",
                "fail",
                f"{cluster.bootstrap}: {type(error).__name__} {error}".strip(),
                "See the broker's log.",
            )
        ]
    finally:
        admin.close()


def _answered(cluster: Cluster, admin: Any) -> Finding:
    described = admin.describe_cluster()
    count = len(described.get("brokers") or [])
    return Finding("broker", "ok", f"{cluster.bootstrap} answers, {count} broker{'s' if count != 1 else ''}")


def _topics(cluster: Cluster, admin: Any) -> list[Finding]:
    wanted = list(dict.fromkeys([*cluster.reads, *cluster.writes]))
    if not wanted:
        return []
    known = {topic["name"]: topic for topic in admin.describe_topics(wanted)}
    findings, absent = [], []
    for name in wanted:
        topic = known.get(name) or {"error_code": 3}
        code = int(topic.get("error_code") or 0)
        if code == 29:
            findings.append(
                Finding(f"topic {name}", "fail", "this user may not see it", "Grant Describe on the topic.")
            )
        elif code == 3 and name not in cluster.writes:
            findings.append(
                Finding(
                    f"topic {name}",
                    "warn",
                    "does not exist",
                    "Correct the site's `topic`, or create it; where the cluster makes topics by itself (the embedded broker does not), "
                    "it appears with the plant's first message.",
                )
            )
        elif code == 3:
            absent.append(name)
        elif code != 0:
            findings.append(
                Finding(
                    f"topic {name}", "warn", f"the broker answers with error {code}", "See the broker's log."
                )
            )
        else:
            findings.append(_rights(name, topic, name in cluster.reads, name in cluster.writes))
    if absent:
        shown = ", ".join(absent[:4]) + (f" and {len(absent) - 4} more" if len(absent) > 4 else "")
        findings.append(
            Finding(
                "topics to be created", "ok", f"{shown}: made at first use, if this user may create topics"
            )
        )
    return findings


def _rights(name: str, topic: Mapping[str, Any], reads: bool, writes: bool) -> Finding:
    partitions = len(topic.get("partitions") or [])
    detail = f"{partitions} partition{'s' if partitions != 1 else ''}"
    allowed = topic.get("authorized_operations", topic.get("topic_authorized_operations"))
    if not isinstance(allowed, (list, tuple, set)):
        return Finding(f"topic {name}", "ok", f"{detail}; the broker does not tell this user's rights")
    names = {str(getattr(operation, "name", operation)).upper() for operation in allowed}
    needed = [right for right, used in (("READ", reads), ("WRITE", writes)) if used]
    missing = [right.capitalize() for right in needed if right not in names and "ALL" not in names]
    if missing:
        return Finding(
            f"topic {name}",
            "fail",
            f"{detail}, but this user lacks {' and '.join(missing)}",
            f"Grant {' and '.join(missing)} on the topic to this user.",
        )
    return Finding(
        f"topic {name}", "ok", f"{detail}, {' and '.join(right.lower() for right in needed)} allowed"
    )


def _groups(cluster: Cluster) -> list[Finding]:
    """Whether this user may read with its consumer groups; an unsecured cluster is not asked."""
    from ingestion.rights import Errand

    if not cluster.groups or cluster.client.get("security_protocol", "PLAINTEXT") == "PLAINTEXT":
        return []
    denied = Errand(
        cluster.bootstrap, cluster.client, groups=tuple(cluster.groups), timeout=_NETWORK_SECONDS / 2
    ).denied()
    name, groups = "consumer groups", ", ".join(cluster.groups)
    if denied:
        return [
            Finding(
                name,
                "fail",
                f"this user lacks {', '.join(denied)}",
                "Grant Read on the group, or name another.",
            )
        ]
    return [Finding(name, "ok", f"{groups}: reading allowed")]


def _clock(cluster: Cluster, admin: Any) -> Finding:
    """This machine's clock against the newest record the broker stamped or, without one, not at all."""
    from kafka import KafkaConsumer, TopicPartition

    newest = None
    consumer = KafkaConsumer(
        bootstrap_servers=cluster.bootstrap,
        enable_auto_commit=False,
        request_timeout_ms=4000,
        **cluster.client,
    )
    try:
        for topic in cluster.reads[:3]:
            for number in sorted(consumer.partitions_for_topic(topic) or ())[:2]:
                tp = TopicPartition(topic, number)
                end = consumer.end_offsets([tp], timeout_ms=1500)[tp]
                if end == 0:
                    continue
                consumer.assign([tp])
                consumer.seek(tp, end - 1)
                records = consumer.poll(timeout_ms=800).get(tp) or []
                if records:
                    newest = max(newest or 0, records[-1].timestamp)
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)
    now = time.time()
    if newest is None:
        return Finding("clock", "ok", "no messages yet to compare this machine's clock with")
    ahead = newest / 1000 - now
    if ahead <= _CLOCK_WARN_S:
        return Finding(
            "clock", "ok", f"the newest message was stamped {-ahead:.0f} s before this machine's time"
        )
    status: Status = "fail" if ahead > _CLOCK_FAIL_S else "warn"
    return Finding(
        "clock",
        status,
        f"the newest message is stamped {ahead:.0f} s in this machine's future",
        "Synchronise this machine, the broker and the plants' gateways (NTP, chrony).",
    )
