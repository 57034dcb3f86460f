"""Unites the small window files of closed, old periods into larger ones. Nothing that a reader or an audit sees changes.

A compacted file is published like a window: written under a temporary name, read back, synced, linked. From that instant its members
count as gone; then they are removed. Broken off anywhere, either the members stand or the compacted file does, and the next
compaction or the next start of ingestion clears what is left. A running ingestion notices the mark and looks at its folder again.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.alone import alone
from ingestion.compacted import (
    KEY,
    MARK,
    Compact,
    Listing,
    Reader,
    Span,
    compact_name,
    describe,
    generation_of,
    look,
    start_of,
    window_of,
)
from ingestion.errors import StorageError
from ingestion.eventtime import NS
from ingestion.faultpoint import reached
from ingestion.footer import Footer, read_footer
from ingestion.records import BASE_FIELDS, readings_schema
from ingestion.syncing import sync_folder

TEMPORARY = ".compacting-"
_GROUP_ROWS = 32_768
_FILE_ROWS = 2_000_000


@dataclass
class FolderCompaction:
    """One partition's folder, `site/topic/p0`. `periods` were united; `left` periods hold a damaged file and are left alone."""

    folder: str
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    periods: int = 0
    windows: int = 0
    rows: int = 0
    left: int = 0


@dataclass
class CompactionReport:
    """One entry a partition; with `dry_run` what would be united, and sizes only from before."""

    folders: list[FolderCompaction] = field(default_factory=list)
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        names = (
            "files_before",
            "files_after",
            "bytes_before",
            "bytes_after",
            "periods",
            "windows",
            "rows",
            "left",
        )
        total = {name: sum(getattr(folder, name) for folder in self.folders) for name in names}
        return {"dry_run": self.dry_run, **total, "folders": [asdict(folder) for folder in self.folders]}


@dataclass(frozen=True)
class _Source:
    """A file that is to be united: a window file or addendum with its footer, or a window's rows in an earlier compacted file."""

    name: str
    path: Path
    footer: Footer
    compact: Compact | None = None


