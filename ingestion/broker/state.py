"""What a running broker leaves in its data folder for other processes: `broker.json` and a held lock.

The lock (`broker.lock`, flock, held by the guard) says whether a broker runs; the file says which. A pid is only ever signalled
together with its start time, so that a pid the system gave to somebody else is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ingestion.broker.guard import GRACE_SECONDS, start_ticks
from ingestion.errors import BrokerStartFailed

STATE_FILE = "broker.json"
LOCK_FILE = "broker.lock"
STOPPED_FILE = "broker.stopped"


@dataclass(frozen=True)
class BrokerStatus:
    """One running broker: its JVM, the guard above it (pids with start ticks after boot) and how to reach it."""

    bootstrap: str
    pid: int
    pid_start: int
    guard_pid: int
    guard_start: int
    port: int
    controller_port: int
    log_path: str

    def alive(self) -> bool:
        """Whether the JVM still runs and is the very process that was started."""
        return start_ticks(self.pid) == self.pid_start


def write_state(data_dir: Path, state: BrokerStatus) -> None:
    """Replace the state file in one step."""
    new = data_dir / f"{STATE_FILE}.new"
    new.write_text(json.dumps(asdict(state), indent=1))
    new.replace(data_dir / STATE_FILE)


def read_state(data_dir: Path) -> BrokerStatus | None:
    """The last state written, whether or not that broker still runs; None when absent or damaged."""
    try:
        return BrokerStatus(**json.loads((data_dir / STATE_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def status(data_dir: Path) -> BrokerStatus | None:
    """The broker that runs on `data_dir` now, or None."""
    state = read_state(data_dir)
    return state if state is not None and state.alive() else None


def stop(data_dir: Path, *, timeout: float = GRACE_SECONDS + 5.0) -> bool:
    """Stop the broker on `data_dir`, whoever started it; False when none was running.

    Raises:
        BrokerStartFailed: it belongs to another user, or still runs after `timeout` seconds.
    """
    state = status(data_dir)
    if state is None:
        return False
    with contextlib.suppress(OSError):
        (data_dir / STOPPED_FILE).write_text(f"{state.pid} {state.pid_start}")
    try:
        if start_ticks(state.guard_pid) == state.guard_start:
            os.kill(state.guard_pid, signal.SIGTERM)
        else:
            os.kill(state.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise BrokerStartFailed(
            f"the broker on {data_dir} (pid {state.pid}) belongs to another user; stop it as that user"
        ) from error
    deadline = time.monotonic() + timeout
    while state.alive() or start_ticks(state.guard_pid) == state.guard_start:
        if time.monotonic() > deadline:
            raise BrokerStartFailed(
                f"the broker on {data_dir} (pid {state.pid}) still runs after {timeout:.0f} s; see {state.log_path}"
            )
        time.sleep(0.02)
    return True


def was_stopped(data_dir: Path, pid: int, pid_start: int) -> bool:
    """Whether somebody called `stop` on that broker, as opposed to its dying by itself."""
    try:
        return (data_dir / STOPPED_FILE).read_text() == f"{pid} {pid_start}"
    except OSError:
        return False


def take_lock(data_dir: Path, *, patience: float) -> int:
    """Take the folder's lock and return its descriptor, waiting at most `patience` s for a broker that is just ending.

    Raises:
        BrokerStartFailed: another broker runs on this folder.
    """
    descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            running = status(data_dir)
            if time.monotonic() > deadline:
                os.close(descriptor)
                where = f" at {running.bootstrap} (pid {running.pid})" if running else ""
                raise BrokerStartFailed(
                    f"{data_dir} is in use by a broker that is running or starting{where}; "
                    "use that one, stop it with `fedplant broker stop`, or name another folder"
                ) from None
            time.sleep(0.05)
