"""TFF's worker process, bound to the life of this one.

TFF starts `worker_binary` with `subprocess.Popen` and lets it inherit standard output; a parent that is killed leaves it
behind. Here its output goes nowhere and a guardian, a shell that waits for the end of a pipe we hold, ends it whatever
ends us. The parent-death signal of the kernel would fire when the *thread* that started it ends, which TFF's do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import types
from collections.abc import Iterator
from typing import Any

import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.executor_stacks import executor_factory


class GuardedContext:
    """An execution context whose worker is started on first use and ends with `close` or with this process."""

    def __init__(self) -> None:
        """Create the context; no process starts yet."""
        self._context: Any = tff.backends.native.create_sync_local_cpp_execution_context()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._guardians: list[subprocess.Popen[bytes]] = []

    def _start(self, args: list[str], **_: Any) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        guardian = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -9 "$0" 2>/dev/null', str(worker.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._workers.append(worker)
        self._guardians.append(guardian)
        return worker

    @contextlib.contextmanager
    def install(self) -> Iterator[None]:
        """Make this the context of TFF computations called inside."""
        original = executor_factory.subprocess
        executor_factory.subprocess = types.SimpleNamespace(Popen=_Starter(self._start))
        try:
            with tff.framework.get_context_stack().install(self._context):
                yield
        finally:
            executor_factory.subprocess = original

    def close(self) -> None:
        """End the worker."""
        for guardian in self._guardians:
            with contextlib.suppress(OSError):
                os.kill(guardian.pid, signal.SIGKILL)
            guardian.wait()
            if guardian.stdin is not None:
                guardian.stdin.close()
        for worker in self._workers:
            worker.kill()
        # Not waited for: TFF signals the process id again when it lets go of it, and a reaped one may be another's.
        self._workers.clear()
        self._context = None


class _Starter(subprocess.Popen):  # type: ignore[type-arg]
    """Stands in for `subprocess.Popen` where TFF both calls it and tests instances with it."""

    def __init__(self, start: Any) -> None:
        self._start_worker = start
        self.returncode = 0
        self._child_created = False

    def __call__(self, args: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return self._start_worker(args, **options)

    def __subclasscheck__(self, cls: type) -> bool:
        return issubclass(cls, subprocess.Popen)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, subprocess.Popen)


def guarded_context() -> GuardedContext:
    """Give a context for TFF's native runtime.

    Raises:
      RuntimeError: the worker program is not part of the installation.
    """
    return GuardedContext()
