"""An interrupt that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread is. Inside a `__del__` or a callback of the garbage collector, such as jax's, it is printed and
dropped, and the work goes on. `sys.unraisablehook` sees that, and the interrupt comes again a moment later. For what is caught elsewhere it is
remembered: work that reports progress is interrupted again there.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_SECONDS = 0.05
_asked = False


@contextmanager
def remembered(*numbers: signal.Signals) -> Iterator[None]:
    """Raise KeyboardInterrupt on these signals, and remember it for `heed`; as it was before afterwards. For the main thread only."""
    global _asked
    before = _asked
    # A timer's signal, because a thread cannot be started amid whatever the collector interrupts: its locks may be held there.
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGALRM, *numbers)}
    hook = sys.unraisablehook

    def dropped(found: sys.UnraisableHookArgs) -> None:
        if found.exc_type is KeyboardInterrupt and _asked:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        else:
            hook(found)

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)
        _asked = before


def asked() -> bool:
    """Whether an interrupt came."""
    return _asked


def heed() -> None:
    """Raise KeyboardInterrupt if one was asked for and the work still goes on; only in the main thread, whose interrupts are lost."""
    if _asked and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    global _asked
    # A plain name: the locks of threading.Event may be held by the very code that the signal came upon.
    _asked = True
    raise KeyboardInterrupt
