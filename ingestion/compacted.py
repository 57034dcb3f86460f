"""Compacted files: the window files of a closed period as one, with every member's footer inside.

The file says which names it stands for. As long as it is there and whole, files of those names count as gone, whoever left or made them
again: so rows are never read twice, at whatever instant a compaction was broken off.

`fedplant_compacted` in the Parquet metadata is one JSON object: `format`, `members` (`[name, footer]`, in the order of the windows),
`replaces` (names of earlier compacted files), `windows` (`[start ns, row group, first row in it, rows]`).
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.errors import StorageError
from ingestion.eventtime import NS
from ingestion.footer import Footer
from ingestion.records import RESERVED

KEY = "fedplant_compacted"
FORMAT = 1
MARK = ".compaction"
_ENDING = ".parquet"
_INFIX = ".compact-"
_KEPT_GROUPS = 8


class Span(NamedTuple):
    """Where a window's rows lie in a compacted file."""

    group: int
    begin: int
    rows: int


@dataclass(frozen=True)
class Compact:
    """One whole compacted file: member footers by the names of the files they came from, spans by window start in ns."""

    path: Path
    members: Mapping[str, Footer]
    replaces: tuple[str, ...]
    spans: Mapping[int, Span]

    @cached_property
    def by_window(self) -> dict[int, list[Footer]]:
        """Member footers by window start, base first."""
        found: dict[int, list[Footer]] = {}
        for footer in self.members.values():
            found.setdefault(footer.window_start_ns, []).append(footer)
        return found


@dataclass(frozen=True)
class Listing:
    """What lies in a partition's folder: window files that count, compacted files that count, and files that one of these stands for."""

    plain: tuple[Path, ...] = ()
    compacts: tuple[Compact, ...] = ()
    superseded: tuple[Path, ...] = ()
    damaged: tuple[Path, ...] = ()


def is_compacted(name: str) -> bool:
    """Whether a file of this name is a compacted one."""
    return _INFIX in name and name.endswith(_ENDING)


def compact_name(first: str, last: str, generation: int) -> str:
    """File name of a period that begins with one window and ends with another (`<start>_<end>` each)."""
    return f"{first.split('_')[0]}_{last.split('_')[1]}{_INFIX}{generation}{_ENDING}"


def generation_of(name: str) -> int:
    """The number in a compacted file's name."""
    return int(name.rpartition(_INFIX)[2].removesuffix(_ENDING))


def window_of(name: str) -> str:
    """`<start>_<end>` of a window file or addendum."""
    return name.split(".add-")[0].removesuffix(_ENDING)


def start_of(name: str) -> int:
    """Start in ns of the window that a file's name begins with. Raises ValueError."""
    text = name.split("_")[0].removesuffix("Z")
    seconds, _, rest = text.partition(".")
    moment = datetime.strptime(seconds, "%Y%m%dT%H%M%S").replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) * NS + int(rest or 0)


def look(folder: Path) -> Listing:
    """Sort out a partition's folder. Raises OSError."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.name.endswith(_ENDING) and e.name[0] != ".")
    found, damaged = [], []
    for name in names:
        if is_compacted(name):
            whole = read_compact(folder / name)
            found.append(whole) if whole is not None else damaged.append(folder / name)
    replaced = {name for compact in found for name in compact.replaces}
    standing = tuple(compact for compact in found if compact.path.name not in replaced)
    gone = replaced | {name for compact in found for name in compact.members}
    return Listing(
        plain=tuple(folder / n for n in names if n not in gone and not is_compacted(n)),
        compacts=standing,
        superseded=tuple(folder / n for n in names if n in gone),
        damaged=tuple(path for path in damaged if path.name not in gone),
    )


def read_compact(path: Path) -> Compact | None:
    """A compacted file's content without its rows; None if it is damaged or not ours."""
    try:
        metadata = pq.ParquetFile(path).metadata
        content = orjson.loads(metadata.metadata[KEY.encode()])
        members = {name: Footer.of(footer) for name, footer in content["members"]}
        spans = {int(start): Span(*rest) for start, *rest in content["windows"]}
        if content["format"] != FORMAT or sum(span.rows for span in spans.values()) != metadata.num_rows:
            return None
        return Compact(path, members, tuple(content["replaces"]), spans)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, AttributeError):
        return None


def describe(members: list[tuple[str, Footer]], replaces: list[str], spans: Mapping[int, Span]) -> str:
    """The metadata text of a compacted file."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "members": [[name, orjson.loads(footer.to_json())] for name, footer in members],
        "replaces": replaces,
        "windows": [[start, *span] for start, span in spans.items()],
    }
    return orjson.dumps(content).decode()


@dataclass
class Reader:
    """Reads windows out of compacted files; keeps the last few row groups, since windows are asked for in order."""

    _files: dict[Path, pq.ParquetFile] = field(default_factory=dict)
    _groups: OrderedDict[tuple[Path, int], pa.Table] = field(default_factory=OrderedDict)

    def window(self, compact: Compact, start: int) -> pa.Table:
        """The rows of one window as a window file would hold them. Raises OSError, pa.ArrowException."""
        span = compact.spans[start]
        key = compact.path, span.group
        if key not in self._groups:
            file = self._files.get(compact.path)
            if file is None:
                file = self._files[compact.path] = pq.ParquetFile(compact.path)
            self._groups[key] = file.read_row_group(span.group).replace_schema_metadata()
            if len(self._groups) > _KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        rows = self._groups[key].slice(span.begin, span.rows)
        silent = {
            n for n in rows.column_names if n not in RESERVED and rows.column(n).null_count == rows.num_rows
        }
        return rows.drop_columns(sorted(silent)) if silent else rows


def windows_of(compact: Compact) -> Iterator[tuple[int, str]]:
    """Start in ns and name `<start>_<end>` of every window, ascending."""
    seen: dict[int, str] = {}
    for name, footer in compact.members.items():
        seen.setdefault(footer.window_start_ns, window_of(name))
    yield from sorted(seen.items())


def mark_of(folder: Path) -> bytes:
    """What changes with every compaction published in this folder; empty before the first."""
    try:
        return (folder / MARK).read_bytes()
    except FileNotFoundError:
        return b""


def listed(folder: Path) -> Listing:
    """As `look`, for readers. Raises StorageError naming a damaged compacted file."""
    try:
        listing = look(folder)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}; check the data folder") from error
    if listing.damaged:
        raise StorageError(
            f"compacted file {listing.damaged[0]} is damaged; ingest again to rebuild what it held"
        )
    return listing
