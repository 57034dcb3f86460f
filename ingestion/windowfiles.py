"""What is on disk, for readers: windows of a site over all its partitions, from window files, addenda and compacted files alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.compacted import Compact, Reader, listed, start_of, window_of, windows_of
from ingestion.errors import StorageError
from ingestion.footer import Footer, read_footer
from ingestion.records import RESERVED


@dataclass(frozen=True)
class Part:
    """A piece of a window: a window file or addendum, or a window's rows (`start` in ns) in a compacted file."""

    path: Path
    compact: Compact | None = None
    start: int = 0


def window_parts(data_dir: Path, site: str) -> list[tuple[str, list[Part]]]:
    """The windows of a site as (name `<start>_<end>`, parts in all partitions), ascending by start. Raises StorageError."""
    return _parts_in(folders_of(data_dir, site))


def _parts_in(folders: Iterable[Path]) -> list[tuple[str, list[Part]]]:
    found: dict[str, list[Part]] = {}
    for folder in folders:
        listing = listed(folder)
        for compact in listing.compacts:
            for start, window in windows_of(compact):
                found.setdefault(window, []).append(Part(compact.path, compact, start))
        for path in listing.plain:
            found.setdefault(window_of(path.name), []).append(Part(path))
    return sorted(found.items())


def folders_of(data_dir: Path, site: str) -> list[Path]:
    """The partition folders of a site."""
    return sorted(path for path in (Path(data_dir) / "windows" / site).glob("*/p*") if path.is_dir())


def read_site(data_dir: Path, site: str) -> Iterator[pa.Table]:
    """The readings of a site, one table per window in event-time order, base and addenda of all partitions united.

    Each table has the columns of the readings table, rows sorted by (`event_time`, `offset`), sensor columns that the window
    has, in alphabetical order. Raises StorageError naming a file that cannot be read.
    """
    reader = Reader()
    for window, parts in window_parts(data_dir, site):
        tables = _read_all(window, parts, reader)
        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")
        if len(tables) > 1:
            times = table.column("event_time").cast(pa.int64()).to_numpy()
            table = table.take(pa.array(np.lexsort((table.column("offset").to_numpy(), times))))
            table = table.select([*RESERVED, *sorted(n for n in table.column_names if n not in RESERVED)])
        if table.num_rows:
            yield table


def machines_heard(data_dir: Path, site: str, begin_ns: int, end_ns: int) -> Iterator[set[str]]:
    """Window by window, the machines of a site with a reading from one event time to before another, ns since 1970 UTC.

    Raises StorageError naming a file that cannot be read.
    """
    reader = Reader()
    for window, parts in window_parts(data_dir, site):
        first, last = (start_of(edge) for edge in window.split("_"))
        if not (first < end_ns and begin_ns < last):
            continue
        found: set[str] = set()
        for table in _read_all(window, parts, reader, ["event_time", "asset"]):
            times = table.column("event_time").cast(pa.int64()).to_numpy()
            inside = table.column("asset").filter(pa.array((begin_ns <= times) & (times < end_ns)))
            found.update(inside.unique().to_pylist())
        yield found


def _read_all(
    window: str, parts: list[Part], reader: Reader, columns: list[str] | None = None
) -> list[pa.Table]:
    """The tables of one window. A compaction may take its files away meanwhile: then they are looked for again, once."""
    try:
        return [_read(part, reader, columns) for part in parts]
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    again = dict(_parts_in(sorted({part.path.parent for part in parts})))
    return [_read(part, reader, columns) for part in again.get(window, [])]


def _read(part: Part, reader: Reader, columns: list[str] | None) -> pa.Table:
    """A part's rows; of `columns` alone where they are few, None: all."""
    try:
        if part.compact is not None:
            return reader.window(part.compact, part.start)
        return pq.ParquetFile(part.path).read(columns).replace_schema_metadata()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"window file {part.path} cannot be read: {error}; ingest again to rebuild it"
        ) from error


def footers(data_dir: Path, site: str) -> Iterator[tuple[Path, Footer]]:
    """Every window file and addendum that was published for a site, with its footer; one that was compacted keeps its path here.

    Raises StorageError.
    """
    found: list[tuple[str, Path, Footer]] = []
    for folder in folders_of(data_dir, site):
        try:
            found += _footers_in(folder)
        except FileNotFoundError:  # a compaction has just taken files away
            found += _footers_in(folder)
    for _, path, footer in sorted(found, key=lambda entry: (entry[0], entry[1])):
        yield path, footer


def _footers_in(folder: Path) -> list[tuple[str, Path, Footer]]:
    listing = listed(folder)
    found = [
        (window_of(name), folder / name, footer)
        for compact in listing.compacts
        for name, footer in compact.members.items()
    ]
    for path in listing.plain:
        footer = read_footer(path)
        if footer is None:
            raise StorageError(f"window file {path} is damaged; ingest again to rebuild it")
        found.append((window_of(path.name), path, footer))
    return found