def compact(
    data_dir: Path,
    sites: list[str],
    *,
    period: float = 86_400.0,
    older_than: float = 86_400.0,
    min_files: int = 2,
    dry_run: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> CompactionReport:
    """Unite window files by `period` (s of event time, aligned to 1970 UTC) and partition, where at least `min_files` lie.

    Only periods that ended `older_than` seconds before the partition's newest window are touched; younger ones may still be added to.
    May run beside an ingestion, but only once at a time. Raises StorageError.
    """
    report = CompactionReport(dry_run=dry_run)
    tell = progress or (lambda _done, _total, _name: None)
    root = Path(data_dir) / "windows"
    try:
        with alone(Path(data_dir), "compaction"):
            folders = [path for site in sites for path in sorted((root / site).glob("*/p*")) if path.is_dir()]
            for number, folder in enumerate(folders):
                tell(number, len(folders), str(folder.relative_to(root)))
                job = _Folder(folder, str(folder.relative_to(root)), int(period * NS), int(older_than * NS))
                report.folders.append(job.run(min_files, dry_run))
            tell(len(folders), len(folders), "")
    except OSError as error:
        raise StorageError(
            f"{error.filename or root}: {error.strerror or error}; nothing is lost, free space or fix permissions, then start again"
        ) from error
    return report


class _Folder:
    def __init__(self, folder: Path, name: str, period: int, older_than: int) -> None:
        self._folder = folder
        self._period, self._older_than = period, older_than
        self._outcome = FolderCompaction(name)

    def run(self, min_files: int, dry_run: bool) -> FolderCompaction:
        """Unite what can be united. Raises OSError, StorageError."""
        listing, outcome = look(self._folder), self._outcome
        if not dry_run:
            self._clear(listing)
        files = [*listing.plain, *(compact.path for compact in listing.compacts)]
        outcome.files_before = outcome.files_after = len(files)
        outcome.bytes_before = outcome.bytes_after = sum(path.stat().st_size for path in files)
        for sources in self._periods(listing):
            paths = {source.path for source in sources}
            fresh = any(source.compact is None for source in sources)
            if len(paths) < max(2, min_files) or not fresh:
                continue
            outcome.periods += 1
            outcome.windows += len({source.footer.window_start_ns for source in sources})
            outcome.rows += sum(source.footer.row_count for source in sources)
            outcome.files_after += 1 - len(paths)
            if not dry_run:
                self._unite(sources, sorted(paths), listing)
        return outcome

    def _clear(self, listing: Listing) -> None:
        """What a compaction that was broken off left behind."""
        for path in self._folder.glob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)
        if listing.superseded:
            self._mark()
            for path in listing.superseded:
                path.unlink(missing_ok=True)

    def _periods(self, listing: Listing) -> Iterator[list[_Source]]:
        """Files of each old period in the order of windows, cut where a file would grow too large."""
        by_period: dict[int, list[_Source]] = {}
        damaged: set[int] = set()
        newest = 0
        for source in self._sources(listing, damaged):
            newest = max(newest, source.footer.window_end_ns)
            by_period.setdefault(source.footer.window_start_ns // self._period, []).append(source)
        for number, sources in sorted(by_period.items()):
            end = max((number + 1) * self._period, *(source.footer.window_end_ns for source in sources))
            if end > newest - self._older_than:
                continue
            if number in damaged:
                self._outcome.left += 1
                continue
            sources.sort(
                key=lambda source: (source.footer.window_start_ns, source.footer.first_offset, source.name)
            )
            yield from _cut(sources)

    def _sources(self, listing: Listing, damaged: set[int]) -> Iterator[_Source]:
        for compact in listing.compacts:
            for name, footer in compact.members.items():
                yield _Source(name, compact.path, footer, compact)
        for path in listing.plain:
            own = read_footer(path)
            if own is None:
                damaged.add(start_of(path.name) // self._period)
            else:
                yield _Source(path.name, path, own)

    def _unite(self, sources: list[_Source], paths: list[Path], listing: Listing) -> None:
        """Publish one compacted file and take away what it stands for."""
        replaces = sorted({s.path.name for s in sources if s.compact is not None})
        members = [(source.name, source.footer) for source in sources]
        temporary = self._folder / f"{TEMPORARY}{uuid.uuid4().hex}"
        generation = 1 + max((generation_of(compact.path.name) for compact in listing.compacts), default=0)
        first, last = window_of(sources[0].name), window_of(sources[-1].name)
        target = self._folder / compact_name(first, last, generation + self._outcome.periods)
        try:
            offsets = _write(temporary, sources, members, replaces)
            _check(temporary, members, offsets)
            reached("compact_written")
            os.link(temporary, target)
            sync_folder(self._folder)
        finally:
            temporary.unlink(missing_ok=True)
        reached("compact_linked")
        self._mark()
        reached("compact_marked")
        self._outcome.bytes_after += target.stat().st_size - sum(path.stat().st_size for path in paths)
        for path in paths:
            path.unlink(missing_ok=True)
            reached("compact_removing")
        sync_folder(self._folder)
        reached("compact_removed")

    def _mark(self) -> None:
        """Tell a running ingestion that names are about to go which keep it from publishing twice."""
        new = self._folder / f"{TEMPORARY}mark"
        new.write_text(uuid.uuid4().hex)
        new.replace(self._folder / MARK)
        sync_folder(self._folder)


def _cut(sources: list[_Source]) -> Iterator[list[_Source]]:
    """A period as it is, or in several parts that each stay below the size of one file. An earlier compacted file stays whole."""
    total = sum(source.footer.row_count for source in sources)
    if total <= _FILE_ROWS or any(source.compact for source in sources):
        yield sources
        return
    part: list[_Source] = []
    rows = 0
    for source in sources:
        same = bool(part) and part[-1].footer.window_start_ns == source.footer.window_start_ns
        if part and not same and rows + source.footer.row_count > _FILE_ROWS:
            yield part
            part, rows = [], 0
        part.append(source)
        rows += source.footer.row_count
    yield part


def _write(
    path: Path, sources: list[_Source], members: list[tuple[str, Footer]], replaces: list[str]
) -> np.ndarray:
    """Write and sync; returns the offsets of all rows, sorted."""
    reader = Reader()
    windows: dict[int, list[_Source]] = {}
    for source in sources:
        windows.setdefault(source.footer.window_start_ns, []).append(source)
    schema = _schema(sources)
    spans: dict[int, Span] = {}
    offsets: list[np.ndarray] = []
    group: list[pa.Table] = []
    with path.open("xb") as file:
        with pq.ParquetWriter(
            file, schema, compression="zstd", use_dictionary=["asset"], store_schema=False
        ) as writer:
            number = rows = 0
            for start, parts in windows.items():
                table = _rows(parts, start, reader, schema)
                if rows and rows + table.num_rows > _GROUP_ROWS:
                    writer.write_table(pa.concat_tables(group), row_group_size=rows)
                    group, rows, number = [], 0, number + 1
                spans[start] = Span(number, rows, table.num_rows)
                group.append(table)
                rows += table.num_rows
                offsets.append(table.column("offset").to_numpy())
            if rows:
                writer.write_table(pa.concat_tables(group), row_group_size=rows)
            writer.add_key_value_metadata({KEY: describe(members, replaces, spans)})
        file.flush()
        os.fsync(file.fileno())
    return np.sort(np.concatenate(offsets))


def _schema(sources: list[_Source]) -> pa.Schema:
    """Base columns, then every sensor of any source by name."""
    found: set[str] = set()
    base = [field.name for field in BASE_FIELDS]
    # Equal fingerprints mean equal columns, so one file of each kind is opened.
    for path in {s.path if s.compact else s.footer.schema_fingerprint: s.path for s in sources}.values():
        found.update(pq.read_schema(path).names)
    return readings_schema([*base, *sorted(found - set(base))])


def _rows(parts: list[_Source], start: int, reader: Reader, schema: pa.Schema) -> pa.Table:
    """One window's rows, base and addenda united, in event-time order."""
    tables, earlier = [], set()
    for part in parts:
        if part.compact is None:
            tables.append(pq.ParquetFile(part.path).read().replace_schema_metadata())
        elif part.path not in earlier:
            earlier.add(part.path)
            tables.append(reader.window(part.compact, start))
    table = pa.concat_tables([*tables, schema.empty_table()], promote_options="default").select(schema.names)
    if len(tables) > 1:
        times = table.column("event_time").cast(pa.int64()).to_numpy()
        table = table.take(pa.array(np.lexsort((table.column("offset").to_numpy(), times))))
    return table


def _check(path: Path, members: list[tuple[str, Footer]], offsets: np.ndarray) -> None:
    """Read back what was written: nothing may be taken away for a file that does not hold it. Raises StorageError."""
    expected = sum(footer.row_count for _, footer in members)
    held = np.sort(pq.ParquetFile(path).read(columns=["offset"]).column("offset").to_numpy())
    if len(held) != expected or not np.array_equal(held, offsets):
        raise StorageError(
            f"{path.parent}: a compacted file holds {len(held)} rows, its members say {expected}; nothing was changed, run `fedplant audit`"
        )
