"""A thread that does tasks in order, with a count of the bytes that wait in its queue."""

import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar


class Ending(BaseException):
    """The process has to end: a task raises it to leave everything as it is, and no later task is begun. No failure, so nothing catches it as one."""


def heed() -> None:
    """For long tasks, as often as they like: raises Ending if their thread was asked to end. Nothing outside a `TaskThread`."""
    asked = _ASKED.get()
    if asked is not None and asked():
        raise Ending


_ASKED: ContextVar[Callable[[], bool] | None] = ContextVar("asked", default=None)


class TaskThread:
    """An exception inside a task ends the thread and is raised from `check` and `drain`."""

    def __init__(self, name: str) -> None:
        self._tasks: deque[tuple[Callable[[], None], int]] = deque()
        self._ready = threading.Condition()
        self._queued = 0
        self._busy = False
        self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def queued_bytes(self) -> int:
        """Bytes that tasks not yet done were put with."""
        return self._queued

    @property
    def idle(self) -> bool:
        """Whether all tasks are done."""
        return not self._tasks and not self._busy

    def put(self, task: Callable[[], None], size: int = 0) -> None:
        """Queue a task that holds `size` bytes."""
        with self._ready:
            self._queued += size
            self._tasks.append((task, size))
            self._ready.notify_all()

    def wait_below(self, limit: int, timeout: float) -> bool:
        """Wait until at most `limit` bytes are queued; False if time ran out."""
        return self._wait(lambda: self._queued <= limit, timeout)

    def drain(self, timeout: float) -> bool:
        """Wait until all tasks are done; False if time ran out."""
        done = self._wait(lambda: self.idle, timeout)
        self.check()
        return done

    def _wait(self, done: Callable[[], bool], timeout: float) -> bool:
        with self._ready:
            return self._ready.wait_for(lambda: done() or self._failure is not None, timeout)

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Drop what is queued and wait for the current task, which may leave off where it heeds this."""
        self._stop()
        self._thread.join()

    def _stop(self, failure: BaseException | None = None) -> None:
        with self._ready:
            self._ended, self._failure = True, self._failure or failure
            self._tasks.clear()
            self._ready.notify_all()

    def _run(self) -> None:
        _ASKED.set(lambda: self._ended)
        while (found := self._next()) is not None:
            task, size = found
            try:
                task()
            except Ending:
                self._stop()
            except BaseException as error:
                self._stop(error)
            with self._ready:
                self._queued -= size
                self._busy = False
                self._ready.notify_all()

    def _next(self) -> tuple[Callable[[], None], int] | None:
        with self._ready:
            self._ready.wait_for(lambda: self._tasks or self._ended)
            if self._ended:
                return None
            self._busy = True
            return self._tasks.popleft()
