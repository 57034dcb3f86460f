"""Which two ports of loopback a broker listens at."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from ingestion.broker.state import read_state
from ingestion.errors import BrokerStartFailed

_LOWEST = 15_000
_OUTGOING_FROM = 32_768
"""Where Linux begins with the ports it gives to outgoing connections, unless told otherwise."""
_DRAW = random.SystemRandom()
"""Not the one of `random`: processes that seed it alike would draw the same ports."""


def choose(folder: Path, wanted: int | None) -> tuple[int, int]:
    """The ports for clients and for the controller: `wanted`, else the one of the broker before on `folder` if it is free, else any free ones.

    Free ones are drawn below those that the system gives to outgoing connections: one of those may be taken between two lives of a broker,
    or before its JVM binds it.

    Raises:
        BrokerStartFailed: `wanted` is not a port, or taken, or not allowed; no port is free.
    """
    if wanted is not None:
        if not 0 < wanted < 65536:
            raise BrokerStartFailed(
                f"port {wanted} is not a port; name one from 1024 to 65535, or none for a free one"
            )
        if not _is_free(wanted):
            raise BrokerStartFailed(
                f"port {wanted} on 127.0.0.1 is taken or not allowed; name another, or none for a free one"
            )
        return wanted, _free(wanted)
    before = read_state(folder)
    port = before.port if before is not None and _is_free(before.port) else _free()
    return port, _free(port)


def _free(but: int | None = None) -> int:
    first_outgoing = _first_outgoing()
    for _ in range(1000):
        port = _DRAW.randrange(_LOWEST, first_outgoing)
        if port != but and _is_free(port):
            return port
    raise BrokerStartFailed(f"no port from {_LOWEST} to {first_outgoing - 1} on 127.0.0.1 is free; name one")


def _first_outgoing() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _OUTGOING_FROM
    return first if first > _LOWEST + 1000 else _OUTGOING_FROM


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
