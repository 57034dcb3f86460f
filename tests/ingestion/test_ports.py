"""Ports of an embedded broker: out of the reach of outgoing connections, and the same again where it can be."""

import random
import socket
from pathlib import Path

import pytest

from ingestion.broker.ports import choose
from ingestion.broker.state import BrokerStatus, write_state
from ingestion.errors import BrokerStartFailed


def listening(port=0):
    taken = socket.socket()
    taken.bind(("127.0.0.1", port))
    taken.listen()
    return taken, taken.getsockname()[1]


def broker_before(folder, port):
    write_state(
        folder,
        BrokerStatus(
            bootstrap=f"127.0.0.1:{port}",
            pid=1,
            pid_start=0,
            guard_pid=1,
            guard_start=0,
            port=port,
            controller_port=port + 1,
            log_path=str(folder / "broker.log"),
        ),
    )


def test_free_ports_are_none_that_an_outgoing_connection_may_take_before_the_broker_does(tmp_path):
    range_of_linux = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first_outgoing = int(range_of_linux.read_text().split()[0]) if range_of_linux.exists() else 32_768
    # A machine may give nearly all ports to outgoing connections: then none is out of their reach.
    first_outgoing = first_outgoing if first_outgoing > 16_000 else 32_768
    for _ in range(50):
        clients, controller = choose(tmp_path, None)
        assert clients != controller
        assert all(15_000 <= port < first_outgoing for port in (clients, controller))


def test_two_owners_that_seed_alike_draw_other_ports(tmp_path):
    drawn = set()
    for _ in range(5):
        random.seed(7)
        drawn.add(choose(tmp_path, None))
    assert len(drawn) > 1


def test_a_folder_keeps_its_port_unless_another_took_it(tmp_path):
    before, _ = choose(tmp_path, None)
    broker_before(tmp_path, before)
    assert choose(tmp_path, None)[0] == before
    taken, _ = listening(before)
    with taken:
        assert choose(tmp_path, None)[0] != before


def test_a_wanted_port_is_taken_or_refused(tmp_path):
    free, _ = choose(tmp_path, None)
    assert choose(tmp_path, free)[0] == free
    taken, port = listening()
    with taken, pytest.raises(BrokerStartFailed, match=f"port {port} on 127.0.0.1 is taken"):
        choose(tmp_path, port)
    for odd in (0, -1, 65536):
        with pytest.raises(BrokerStartFailed, match="is not a port"):
            choose(tmp_path, odd)
