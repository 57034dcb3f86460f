"""One line for a cluster that does not answer or refuses, whichever client says so."""

from confluent_kafka import KafkaError, KafkaException
from kafka import errors as python

from ingestion.errors import BrokerUnavailable

_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
}
_AWAY_TOO = (python.KafkaTimeoutError, python.KafkaConnectionError, OSError)


def unavailable(bootstrap: str, error: Exception, what: str = "") -> BrokerUnavailable:
    """The failure of a request to the cluster at `bootstrap`, with what to do next; `what` names what was asked for."""
    about = f"{bootstrap}: {what}: " if what else f"{bootstrap}: "
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        away, name, text = error.args[0].code() in _AWAY, error.args[0].name(), error.args[0].str()
    else:
        away, name = isinstance(error, _AWAY_TOO), type(error).__name__
        # kafka-python's errors begin with their own name, others do not.
        text = str(error).removeprefix(name).removeprefix(": ")
    why = f"{name}: {text}" if text else name
    if away:
        return BrokerUnavailable(
            f"{about}no answer from Kafka ({why}); start the broker or correct the address (kafka.bootstrap, --bootstrap), then try again; "
            "`fedplant doctor` looks closer"
        )
    return BrokerUnavailable(f"{about}{why}; check broker and permissions")
