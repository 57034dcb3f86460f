"""The window store: one immutable Parquet file per closed window, created exclusively. The file is the transaction.

A file exists only once it is complete: written under a temporary name, synced, then hard-linked to its own name, which
fails if somebody else was first. Its footer is the durable record of the decision to close.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.errors import StorageError
from ingestion.eventtime import NS
from ingestion.faultpoint import reached
from ingestion.footer import Footer, fingerprint, read_footer
from ingestion.tidy import Tidied, tidy
from ingestion.windowing import Closed

TEMPORARY = ".tmp-"
DAMAGED = "damaged"


@dataclass(frozen=True)
class Identity:
    """Whose readings a folder holds."""

    site: str
    cluster_id: str
    topic: str
    topic_id: str
    partition: int


@dataclass(frozen=True)
class Published:
    """What one published file holds. `adopted` is True if another process had made the same decision before us."""

    path: Path
    kind: str
    rows: int
    duplicates: int
    late: bool
    adopted: bool


class TakenOver(Exception):
    """Another process closed this window at another position: drop what is in memory and continue from disk."""


def stamp(ns: int) -> str:
    """UTC `YYYYMMDDTHHMMSSZ`; a fraction of a second, if any, follows the seconds as `.nnnnnnnnn`."""
    seconds, rest = divmod(ns, NS)
    text = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y%m%dT%H%M%S")
    return f"{text}.{rest:09d}Z" if rest else f"{text}Z"


class PartitionStore:
    """The files of one partition. Built by `scan`, which also clears what a crash left behind."""

    def __init__(self, data_dir: Path, identity: Identity, length: int) -> None:
        self.identity = identity
        self.length = length
        self.folder = data_dir / "windows" / identity.site / identity.topic / f"p{identity.partition}"
        self.handled: dict[int, int] = {}
        self.footers: list[Footer] = []
        self.damaged = 0
        self._chain: dict[int, list[Path]] = {}

    def scan(self, new_folder: bool = False) -> "PartitionStore":
        """Read every footer; remove leftovers of crashes; set damaged windows aside. Raises StorageError."""
        if new_folder:
            parent = self.folder.parent
            self.folder = parent.with_name(f"{parent.name}~{self.identity.topic_id}") / self.folder.name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = sorted(path.name for path in self.folder.iterdir())
        except OSError as error:
            raise StorageError(
                f"window folder {self.folder} cannot be used: {error.strerror}; check the data folder"
            ) from error
        broken: set[str] = set()
        for name in names:
            if name.startswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()
            elif name.endswith(".parquet"):
                footer = read_footer(self.folder / name)
                if footer is None:
                    broken.add(name.split(".add-")[0].removesuffix(".parquet"))
                else:
                    self.footers.append(footer)
                    self.handled[footer.window_start_ns] = max(
                        self.handled.get(footer.window_start_ns, -1), footer.position_at_close
                    )
                    self._chain.setdefault(footer.window_start_ns, []).append(self.folder / name)
        for window in broken:
            self._set_aside(window)
        wrong = next((f for f in self.footers if f.window_end_ns - f.window_start_ns != self.length), None)
        if wrong is not None:
            raise StorageError(
                f"{self.folder} holds windows of {(wrong.window_end_ns - wrong.window_start_ns) / NS:g} s, the configuration "
                f"says {self.length / NS:g} s: keep the length or use another data folder"
            )
        return self

    def publish(self, closed: list[Closed]) -> list[Published]:
        """Make these windows exist, in this order. Raises TakenOver, StorageError (full, read-only)."""
        try:
            return self._publish(closed)
        except FileNotFoundError as error:
            raise TakenOver(str(error)) from error
        except OSError as error:
            raise StorageError(
                f"window file in {self.folder} cannot be written: {error.strerror}; free space or fix permissions, then start again"
            ) from error

    def _publish(self, closed: list[Closed]) -> list[Published]:
        pending: list[tuple[Path, Path, Footer, int]] = []
        done: list[Published] = []
        for window in closed:
            if any(footer.window_start_ns == window.start for _, _, footer, _ in pending):
                done += self._link(pending)
                pending = []
            pending.append(self._write(window))
        return done + self._link(pending)

    def _write(self, window: Closed) -> tuple[Path, Path, Footer, int]:
        earlier = self._chain.get(window.start, [])
        tidied = self._tidied(window, earlier)
        name = f"{stamp(window.start)}_{stamp(window.start + self.length)}"
        name += f".add-{window.first_offset}.parquet" if earlier else ".parquet"
        offsets = tidied.rows.column("offset").to_numpy()
        footer = Footer(
            **asdict(self.identity),
            window_start_ns=window.start,
            window_end_ns=window.start + self.length,
            first_offset=window.first_offset,
            last_offset=int(window.rows.column("offset").to_numpy().max()),
            row_count=len(offsets),
            position_at_close=window.position_at_close,
            watermark_ns=window.watermark,
            schema_fingerprint=fingerprint(tidied.rows.schema),
            reason=window.reason,
            kind="addendum" if earlier else "base",
            duplicate_count=tidied.duplicate_rows,
            duplicate_offsets=tidied.duplicate_ranges,
        )
        temporary = self.folder / f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:12]}"
        sink = pa.BufferOutputStream()
        # store_schema=False would also drop the table's own metadata: the footer is added by the writer.
        with pq.ParquetWriter(
            sink, tidied.rows.schema, compression="snappy", store_schema=False, use_dictionary=["asset"]
        ) as writer:
            writer.write_table(tidied.rows)
            writer.add_key_value_metadata({"fedplant": footer.to_json()})
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            view = memoryview(sink.getvalue())
            while view:
                view = view[os.write(descriptor, view) :]
            reached("temp_written")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        reached("temp_synced")
        return temporary, self.folder / name, footer, tidied.duplicate_rows

    def _tidied(self, window: Closed, earlier: list[Path]) -> Tidied:
        if not earlier:
            return tidy(window.rows)
        before = [pq.ParquetFile(path).read() for path in earlier]
        return tidy(
            window.rows,
            pa.concat_tables([t.replace_schema_metadata() for t in before], promote_options="default"),
        )

    def _link(self, pending: list[tuple[Path, Path, Footer, int]]) -> list[Published]:
        done: list[Published] = []
        try:
            for temporary, path, footer, duplicates in pending:
                adopted = False
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    theirs = read_footer(path)
                    if theirs is None or theirs.position_at_close != footer.position_at_close:
                        raise TakenOver(str(path)) from None
                    adopted = True
                reached("linked")
                self._chain.setdefault(footer.window_start_ns, []).append(path)
                self.handled[footer.window_start_ns] = footer.position_at_close
                late = footer.kind == "addendum" or footer.reason == "late"
                done.append(Published(path, footer.kind, footer.row_count, duplicates, late, adopted))
            if pending:
                _sync_folder(self.folder)
                reached("folder_synced")
        finally:
            for temporary, *_ in pending:
                temporary.unlink(missing_ok=True)
        reached("temp_removed")
        return done

    def _set_aside(self, window: str) -> None:
        """Move all files of a window that has a damaged file: what they hold is read from the topic again."""
        aside = self.folder / DAMAGED
        aside.mkdir(exist_ok=True)
        for path in sorted(self.folder.glob(f"{window}*.parquet")):
            path.replace(aside / f"{path.name}.{uuid.uuid4().hex[:8]}")
            self.damaged += 1
        _sync_folder(self.folder)
        gone = {
            f.window_start_ns
            for f in self.footers
            if f"{stamp(f.window_start_ns)}_{stamp(f.window_end_ns)}" == window
        }
        self.footers = [f for f in self.footers if f.window_start_ns not in gone]
        for start in gone:
            self.handled.pop(start, None)
            self._chain.pop(start, None)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def window_files(data_dir: Path, site: str) -> list[tuple[str, list[Path]]]:
    """All published files of a site as (window name `<start>_<end>`, base and addenda), ascending by start."""
    found: dict[str, list[Path]] = {}
    root = Path(data_dir) / "windows" / site
    for folder in sorted(root.glob("*/p*")):
        for entry in sorted(path.name for path in folder.iterdir()):
            if entry.endswith(".parquet") and not entry.startswith("."):
                found.setdefault(entry.split(".add-")[0].removesuffix(".parquet"), []).append(folder / entry)
    return sorted(found.items())


def read_site(data_dir: Path, site: str) -> Iterator[pa.Table]:
    """The readings of a site, one table per window in event-time order, base and addenda of all partitions united.

    Each table has the columns of the readings table, rows sorted by (`event_time`, `offset`), sensor columns that the window
    has. Raises StorageError naming a file that cannot be read.
    """
    for _, paths in window_files(data_dir, site):
        tables = []
        for path in paths:
            try:
                tables.append(pq.ParquetFile(path).read().replace_schema_metadata())
            except (OSError, pa.ArrowException) as error:
                raise StorageError(
                    f"window file {path} cannot be read: {error}; ingest again to rebuild it"
                ) from error
        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")
        if len(tables) > 1:
            times = table.column("event_time").cast(pa.int64()).to_numpy()
            table = table.take(pa.array(np.lexsort((table.column("offset").to_numpy(), times))))
        if table.num_rows:
            yield table


def footers(data_dir: Path, site: str) -> Iterator[tuple[Path, Footer]]:
    """Every published file of a site with its footer, for whoever must account for offsets. Raises StorageError."""
    for _, paths in window_files(data_dir, site):
        for path in paths:
            footer = read_footer(path)
            if footer is None:
                raise StorageError(f"window file {path} is damaged; ingest again to rebuild it")
            yield path, footer
