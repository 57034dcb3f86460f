"""The window store: one immutable Parquet file per closed window, created exclusively. The file is the transaction.

A file exists only once it is complete: written under a temporary name, synced, then hard-linked to its own name, which
fails if somebody else was first. Its footer is the durable record of the decision to close.
"""

import contextlib
import os
import uuid
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.compacted import Compact, Reader, is_compacted, look, mark_of, window_of
from ingestion.errors import StorageError
from ingestion.eventtime import NS
from ingestion.faultpoint import reached
from ingestion.footer import Footer, fingerprint, read_footer
from ingestion.records import readings_schema
from ingestion.smallfile import MAX_ROWS, Forms, encode, files_of
from ingestion.syncing import sync_folder, synced
from ingestion.tidy import tidy, tidy_many
from ingestion.windowfiles import footers, read_site
from ingestion.windowing import Closed, unite

__all__ = ["Identity", "PartitionStore", "Published", "TakenOver", "footers", "read_site", "stamp"]

TEMPORARY = ".tmp-"
DAMAGED = "damaged"
GROUP = 512
_GROUP_BYTES = 8 << 20
_KNOWN_BYTES = 24 << 20
_MAX_CHUNKS = 64


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


@dataclass(frozen=True)
class _Draft:
    """A file before it has a name."""

    content: bytes
    path: Path
    footer: Footer


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
        self._data_dir = data_dir
        self.folder = data_dir / "windows" / identity.site / identity.topic / f"p{identity.partition}"
        self.handled: dict[int, int] = {}
        self.footers: list[Footer] = []
        self.damaged = 0
        self._mark = b""
        self._compacts: tuple[Compact, ...] = ()
        self._chain: dict[int, list[Path]] = {}
        self._known: OrderedDict[int, pa.Table] = OrderedDict()
        self._known_bytes = 0
        self._identity = asdict(identity)
        self._fingerprints: dict[tuple[str, ...], str] = {}
        self._forms = Forms()
        self._token, self._serial = f"{os.getpid()}-{uuid.uuid4().hex[:12]}", 0

    @property
    def own_folder(self) -> Path:
        """Where the windows of this very topic lie if an older one of its name has the plain folder."""
        parent = self.folder.parent
        return parent.with_name(f"{self.identity.topic}~{self.identity.topic_id}") / self.folder.name

    def scan(self, new_folder: bool = False) -> "PartitionStore":
        """Read every footer; remove leftovers of crashes; set damaged windows aside. Raises StorageError."""
        if new_folder:
            self.folder = self.own_folder
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._mark = mark_of(self.folder)
            names = sorted(path.name for path in self.folder.iterdir())
            listing = look(self.folder)
        except OSError as error:
            raise StorageError(
                f"window folder {self.folder} cannot be used: {error.strerror}; check the data folder"
            ) from error
        for name in names:
            if name.startswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()
        for path in listing.damaged:
            self._move_aside([path])
        self._compacts = listing.compacts
        for compact in listing.compacts:
            self._know(compact.path, *compact.members.values())
        broken: set[str] = set()
        for path in listing.plain:
            try:
                footer = read_footer(path)
            except FileNotFoundError:  # a compaction is taking files away: everything is looked at again
                return PartitionStore(self._data_dir, self.identity, self.length).scan(new_folder)
            if footer is None:
                broken.add(window_of(path.name))
            else:
                self._know(path, footer)
        for window in broken:
            self._set_aside(window)
        wrong = next((f for f in self.footers if f.window_end_ns - f.window_start_ns != self.length), None)
        if wrong is not None:
            raise StorageError(
                f"{self.folder} holds windows of {(wrong.window_end_ns - wrong.window_start_ns) / NS:g} s, the configuration "
                f"says {self.length / NS:g} s: keep the length or use another data folder"
            )
        return self

    def _know(self, path: Path, *found: Footer) -> None:
        for footer in found:
            start = footer.window_start_ns
            self.footers.append(footer)
            self.handled[start] = max(self.handled.get(start, -1), footer.position_at_close)
            chain = self._chain.setdefault(start, [])
            if path not in chain:
                chain.append(path)

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
        done: list[Published] = []
        group: list[Closed] = []
        starts: set[int] = set()
        size = 0
        for window in closed:
            if window.start in starts or len(group) == GROUP or size > _GROUP_BYTES:
                done += self._together(group)
                group, starts, size = [], set(), 0
            size += window.bytes
            group.append(window)
            starts.add(window.start)
        return done + self._together(group)

    def _together(self, group: list[Closed]) -> list[Published]:
        """Publish different windows with one sync: all temporary files, then all names."""
        if not group:
            return []
        drafts = self._drafts(group)
        temporaries: list[str] = []
        try:
            with synced(self.folder, len(drafts)) as sync:
                for draft in drafts:
                    self._serial += 1
                    temporaries.append(f"{self.folder}/{TEMPORARY}{self._token}-{self._serial}")
                    sync.write(temporaries[-1], draft.content)
                    reached("temp_written")
            reached("temp_synced")
            self._not_compacted()
            done = [self._link(name, draft) for name, draft in zip(temporaries, drafts, strict=True)]
            self._not_compacted()
            sync_folder(self.folder)
            reached("folder_synced")
        finally:
            for name in temporaries:
                with contextlib.suppress(FileNotFoundError):
                    Path(name).unlink()
        reached("temp_removed")
        return done

    def _not_compacted(self) -> None:
        """A compaction took names away that guard against publishing twice: what is on disk must be looked at again."""
        if mark_of(self.folder) != self._mark:
            raise TakenOver(f"{self.folder} was compacted")

    def _drafts(self, group: list[Closed]) -> list["_Draft"]:
        """The files to be, in the order of `group`."""
        found: list[_Draft | None] = [None] * len(group)
        fresh = []
        for i, window in enumerate(group):
            if self._chain.get(window.start):
                found[i] = self._addendum(window)
            else:
                fresh.append(i)
        if fresh:
            for i, draft in zip(fresh, self._bases([group[i] for i in fresh]), strict=True):
                found[i] = draft
        return [draft for draft in found if draft is not None]

    def _bases(self, windows: list[Closed]) -> list["_Draft"]:
        counts = np.array([window.row_count for window in windows], dtype=np.int64)
        rows = unite(piece for window in windows for piece in window.pieces)
        ends = rows.column("offset").to_numpy()[np.cumsum(counts) - 1].tolist()
        tidied = tidy_many(rows, counts)
        footers = []
        for i, window in enumerate(windows):
            size = tidied.bounds[i + 1] - tidied.bounds[i]
            names = tuple(tidied.schema_names(i))
            dropped = (tidied.duplicate_rows[i], tidied.duplicate_ranges[i])
            footers.append(self._footer(window, ends[i], size, names, "base", dropped))
        contents = files_of(tidied, [footer.to_json() for footer in footers], self._forms)
        return [
            _Draft(content, self._path(window), footer)
            for content, window, footer in zip(contents, windows, footers, strict=True)
        ]

    def _addendum(self, window: Closed) -> "_Draft":
        rows, earlier = window.rows, self._earlier(window)
        tidied = tidy(rows, earlier)
        self._remember(window.start, earlier, tidied.rows)
        last = int(rows.column("offset")[-1].as_py())
        names, size = tuple(tidied.rows.column_names), tidied.rows.num_rows
        dropped = (tidied.duplicate_rows, tidied.duplicate_ranges)
        footer = self._footer(window, last, size, names, "addendum", dropped)
        content = encode(tidied.rows, footer.to_json(), small=size <= MAX_ROWS)
        return _Draft(content, self._path(window, window.first_offset), footer)

    def _path(self, window: Closed, addendum: int | None = None) -> Path:
        ending = ".parquet" if addendum is None else f".add-{addendum}.parquet"
        return self.folder / f"{stamp(window.start)}_{stamp(window.start + self.length)}{ending}"

    def _footer(
        self,
        window: Closed,
        last_offset: int,
        size: int,
        names: tuple[str, ...],
        kind: str,
        dropped: tuple[int, list[list[int]]],
    ) -> Footer:
        if names not in self._fingerprints:
            self._fingerprints[names] = fingerprint(readings_schema(names))
        return Footer(
            **self._identity,
            window_start_ns=window.start,
            window_end_ns=window.start + self.length,
            first_offset=window.first_offset,
            last_offset=last_offset,
            row_count=size,
            position_at_close=window.position_at_close,
            watermark_ns=window.watermark,
            schema_fingerprint=self._fingerprints[names],
            reason=window.reason,
            kind=kind,
            duplicate_count=dropped[0],
            duplicate_offsets=dropped[1],
        )

    def _earlier(self, window: Closed) -> pa.Table:
        """All rows of the window that are on disk; read once, then remembered while there is room."""
        known = self._forget(window.start)
        if known is None:
            by_path = {compact.path: compact for compact in self._compacts}
            before = [
                Reader().window(by_path[path], window.start)
                if path in by_path
                else pq.ParquetFile(path).read().replace_schema_metadata()
                for path in self._chain[window.start]
            ]
            known = pa.concat_tables(before, promote_options="default")
        return known

    def _remember(self, start: int, earlier: pa.Table, added: pa.Table) -> None:
        rows = pa.concat_tables([earlier, added], promote_options="default")
        if rows.column(0).num_chunks > _MAX_CHUNKS:
            rows = rows.combine_chunks()
        self._known[start] = rows
        self._known_bytes += rows.nbytes
        while self._known_bytes > _KNOWN_BYTES:
            self._forget(next(iter(self._known)))

    def _forget(self, start: int) -> pa.Table | None:
        rows = self._known.pop(start, None)
        if rows is not None:
            self._known_bytes -= rows.nbytes
        return rows

    def _link(self, temporary: str, draft: "_Draft") -> Published:
        footer, adopted = draft.footer, False
        try:
            os.link(temporary, draft.path)
        except FileExistsError:
            theirs = read_footer(draft.path)
            if theirs is None or theirs.position_at_close != footer.position_at_close:
                self._forget(footer.window_start_ns)
                raise TakenOver(str(draft.path)) from None
            adopted = True
        reached("linked")
        self._chain.setdefault(footer.window_start_ns, []).append(draft.path)
        self.handled[footer.window_start_ns] = footer.position_at_close
        late = footer.kind == "addendum" or footer.reason == "late"
        return Published(draft.path, footer.kind, footer.row_count, footer.duplicate_count, late, adopted)

    def _set_aside(self, window: str) -> None:
        """Move all files of a window that has a damaged file: what they hold is read from the topic again."""
        self._move_aside(
            path for path in sorted(self.folder.glob(f"{window}*.parquet")) if not is_compacted(path.name)
        )
        gone = {
            f.window_start_ns
            for f in self.footers
            if f"{stamp(f.window_start_ns)}_{stamp(f.window_end_ns)}" == window
        }
        self.footers = [f for f in self.footers if f.window_start_ns not in gone]
        for start in gone:
            self.handled.pop(start, None)
            self._chain.pop(start, None)
            for compact in self._compacts:
                self._know(compact.path, *compact.by_window.get(start, ()))

    def _move_aside(self, paths: Iterable[Path]) -> None:
        aside = self.folder / DAMAGED
        aside.mkdir(exist_ok=True)
        for path in paths:
            path.replace(aside / f"{path.name}.{uuid.uuid4().hex[:8]}")
            self.damaged += 1
        sync_folder(self.folder)
