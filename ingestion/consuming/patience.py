"""How long a failing cluster is borne with, and which of its answers no waiting mends."""

import time

from confluent_kafka import KafkaError, KafkaException

from ingestion.clients import LOG

REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}
_APART = 5


class Refusal:
    """The cluster's word that we may not, which belongs to no request and may come from any thread."""

    def __init__(self) -> None:
        self._refusal: KafkaError | None = None

    def heard(self, error: KafkaError) -> None:
        """An error that belongs to no request."""
        LOG.info("%s", error)
        if error.code() in REFUSED:
            self._refusal = error

    def check(self) -> None:
        """Raise a KafkaException if the cluster has refused us."""
        if self._refusal is not None:
            raise KafkaException(self._refusal)


class Patience:
    """With one kind of work: counts from the first of a row of failures; `seconds` is its length.

    Success of other work ends no row. Failures further apart than `_APART` times its length are of two rows.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._last = 0.0

    def failed(self, error: KafkaError) -> None:
        """A request failed: raise what waiting cannot mend, and what has not been mended for too long."""
        if error.code() in REFUSED or error.fatal():
            raise KafkaException(error)
        now = time.monotonic()
        if self._since is None or now - self._last > _APART * self._seconds:
            self._since = now
        self._last = now
        if now - self._since > self._seconds:
            raise KafkaException(error)
        LOG.info("will try again: %s", error)

    def mended(self) -> None:
        """The work was done."""
        self._since = None
