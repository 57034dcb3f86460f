"""Runs as a process of its own between the owner and the JVM, so that the JVM cannot outlive its owner.

`python guard.py OWNER_PID OWNER_START LOG COMMAND...`: starts COMMAND, prints `<pid> <start ticks>`, then waits for the first of: the JVM
ended, the owner ended (pid 0: nobody owns it), SIGTERM. In the last two cases the JVM gets SIGTERM and, `GRACE_SECONDS` later, SIGKILL.
If the guard itself is killed, the kernel kills the JVM: the death signal follows the creating thread, and the guard has only one.
Standard library only and imports nothing of ours: it must start fast and work from a bare interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

GRACE_SECONDS = 10
_PR_SET_PDEATHSIG = 1


def start_ticks(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started; None when there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _watch(pid: int) -> int | None:
    # A descriptor that becomes readable when the process ends; None on kernels before 5.3, where polling has to do.
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def main(arguments: list[str]) -> int:
    """Start, report, wait, clean up; the JVM's exit code (128 + signal when it was killed)."""
    owner, owner_start, log = int(arguments[0]), int(arguments[1]), arguments[2]
    guard = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def die_with_guard() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)

    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    stopping = False

    def on_signal(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        with contextlib.suppress(OSError):
            os.write(wake_write, b"x")

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    with Path(log).open("ab") as sink:
        jvm = subprocess.Popen(
            arguments[3:], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, preexec_fn=die_with_guard
        )
    print(jvm.pid, start_ticks(jvm.pid) or 0, flush=True)
    # The owner reads this pipe once; holding it open would keep whoever captures our output waiting.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    jvm_fd = _watch(jvm.pid)
    owner_fd = _watch(owner) if owner else None
    waiting = [fd for fd in (wake_read, jvm_fd, owner_fd) if fd is not None]
    while jvm.poll() is None and not stopping:
        if owner and start_ticks(owner) != owner_start:
            break
        polled = jvm_fd is None or (owner and owner_fd is None)
        select.select(waiting, [], [], 0.2 if polled else 5.0)
    if jvm.poll() is None:
        jvm.terminate()
        try:
            jvm.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            jvm.kill()
    code = jvm.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
