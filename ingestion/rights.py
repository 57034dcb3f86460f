"""May this user do what is about to be done? Asked before a secured cluster is worked with, so that everything denied is named at once.

Without this a topic that may not be seen looks like one that does not exist, and a right that is missing shows in the middle of the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from ingestion.clients import LOG, native_options
from ingestion.errors import BrokerUnavailable


def assure_rights(
    bootstrap: str,
    client: Mapping[str, Any],
    topics: Mapping[str, str],
    groups: Iterable[str] = (),
    timeout: float = 30.0,
) -> None:
    """Return if `missing_rights` finds none. Raises BrokerUnavailable naming everything that must be granted."""
    missing = missing_rights(bootstrap, client, topics, groups, timeout)
    if missing:
        raise BrokerUnavailable(
            f"{bootstrap}: {who(client)} lacks {', '.join(missing)}; grant these, or name another user"
        )


def missing_rights(
    bootstrap: str,
    client: Mapping[str, Any],
    topics: Mapping[str, str],
    groups: Iterable[str] = (),
    timeout: float = 30.0,
) -> list[str]:
    """What this user may not do of what is wanted: `topics` by name with `Read` or `Write`, and reading with `groups`.

    One text a right, such as `Read on group g`. A topic that does not exist is not denied; an unsecured cluster denies nothing.
    """
    if client.get("security_protocol", "PLAINTEXT") == "PLAINTEXT":
        return []
    admin = AdminClient(native_options(bootstrap, client), logger=LOG)
    missing: list[str] = []
    asked: dict[str, Any] = admin.describe_topics(
        TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=timeout
    )
    for name, answer in asked.items():
        allowed = _operations(answer, timeout, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        if allowed is not None and not allowed & {topics[name].upper(), "ALL"}:
            missing.append(f"{topics[name]} on topic {name}")
    wanted = list(groups)
    if wanted:
        asked = admin.describe_consumer_groups(
            wanted, include_authorized_operations=True, request_timeout=timeout
        )
        for name, answer in asked.items():
            allowed = _operations(answer, timeout, KafkaError.GROUP_AUTHORIZATION_FAILED)
            if allowed is not None and not allowed & {"READ", "ALL"}:
                missing.append(f"Read on group {name}")
    return missing


def _operations(answer: Any, timeout: float, denied: int) -> set[str] | None:
    """Names of what is allowed, none if not even looking is; None where the broker does not say."""
    try:
        found = answer.result(timeout + 1)
    except KafkaException as error:
        return set() if error.args[0].code() == denied else None
    operations = found.authorized_operations
    return None if operations is None else {operation.name for operation in operations}


def who(client: Mapping[str, Any]) -> str:
    """The user for an error line, as far as this side knows it."""
    user = client.get("sasl_plain_username")
    return f"user {user!r}" if user else "this user"
