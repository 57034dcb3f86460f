"""Where a scorer's alerts go: transactions that send alerts, remember machines and store the position, all or nothing.

What keeps two scorers from alerting twice is the transactional id, one a site: the one started later fences the earlier, whose
next transaction fails.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kafka import KafkaProducer, TopicPartition
from kafka.errors import AuthorizationError, InvalidProducerEpochError, KafkaError, ProducerFencedError
from kafka.structs import OffsetAndMetadata

from ingestion.errors import BrokerUnavailable
from pipeline.scoring.memory import memory_topic
from pipeline.scoring.settings import ScorerReplaced, ScoreSettings, ScoringFailed, alert_topic

_SIDE_BY_SIDE = 16

Result = TypeVar("Result")


class AlertSink:
    """Transactional producer of one site's alerts."""

    def __init__(self, settings: ScoreSettings, site: str) -> None:
        """Connect and fence any earlier scorer of this site. Raises BrokerUnavailable, ScoringFailed."""
        self._group, self.topic = settings.group_id, alert_topic(site)
        self._memory_topic = memory_topic(site)
        self._bound = settings.limits.broker_timeout
        self._name = f"{settings.group_id}.{site}"
        self._bootstrap = settings.bootstrap
        self._producer = self._bounded(
            lambda: KafkaProducer(
                bootstrap_servers=settings.bootstrap,
                transactional_id=self._name,
                enable_idempotence=True,
                acks="all",
                max_block_ms=int(self._bound * 1000),
                transaction_timeout_ms=60_000,
                **settings.client,
            ),
            "connect",
        )
        self._bounded(self._producer.init_transactions, "take over the site's alerts")

    def commit(
        self,
        alerts: Sequence[tuple[str, bytes]],
        offsets: Mapping[TopicPartition, tuple[int, int]],
        memories: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Send alerts and memories as `(asset, message)` and store `partition -> (next offset, resume offset)`, all or nothing.

        Raises:
            ScorerReplaced: a later scorer of the same group has taken over.
            BrokerUnavailable: no answer in time; whether it was stored is decided by the broker, start again to see.
        """

        def transaction() -> None:
            self._producer.begin_transaction()
            stored = {
                tp: OffsetAndMetadata(offset, json.dumps({"resume": resume}), -1)
                for tp, (offset, resume) in offsets.items()
            }
            # Offsets first: they are answered at once, while a message of a fenced producer only fails within its time-out.
            self._producer.send_offsets_to_transaction(stored, self._group)
            for asset, value in alerts:
                self._producer.send(self.topic, value=value, key=asset.encode("utf-8"))
            for asset, value in memories:
                self._producer.send(self._memory_topic, value=value, key=asset.encode("utf-8"))
            self._producer.commit_transaction()

        self._bounded(transaction, f"store {len(alerts)} alerts and the position")

    def _bounded(self, action: Callable[[], Result], what: str) -> Result:
        """Run `action` for at most the broker time-out: several calls of the client wait without a bound of their own."""
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append((True, action()))
            except Exception as error:
                outcome.append((False, error))

        worker = threading.Thread(target=run, daemon=True, name=f"alerts-{self._name}")
        worker.start()
        worker.join(self._bound + 5)
        if not outcome:
            raise BrokerUnavailable(
                f"{self._bootstrap}: no answer within {self._bound:g} s to {what}; is the broker running?"
            )
        good, value = outcome[0]
        if good:
            return value  # type: ignore[no-any-return]
        if isinstance(value, (ProducerFencedError, InvalidProducerEpochError)):
            raise ScorerReplaced(
                f"another scorer with group {self._group!r} has taken over {self.topic}; run one scorer a site, or name another group"
            ) from value
        if isinstance(value, AuthorizationError):
            raise ScoringFailed(
                f"{self.topic}: not allowed to {what} ({value}); grant Write on the topic and on transactional id {self._name!r}"
            ) from value
        if isinstance(value, (KafkaError, OSError)):
            raise BrokerUnavailable(
                f"{self._bootstrap}: could not {what} ({type(value).__name__} {value})"
            ) from value
        raise value

    def close(self) -> None:
        """Disconnect within bounds; a transaction in progress is aborted by the broker."""
        with contextlib.suppress(BrokerUnavailable, ScoringFailed, KafkaError, OSError, AssertionError):
            self._bounded(lambda: self._producer.close(timeout=3), "close")


def open_sinks(settings: ScoreSettings) -> dict[str, AlertSink]:
    """A sink for every site, opened side by side, because each waits for the broker several times.

    Raises what `AlertSink` raises, after closing those that were opened.
    """
    with ThreadPoolExecutor(_SIDE_BY_SIDE, "alerts") as pool:
        asked = {site.name: pool.submit(AlertSink, settings, site.name) for site in settings.sites}
    failed = [error for sink in asked.values() if (error := sink.exception()) is not None]
    opened = {name: sink.result() for name, sink in asked.items() if sink.exception() is None}
    if failed:
        close_sinks(opened)
        raise failed[0]
    return opened


def close_sinks(sinks: Mapping[str, AlertSink]) -> None:
    """Disconnect all within the bounds of one."""
    with ThreadPoolExecutor(_SIDE_BY_SIDE, "alerts") as pool:
        for sink in sinks.values():
            pool.submit(sink.close)
