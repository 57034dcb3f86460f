"""What cannot be kept goes to a topic of its own, in one Kafka transaction with the source offsets it belongs to.

So a letter is there exactly once: either letters and offsets are committed together, or neither is and the messages are
read again. The transactional id is a numbered slot in the data folder, held by a file lock: after a crash the next process
takes the same slot, and the broker ends the transaction that was left open.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from ingestion.clients import LOG, native_options
from ingestion.errors import BrokerUnavailable, StorageError
from ingestion.faultpoint import reached

LETTER_BYTES = 16 << 20
CUT_BYTES = 64 << 10


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
    late_rows: int = 0
    cut_from: int = 0

    @property
    def size(self) -> int:
        """Bytes of the original."""
        return len(self.value or b"")

    def cut(self) -> "Letter":
        """The first 64 KiB, for a topic that refuses more; a header says how long the original is."""
        if self.size <= CUT_BYTES:
            return self
        return replace(self, value=(self.value or b"")[:CUT_BYTES], cut_from=self.size)

    @property
    def key(self) -> bytes:
        """`topic-partition-offset`."""
        return f"{self.topic}-{self.partition}-{self.offset}".encode()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """Coordinates and cause as text headers."""
        names = ("topic", "topic_id", "partition", "offset", "stage", "reason", "message")
        cut = [("cut_from_bytes", str(self.cut_from).encode())] if self.cut_from else []
        return [(name, str(getattr(self, name)).encode()) for name in names] + cut


class NothingSent(Exception):
    """The letters were not sent, or nobody knows; what the broker holds decides."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(str(error))
        self.error = error


class Outbox:
    """A transactional producer for letters. Not thread safe: belongs to the Kafka loop."""

    def __init__(
        self, bootstrap: str, client: Mapping[str, Any], group_id: str, data_dir: Path, timeout: float
    ) -> None:
        self._bootstrap, self._timeout = bootstrap, timeout
        self._lock, slot = _take_slot(data_dir, group_id)
        self._options = {
            **native_options(bootstrap, client),
            "transactional.id": f"{group_id}-letters-{slot}",
            "transaction.timeout.ms": 20_000,
            "message.timeout.ms": 20_000,
            "message.max.bytes": LETTER_BYTES,
            # A batch may not be larger than the smallest limit a topic is likely to have.
            "batch.size": CUT_BYTES,
            "linger.ms": 5,
        }
        try:
            self._producer = self._begin()
        except KafkaException as error:
            os.close(self._lock)
            raise BrokerUnavailable(
                f"no transactional producer at {bootstrap}: {error.args[0].str()}"
            ) from error

    def _begin(self) -> Producer:
        producer = Producer(self._options, logger=LOG)
        producer.init_transactions(self._timeout)
        return producer

    def send(self, letters: list[Letter], offsets: list[TopicPartition], group: Any) -> None:
        """Letters and offsets become visible together. Raises NothingSent if that is not certain."""
        try:
            failures = self._transact(letters, offsets, group)
            if failures == {KafkaError.MSG_SIZE_TOO_LARGE}:
                failures = self._transact([letter.cut() for letter in letters], offsets, group)
            if failures:
                raise KafkaException(KafkaError(min(failures)))
            reached("letters_confirmed")
        except KafkaException as failure:
            self._start_over(failure.args[0])
            raise NothingSent(failure.args[0]) from failure

    def _transact(self, letters: list[Letter], offsets: list[TopicPartition], group: Any) -> set[int]:
        """One transaction; returns the error codes of refused letters, after which it is taken back."""
        producer, failures = self._producer, set[int]()

        def told(error: KafkaError | None, _message: Any) -> None:
            if error is not None:
                failures.add(error.code())

        producer.begin_transaction()
        for letter in letters:
            self._post(letter, told)
        if producer.flush(self._timeout) > 0:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        if failures:
            producer.abort_transaction(self._timeout)
            return failures
        reached("letters_sent")
        self._patiently(lambda: producer.send_offsets_to_transaction(offsets, group, self._timeout))
        self._patiently(lambda: producer.commit_transaction(self._timeout))
        return failures

    def _post(self, letter: Letter, told: Callable[..., None]) -> None:
        while True:
            try:
                self._producer.produce(
                    letter.destination, letter.value, letter.key, headers=letter.headers, on_delivery=told
                )
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE or letter.cut_from:
                    raise
                letter = letter.cut()

    def _patiently(self, step: Callable[[], None]) -> None:
        end = time.monotonic() + self._timeout
        while True:
            try:
                step()
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def _start_over(self, error: KafkaError) -> None:
        """Take the transaction back; if that is not possible, a new producer of the same name makes the broker do it."""
        if error.txn_requires_abort():
            with contextlib.suppress(KafkaException):
                self._producer.abort_transaction(self._timeout)
                return
        self._producer.purge()
        try:
            self._producer = self._begin()
        except KafkaException as failure:
            raise BrokerUnavailable(
                f"no transactional producer at {self._bootstrap}: {failure.args[0].str()}"
            ) from failure

    def close(self) -> None:
        """Free the slot; a transaction that is open is ended by whoever takes it next."""
        self._producer.purge()
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
