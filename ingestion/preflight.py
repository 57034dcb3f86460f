"""Does a secured cluster let us in? Asked once before the work begins, because the clients themselves try again until time is up.

kafka-python reports a refused password as a time-out; librdkafka says why.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from ingestion.clients import LOG, native_options
from ingestion.errors import BrokerUnavailable

_STEP = 0.25
_REFUSALS = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_PATIENCE = 1.5
"""A cluster that starts refuses users it has not learned of yet."""


def preflight(bootstrap: str, client: Mapping[str, Any], timeout: float) -> None:
    """Return when the cluster answers this user; raises BrokerUnavailable with the reason of the refusal."""
    provider = client.get("sasl_oauth_token_provider")
    if provider is not None:
        provider.token()
    said: list[KafkaError] = []
    began = time.monotonic()
    admin = AdminClient(
        {
            **native_options(bootstrap, client),
            "error_cb": said.append,
            "socket.connection.setup.timeout.ms": 5000,
        },
        logger=LOG,
    )
    while True:
        admin.poll(0)
        try:
            admin.list_topics(timeout=_STEP)
            return
        except KafkaException as error:
            code = error.args[0]
            if code.code() not in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                said.append(code)
        admin.poll(_STEP)
        said[:] = [error for error in said if error.code() != KafkaError._ALL_BROKERS_DOWN]
        refused = [error for error in said if error.code() in _REFUSALS or "alert certificate" in error.str()]
        waited = time.monotonic() - began
        if refused and waited > _PATIENCE:
            raise BrokerUnavailable(_refused(bootstrap, client, refused[-1]))
        if waited > timeout:
            last = said[-1].str() if said else "no answer"
            raise BrokerUnavailable(
                f"{bootstrap}: no secured connection within {timeout:.0f} s: {_short(last)}; check address and security_protocol"
            )


def _refused(bootstrap: str, client: Mapping[str, Any], error: KafkaError) -> str:
    text = _short(error.str())
    if error.code() == KafkaError._AUTHENTICATION:
        user, mechanism = client.get("sasl_plain_username"), client.get("sasl_mechanism")
        who = f"user {user!r}" if user else "this client"
        return f"{bootstrap}: {who} was refused with {mechanism}: {text}; check user name, password or token, and sasl_mechanism"
    return f"{bootstrap}: no TLS connection: {text}; check security_protocol, ca_file, cert_file and the broker's host name"


def _short(text: str) -> str:
    """librdkafka's message without the thread and address it begins with."""
    head, mark, rest = text.partition("/bootstrap: ")
    return (rest if mark else head)[:300]
