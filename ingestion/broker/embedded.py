"""The broker's life: start, stop, kill, start again, and its tie to an owner."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from ingestion.broker import guard
from ingestion.broker.jars import cache_root
from ingestion.broker.launch import START_SECONDS, died, launch
from ingestion.broker.state import BrokerStatus, read_state, stop, was_stopped
from ingestion.errors import BrokerStartFailed


def default_data_dir() -> Path:
    """Where a broker keeps its topics unless told otherwise."""
    return cache_root() / "broker"


def _silent(_line: str) -> None:
    return None


class EmbeddedBroker:
    """A running Apache Kafka on loopback, tied to the life of its owner; use as a context manager or call `stop()`."""

    def __init__(self, data_dir: Path, state: BrokerStatus, restart: Callable[[], BrokerStatus]) -> None:
        """Use `EmbeddedBroker.start`."""
        self.data_dir = data_dir
        self._state = state
        self._restart = restart

    @classmethod
    def start(
        cls,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        parent_pid: int | None = None,
        heap: str = "512m",
        on_message: Callable[[str], None] = _silent,
        extra_properties: Mapping[str, str] | None = None,
        timeout: float = START_SECONDS,
    ) -> EmbeddedBroker:
        """Start a broker on `data_dir` and return when it serves requests.

        `port`: None takes the folder's previous port if it is free, else any free one. `parent_pid`: the process whose end stops the
        broker (default: the caller; 0: nobody, it runs until `stop`). `extra_properties` replace keys of `server.properties`.

        Raises:
            BrokerStartFailed: folder in use, not writable or full; port taken; jars not resolvable; Java missing or too old; the broker died or
                did not serve within `timeout` seconds.
        """
        folder = (data_dir or default_data_dir()).absolute()
        owner = os.getpid() if parent_pid is None else parent_pid

        def begin(wanted: int | None) -> BrokerStatus:
            return launch(folder, wanted, owner, heap, on_message, extra_properties or {}, timeout)

        state = begin(port)
        return cls(folder, state, lambda: begin(state.port))

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return self._state.bootstrap

    @property
    def pid(self) -> int:
        """Process id of the JVM."""
        return self._state.pid

    @property
    def guard_pid(self) -> int:
        """Process id of the guard that ends the JVM with its owner."""
        return self._state.guard_pid

    @property
    def log_path(self) -> Path:
        """The broker's log, at most 40 MB with its older parts beside it."""
        return Path(self._state.log_path)

    def alive(self) -> bool:
        """Whether the JVM still runs."""
        return self._state.alive()

    def stop(self) -> None:
        """Shut down in order; does nothing when it no longer runs."""
        current = read_state(self.data_dir)
        if current is not None and current.pid == self._state.pid:
            stop(self.data_dir)
        self._await_guard()

    def kill(self) -> None:
        """SIGKILL the JVM, as a power cut would, and return when it is gone."""
        if self._state.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._state.pid, signal.SIGKILL)
        self._await_guard()

    def restart(self) -> None:
        """Start again on the same data and port, after stopping if it still runs.

        Raises:
            BrokerStartFailed: as `start`.
        """
        self.stop()
        self._state = self._restart()

    def _await_guard(self) -> None:
        deadline = time.monotonic() + guard.GRACE_SECONDS + 5
        while guard.start_ticks(self._state.guard_pid) == self._state.guard_start:
            if time.monotonic() > deadline:
                raise BrokerStartFailed(
                    f"the broker on {self.data_dir} (pid {self.pid}) did not end; see {self.log_path}"
                )
            time.sleep(0.02)

    def __enter__(self) -> EmbeddedBroker:
        """The running broker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


def start_detached(
    data_dir: Path | None = None,
    *,
    port: int | None = None,
    heap: str = "512m",
    on_message: Callable[[str], None] = _silent,
) -> BrokerStatus:
    """Start a broker that belongs to nobody and runs until `stop(data_dir)`; returns when it serves. Raises as `EmbeddedBroker.start`."""
    broker = EmbeddedBroker.start(data_dir, port=port, parent_pid=0, heap=heap, on_message=on_message)
    return broker._state


def run_foreground(
    data_dir: Path | None = None,
    *,
    port: int | None = None,
    heap: str = "512m",
    on_message: Callable[[str], None],
    on_ready: Callable[[str, int], None] | None = None,
) -> int:
    """Start a broker and keep it until Ctrl-C, SIGTERM, `stop(data_dir)` elsewhere, or its own death; returns an exit code.

    `on_ready(bootstrap, pid)` is called once it serves. 0 when somebody asked for the end. Must be called on the main thread. Raises as `EmbeddedBroker.start`, and `BrokerStartFailed` when it
    died by itself later.
    """
    # A plain list: Event.set() takes a lock that the interrupted wait() of this same thread may hold.
    asked: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _frame: asked.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with EmbeddedBroker.start(data_dir, port=port, heap=heap, on_message=on_message) as broker:
            on_message(f"data in {broker.data_dir}, log {broker.log_path}")
            if on_ready is not None:
                on_ready(broker.bootstrap, broker.pid)
            while broker.alive() and not asked:
                time.sleep(0.1)
            if not asked and not was_stopped(broker.data_dir, broker.pid, broker._state.pid_start):
                raise BrokerStartFailed(died(broker.log_path, "broker died"))
        on_message("broker stopped")
        return 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
