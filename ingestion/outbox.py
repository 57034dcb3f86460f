"""Letters and the source offsets they belong to, in one Kafka transaction.

The transactional id is a numbered slot in the data folder, held by a file lock: after a crash the next process takes the
same slot, and the broker ends the transaction that was left open. Each transaction runs in a thread of its own, because
librdkafka's `send_offsets_to_transaction` can ignore its time-out for good when the coordinator goes away (its issue 5456);
a thread that does not come back is left behind together with its producer, which the next one of the same id fences.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from ingestion.clients import LOG, native_options
from ingestion.deadletter import CUT_BYTES, LETTER_BYTES, Letter
from ingestion.errors import BrokerUnavailable, StorageError
from ingestion.faultpoint import reached
from ingestion.watched import within

T = TypeVar("T")
_STEP_SECONDS = 2.0
_COORDINATED = "__transaction_state"
_LONGEST_NAME = 200


class NothingSent(Exception):
    """The letters were not sent, or nobody knows; what the broker holds decides."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(str(error))
        self.error = error


class Outbox:
    """Belongs to the Kafka loop. `hurry` is set when the process has to end: then nothing is waited for long."""

    def __init__(
        self,
        bootstrap: str,
        client: Mapping[str, Any],
        group_id: str,
        data_dir: Path,
        timeout: float,
        hurry: threading.Event,
    ) -> None:
        self._bootstrap, self._timeout, self._hurry = bootstrap, timeout, hurry
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
        self._producer: Producer | None = None
        try:
            self._producer = self._begin()
        except BrokerUnavailable:
            os.close(self._lock)
            raise

    def _begin(self) -> Producer:
        producer = Producer(self._options, logger=LOG)
        try:
            # Asked before any connection is up, librdkafka asks for the coordinator again only after half a second. The first
            # answer may come by the bootstrap connection, which it closes then; the second comes by one that stays.
            for _ in range(2):
                self._watched(lambda: producer.list_topics(_COORDINATED, timeout=self._timeout))
            self._watched(lambda: producer.init_transactions(self._timeout))
        except KafkaException as error:
            raise BrokerUnavailable(
                f"no transactional producer at {self._bootstrap}: {error.args[0].str()}"
            ) from error
        return producer

    def send(self, letters: list[Letter], offsets: list[TopicPartition], group: Any) -> None:
        """Letters and offsets become visible together. Raises NothingSent if that is not certain, BrokerUnavailable."""
        producer = self._producer
        if producer is None:
            raise NothingSent(KafkaError(KafkaError._STATE, "the process is ending"))
        try:
            failures = self._watched(lambda: _transact(producer, letters, offsets, group, self._until()))
            if failures == {KafkaError.MSG_SIZE_TOO_LARGE}:
                short = [letter.cut() for letter in letters]
                failures = self._watched(lambda: _transact(producer, short, offsets, group, self._until()))
            if failures:
                raise KafkaException(KafkaError(min(failures)))
            reached("letters_confirmed")
        except KafkaException as failure:
            self._take_back(producer, failure.args[0])
            raise NothingSent(failure.args[0]) from failure

    def _until(self) -> float:
        return time.monotonic() + self._timeout

    def _take_back(self, producer: Producer, error: KafkaError) -> None:
        """End the transaction before anybody reads again what was committed: by its own producer, or by the next of its id."""
        self._producer = None
        if self._hurry.is_set():
            return
        if error.txn_requires_abort():
            with contextlib.suppress(KafkaException):
                self._watched(lambda: producer.abort_transaction(self._timeout))
                self._producer = producer
                return
        self._producer = self._begin()

    def _watched(self, work: Callable[[], T]) -> T:
        return within(self._timeout + _STEP_SECONDS, work, self._hurry)

    def close(self) -> None:
        """Free the slot; a transaction that is open is ended by whoever takes it next."""
        if self._producer is not None:
            self._producer.purge()
        os.close(self._lock)


def _transact(
    producer: Producer, letters: list[Letter], offsets: list[TopicPartition], group: Any, until: float
) -> set[int]:
    """One transaction; returns the error codes of refused letters, after which it is taken back. Raises KafkaException."""
    failures = set[int]()

    def told(error: KafkaError | None, _message: Any) -> None:
        if error is not None:
            failures.add(error.code())

    producer.begin_transaction()
    for letter in letters:
        _post(producer, letter, told)
    _patiently(lambda: _flush(producer), until)
    if failures:
        producer.abort_transaction(_STEP_SECONDS)
        return failures
    reached("letters_sent")
    _patiently(lambda: producer.send_offsets_to_transaction(offsets, group, _STEP_SECONDS), until)
    _patiently(lambda: producer.commit_transaction(_STEP_SECONDS), until)
    return failures


def _post(producer: Producer, letter: Letter, told: Callable[..., None]) -> None:
    while True:
        try:
            producer.produce(
                letter.destination, letter.value, letter.key, headers=letter.headers, on_delivery=told
            )
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE or letter.cut_from:
                raise
            letter = letter.cut()


def _flush(producer: Producer) -> None:
    if producer.flush(_STEP_SECONDS) > 0:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "letters not confirmed", retriable=True))


def _patiently(step: Callable[[], None], until: float) -> None:
    while True:
        try:
            step()
            return
        except KafkaException as error:
            LOG.info("letters: %s", error.args[0])
            if not error.args[0].retriable() or time.monotonic() > until:
                raise
            time.sleep(0.1)


def _take_slot(data_dir: Path, group_id: str) -> tuple[int, int]:
    folder = data_dir / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for slot in range(1024):
            descriptor = os.open(folder / f"{_file_name(group_id)}-{slot}", os.O_RDWR | os.O_CREAT, 0o644)
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


def _file_name(group_id: str) -> str:
    """A name for the group's locks that stays in its folder; of ordinary groups their own."""
    name = quote(group_id, safe="")
    if len(name) <= _LONGEST_NAME:
        return name
    return name[:100] + hashlib.sha256(group_id.encode()).hexdigest()
