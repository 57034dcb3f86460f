"""The compiled part of ingestion: `messages.c`, built when the package is installed, where there is a C compiler.

Without it everything works, with the same outcome, and is slower.
"""

import ctypes
import hashlib
from pathlib import Path

SOURCE, BUILT = (Path(__file__).with_name(name) for name in ("messages.c", "messages.so"))


def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built, was built from another source, or cannot be loaded here."""
    try:
        found = ctypes.CDLL(str(BUILT))
        built_from = ctypes.c_char_p.in_dll(found, "source").value
        return found if built_from == hashlib.sha256(SOURCE.read_bytes()).hexdigest().encode() else None
    except (OSError, ValueError):
        return None
