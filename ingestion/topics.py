"""What ingestion asks a cluster beside records: who it is, which topics it has under which ids, and to create some."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from ingestion.clients import LOG, native_options
from ingestion.errors import BrokerUnavailable


class Topics:
    """Questions to one cluster, each answered or failed within `timeout` seconds by a KafkaException."""

    def __init__(self, bootstrap: str, client: Mapping[str, Any], timeout: float) -> None:
        self._bootstrap, self._timeout = bootstrap, timeout
        self._admin = AdminClient(native_options(bootstrap, client), logger=LOG)

    def cluster_id(self) -> str:
        """The cluster's own name for itself."""
        return str(self._admin.list_topics(timeout=self._timeout).cluster_id)

    def ids(self, names: Iterable[str], timeout: float | None = None) -> dict[str, str]:
        """Topic ids of those of `names` that exist."""
        found = {}
        timeout = min(timeout or self._timeout, self._timeout)
        asked = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=timeout)
        for name, answer in asked.items():
            try:
                topic_id = answer.result(timeout + 1).topic_id
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue
                raise
            high, low = topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits()
            found[name] = str(uuid.UUID(int=(high % 2**64 << 64) | low % 2**64))
        return found

    def partitions(self, names: Iterable[str]) -> int:
        """How many partitions those of `names` that exist have together."""
        known = self._admin.list_topics(timeout=self._timeout).topics
        return sum(len(known[name].partitions) for name in names if name in known)

    def create(self, names: Iterable[str], config: dict[str, str]) -> None:
        """Create those of `names` that do not exist, with one partition. Raises BrokerUnavailable."""
        missing = sorted(set(names) - self.ids(names).keys())
        if not missing:
            return
        wanted = [NewTopic(name, 1, -1, config=config) for name in missing]
        for name, answer in self._admin.create_topics(wanted, operation_timeout=self._timeout).items():
            try:
                answer.result(self._timeout + 1)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise BrokerUnavailable(
                        f"topic {name} cannot be created at {self._bootstrap}: {error.args[0].str()}; create it by hand"
                    ) from error
