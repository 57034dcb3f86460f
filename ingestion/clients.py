"""One description of a Kafka connection, in the words of both clients.

`IngestSettings.client` holds kafka-python's option names. kafka-python itself administers, replays and audits; consuming and
the letters' transactions go through confluent-kafka (librdkafka), whose names are made here. See docs/decisions/0009-two-kafka-clients.md.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ingestion.errors import InputDataError

_LIBRDKAFKA = {
    "security_protocol": "security.protocol",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
    "sasl_mechanism": "sasl.mechanism",
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "client_id": "client.id",
}
# Options of kafka-python that say nothing about who is connected to whom.
_OWN = {"bootstrap_timeout_ms", "request_timeout_ms", "api_version"}

LOG = logging.getLogger("ingestion.kafka")
LOG.addHandler(logging.NullHandler())


def native_options(bootstrap: str, client: Mapping[str, Any]) -> dict[str, Any]:
    """librdkafka's options for a connection described in kafka-python's. Raises InputDataError for an option without a counterpart."""
    options: dict[str, Any] = {"bootstrap.servers": bootstrap, "log.connection.close": False}
    for name, value in client.items():
        if name in _LIBRDKAFKA:
            options[_LIBRDKAFKA[name]] = value
        elif name == "ssl_check_hostname":
            options["ssl.endpoint.identification.algorithm"] = "https" if value else "none"
        elif name == "sasl_oauth_token_provider":
            options["oauth_cb"] = _token_source(value)
        elif name not in _OWN:
            raise InputDataError(
                f"client option {name!r} is not known: expected one of {', '.join(sorted({*_LIBRDKAFKA, *_OWN}))}"
            )
    return options


def _token_source(provider: Any) -> Callable[[str], tuple[str, float]]:
    """librdkafka asks for (token, time of expiry in s since 1970); a provider that knows no expiry is asked again in five minutes."""
    import time

    def ask(_config: str) -> tuple[str, float]:
        expires = getattr(provider, "expires_at", None)
        token = provider.token()
        return token, float(expires() if callable(expires) else time.time() + 300)

    return ask
