"""An interrupt that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread is. Inside a `__del__`, a weak reference's callback or a callback from C it is printed and
dropped, and the work goes on. So what was asked is remembered, and work that reports progress is interrupted again there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = False


@contextmanager
def remembered(*numbers: signal.Signals) -> Iterator[None]:
    """Raise KeyboardInterrupt on these signals, and remember it for `heed`; as it was before afterwards. For the main thread only."""
    global _asked
    before = _asked
    previous = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
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
