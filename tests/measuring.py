"""What work costs, for promises of speed: by the processor's time of its own thread, which no neighbour and no waiting adds to."""

import gc
import time
from collections.abc import Callable


def processor_seconds(work: Callable[[], object], times: int = 3) -> float:
    """The least of several goes, without the collector, which would look through everything that the tests before have left."""
    found = []
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(times):
            began = time.thread_time()
            work()
            found.append(time.thread_time() - began)
    finally:
        if collects:
            gc.enable()
    return min(found)
