"""What cannot be kept goes to a topic of its own, in one Kafka transaction with the source offsets it belongs to.

So a letter is there exactly once: either letters and offsets are committed together, or neither is and the messages are
read again. The transactional id is a numbered slot in the data folder, held by a file lock: after a crash the next process
takes the same slot, and the broker ends the transaction that was left open.
"""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, TopicAlreadyExistsError

from ingestion.errors import BrokerUnavailable, StorageError
from ingestion.faultpoint import reached

LETTER_BYTES = 16 << 20


@dataclass(frozen=True)
class Letter:
    """One message to set aside: destination, original bytes, where it came from and why it could not be kept."""

    destination: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    value: bytes | None
    stage: str
    reason: str
    message: str

    @property
    def key(self) -> bytes:
        """`topic-partition-offset`."""
        return f"{self.topic}-{self.partition}-{self.offset}".encode()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """Coordinates and cause as text headers."""
        names = ("topic", "topic_id", "partition", "offset", "stage", "reason", "message")
        return [(name, str(getattr(self, name)).encode()) for name in names]


def make_topics(bootstrap: str, client: Mapping[str, Any], names: set[str], timeout: float) -> None:
    """Create the dead-letter and late topics that do not exist, with room for large messages. Raises BrokerUnavailable."""
    options = {
        "num_partitions": 1,
        "replication_factor": -1,
        "configs": {"max.message.bytes": str(LETTER_BYTES)},
    }
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, **client)
    try:
        missing = names - set(admin.list_topics())
        for name in sorted(missing):
            try:
                admin.create_topics({name: options}, timeout_ms=int(timeout * 1000), wait_for_metadata=True)
            except TopicAlreadyExistsError:
                continue
    except KafkaError as error:
        raise BrokerUnavailable(
            f"topics {sorted(names)} cannot be created at {bootstrap}: {error}; create them by hand"
        ) from error
    finally:
        admin.close()


class Outbox:
    """A transactional producer for letters. Not thread safe: belongs to the Kafka loop."""

    def __init__(
        self, bootstrap: str, client: Mapping[str, Any], group_id: str, data_dir: Path, timeout: float
    ) -> None:
        self._timeout = timeout
        self._lock, slot = _take_slot(data_dir, group_id)
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap,
                transactional_id=f"{group_id}-letters-{slot}",
                transaction_timeout_ms=20_000,
                max_request_size=LETTER_BYTES,
                compression_type=None,
                max_block_ms=int(timeout * 1000),
                **client,
            )
            self._producer.init_transactions()
        except KafkaError as error:
            os.close(self._lock)
            raise BrokerUnavailable(f"no transactional producer at {bootstrap}: {error}") from error

    def send(self, letters: list[Letter], offsets: dict[Any, Any], group: Any) -> None:
        """Letters and offsets become visible together, or an exception says that neither did."""
        self._producer.begin_transaction()
        try:
            futures = [self._post(letter) for letter in letters]
            self._producer.flush(timeout=self._timeout)
            for future in futures:
                if future is not None:
                    future.get(timeout=self._timeout)
            reached("letters_sent")
            self._producer.send_offsets_to_transaction(offsets, group)
            self._producer.commit_transaction()
            reached("letters_confirmed")
        except KafkaTimeoutError as error:
            raise BrokerUnavailable(
                f"dead letters not confirmed within {self._timeout:.0f} s: {error}"
            ) from error
        except KafkaError:
            self._producer.abort_transaction()
            raise

    def _post(self, letter: Letter) -> Any:
        try:
            return self._producer.send(
                letter.destination, value=letter.value, key=letter.key, headers=letter.headers
            )
        except MessageSizeTooLargeError:
            headers = [*letter.headers, ("cut_from_bytes", str(len(letter.value or b"")).encode())]
            return self._producer.send(
                letter.destination, value=(letter.value or b"")[:65536], key=letter.key, headers=headers
            )

    def close(self) -> None:
        """Close the producer and free the slot."""
        self._producer.close(timeout=5)
        os.close(self._lock)


def _take_slot(data_dir: Path, group_id: str) -> tuple[int, int]:
    folder = data_dir / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for slot in range(1024):
            descriptor = os.open(folder / f"{group_id}-{slot}", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor, slot
            except BlockingIOError:
                os.close(descriptor)
    except OSError as error:
        raise StorageError(
            f"data folder {data_dir} cannot be used: {error.strerror}; check path and permissions"
        ) from error
    raise StorageError(f"more than 1024 processes use {folder}")
