"""A limit on the time of calls into librdkafka, some of which can ignore the one they are given."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

T = TypeVar("T")
_HURRY_SECONDS = 2.0


def within(seconds: float, work: Callable[[], T], hurry: threading.Event) -> T:
    """What `work` returns or raises; a KafkaException (`_TIMED_OUT`) if it has not come back in time, or soon once `hurry` is set.

    It runs in a thread of its own, which is left behind if it does not come back.
    """
    outcome: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="watched", daemon=True)
    thread.start()
    end = time.monotonic() + seconds
    while thread.is_alive():
        thread.join(0.05)
        if hurry.is_set():
            end = min(end, time.monotonic() + _HURRY_SECONDS)
            hurry = threading.Event()
        if thread.is_alive() and time.monotonic() > end:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no end in time", retriable=True))
    if errors:
        raise errors[0]
    return outcome[0]
