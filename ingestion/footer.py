"""The durable record in each window file: who, which offsets, and where the decision to close was made."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

FORMAT_VERSION = 2
"""2 added `last_read`; files of version 1 are read as they are."""
_TAIL = 32_768


@dataclass(frozen=True)
class Identity:
    """Whose readings a folder holds."""

    site: str
    cluster_id: str
    topic: str
    topic_id: str
    partition: int


@dataclass(frozen=True)
class Footer:
    """JSON under the key `fedplant` of the Parquet key-value metadata; times in ns since 1970 UTC.

    `duplicate_offsets` are inclusive ranges of offsets that carried a row dropped as a duplicate. `last_read` is the `Imprint` of the
    last record below `position_at_close`, by which a log is known again; None if it is not known.
    """

    site: str
    cluster_id: str
    topic: str
    topic_id: str
    partition: int
    window_start_ns: int
    window_end_ns: int
    first_offset: int
    last_offset: int
    row_count: int
    position_at_close: int
    watermark_ns: int
    schema_fingerprint: str
    reason: str
    kind: str
    duplicate_count: int = 0
    duplicate_offsets: list[list[int]] = field(default_factory=list)
    last_read: list[int] | None = None
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """One line of JSON with a stable key order, `format_version` first."""
        values = {name: getattr(self, name) for name in _ORDER}
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Footer":
        """From JSON's values; what another version adds is left out. Raises TypeError if one is missing."""
        return cls(**{name: value for name, value in values.items() if name in _NAMES})


_NAMES = {f.name for f in fields(Footer)}
_ORDER = ("format_version", *(f.name for f in fields(Footer) if f.name != "format_version"))
_MARK = b'{"format_version":'


def read_footer(path: Path) -> Footer | None:
    """The footer of a window file, or None if the file is damaged (cut off, empty, not ours).

    Reads the tail of the file and the one JSON text in it, which is some twenty times faster than opening it as Parquet.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
        if size < 12 or tail[-4:] != b"PAR1":
            return None
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if length > size - 4:
            return None
        if length > len(tail):
            file.seek(size - length)
            tail = file.read()
    # The last one: names of sensors and assets lie before it in Parquet's own footer, and may spell anything.
    at = tail.rfind(_MARK, len(tail) - length)
    if at < 0:
        return None
    try:
        values, _ = json.JSONDecoder().raw_decode(tail[at:].decode("utf-8", "replace"))
        return Footer.of(values)
    except (ValueError, TypeError, AttributeError):
        return None


def fingerprint(schema: pa.Schema) -> str:
    """First 16 hex digits of the SHA-256 of the column names and types."""
    text = "\n".join(f"{f.name}:{f.type}" for f in schema)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
