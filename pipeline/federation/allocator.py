"""The C allocator's settings for training."""

from __future__ import annotations

import contextlib
import ctypes
import functools

# <malloc.h> of glibc.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MEBIBYTE = 1 << 20


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensor instead of handing its pages back to the kernel at once.

    Every operation of a step writes a new tensor of some hundred kilobytes, for which the kernel would have to clear
    fresh pages. Bounded: blocks above 32 MiB are handed back, and at most 256 MiB at the end of the heap is kept. Without glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MEBIBYTE)
        libc.mallopt(_TRIM_THRESHOLD, 256 * _MEBIBYTE)
        libc.mallopt(_TOP_PAD, 16 * _MEBIBYTE)
