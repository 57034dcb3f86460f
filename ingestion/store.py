"""The window store: one immutable Parquet file per closed window, created exclusively. The file is the transaction.

A file exists only once it is complete: written under a temporary name, synced, then hard-linked to its own name, which
fails if somebody else was first. Its footer is the durable record of the decision to close.
"""

import contextlib
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ingestion.compacted import Compact, is_compacted, look, mark_of, window_of
from ingestion.drafts import Draft, Drafts, stamp
from ingestion.errors import StorageError
from ingestion.eventtime import NS
from ingestion.faultpoint import reached
from ingestion.footer import Footer, Identity, read_footer
from ingestion.syncing import sync_folder, synced
from ingestion.windowfiles import footers, read_site
from ingestion.windowing import Closed

__all__ = ["Identity", "PartitionStore", "Published", "TakenOver", "footers", "read_site", "stamp"]

TEMPORARY = ".tmp-"
DAMAGED = "damaged"
READ_AGAIN = ".read-again"
GROUP = 512
_GROUP_BYTES = 8 << 20


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


class PartitionStore:
    """The files of one partition. Built by `scan`, which also clears what a crash left behind.

    `damaged` counts the files that this scan set aside; `read_again` says that some were and the group's offset may lie behind
    what they held.
    """

    def __init__(self, data_dir: Path, identity: Identity, length: int) -> None:
        self.identity = identity
        self.length = length
        self._data_dir = data_dir
        self.folder = data_dir / "windows" / identity.site / identity.topic / f"p{identity.partition}"
        self.handled: dict[int, int] = {}
        self.footers: list[Footer] = []
        self.damaged = 0
        self.read_again = False
        self._mark = b""
        self._compacts: tuple[Compact, ...] = ()
        self._chain: dict[int, list[Path]] = {}
        self._drafts = Drafts(identity, length)
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
        self.read_again = (self.folder / READ_AGAIN).exists()
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
        drafts = self._drafts.of(group, self.folder, self._chain, self._compacts)
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

    def _link(self, temporary: str, draft: Draft) -> Published:
        footer, adopted = draft.footer, False
        try:
            os.link(temporary, draft.path)
        except FileExistsError:
            theirs = read_footer(draft.path)
            if theirs is None or theirs.position_at_close != footer.position_at_close:
                self._drafts.forget(footer.window_start_ns)
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

    def read_anew(self) -> None:
        """The group's offset lies before what is still missing of the windows set aside: it is enough to go on from there."""
        if self.read_again:
            self.read_again = False
            (self.folder / READ_AGAIN).unlink(missing_ok=True)

    def _move_aside(self, paths: Iterable[Path]) -> None:
        aside = self.folder / DAMAGED
        try:
            aside.mkdir(exist_ok=True)
            # First, so that a process killed from here on leaves word of it.
            (self.folder / READ_AGAIN).touch()
            sync_folder(self.folder)
            for path in paths:
                path.replace(aside / f"{path.name}.{uuid.uuid4().hex[:8]}")
                self.damaged += 1
            sync_folder(self.folder)
        except OSError as error:
            raise StorageError(
                f"a damaged file in {self.folder} cannot be set aside: {error.strerror}; check the data folder"
            ) from error
