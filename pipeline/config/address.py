"""Where a Kafka cluster is: `host:port`, several of them parted by commas."""

from __future__ import annotations


def wrong_address(text: str) -> str | None:
    """What is wrong with a list of addresses, or None.

    >>> wrong_address("kafka-1:9092, kafka-2:9092")
    >>> wrong_address("kafka-1")
    "'kafka-1' is not HOST:PORT; write it as kafka.plant.example:9092"
    """
    for part in text.split(","):
        host, _, port = part.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            return f"{part.strip()!r} is not HOST:PORT; write it as kafka.plant.example:9092"
    return None
