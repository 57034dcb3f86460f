"""May this user do what is about to be done? Asked before a secured cluster is worked with, so that everything denied is named at once.

Without this a topic that may not be seen looks like one that does not exist, and a right that is missing shows in the middle of the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from ingestion.clients import LOG, native_options
from ingestion.errors import BrokerUnavailable


@dataclass(frozen=True)
class Errand:
    """What a user is about to do on a cluster: topics that are read, topics that are written, groups that are read with.

    `client` as in `IngestSettings`; each question is answered within `timeout` seconds or left open.
    """

    bootstrap: str
    client: Mapping[str, Any] = field(repr=False)
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    timeout: float = 30.0

    def assure(self) -> None:
        """Return if nothing is denied. Raises BrokerUnavailable naming everything that must be granted."""
        denied = self.denied()
        if denied:
            user = self.client.get("sasl_plain_username")
            who = f"user {user!r}" if user else "this user"
            raise BrokerUnavailable(
                f"{self.bootstrap}: {who} lacks {', '.join(denied)}; grant these, or name another user"
            )

    def denied(self) -> list[str]:
        """What this user may not do of it, one text a right, such as `Read on group g`.

        A topic that does not exist is not denied; an unsecured cluster denies nothing.
        """
        if self.client.get("security_protocol", "PLAINTEXT") == "PLAINTEXT":
            return []
        admin = AdminClient(native_options(self.bootstrap, self.client), logger=LOG)
        return self._topics(admin) + self._groups(admin)

    def _topics(self, admin: AdminClient) -> list[str]:
        names = list(dict.fromkeys((*self.reads, *self.writes)))
        if not names:
            return []
        asked: dict[str, Any] = admin.describe_topics(
            TopicCollection(names), include_authorized_operations=True, request_timeout=self.timeout
        )
        denied = []
        for name, answer in asked.items():
            allowed = self._operations(answer, KafkaError.TOPIC_AUTHORIZATION_FAILED)
            for right, wanted in (("Read", self.reads), ("Write", self.writes)):
                if name in wanted and allowed is not None and not allowed & {right.upper(), "ALL"}:
                    denied.append(f"{right} on topic {name}")
        return denied

    def _groups(self, admin: AdminClient) -> list[str]:
        names = list(dict.fromkeys(self.groups))
        if not names:
            return []
        asked: dict[str, Any] = admin.describe_consumer_groups(
            names, include_authorized_operations=True, request_timeout=self.timeout
        )
        found = {n: self._operations(a, KafkaError.GROUP_AUTHORIZATION_FAILED) for n, a in asked.items()}
        return [
            f"Read on group {name}"
            for name, allowed in found.items()
            if allowed is not None and not allowed & {"READ", "ALL"}
        ]

    def _operations(self, answer: Any, refusal: int) -> set[str] | None:
        """Names of what is allowed, none if not even looking is; None where the broker does not say."""
        try:
            found = answer.result(self.timeout + 1)
        except KafkaException as error:
            return set() if error.args[0].code() == refusal else None
        operations = found.authorized_operations
        return None if operations is None else {operation.name for operation in operations}
