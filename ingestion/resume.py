"""Where reading a partition goes on: from its files, what the group committed, and what the log still holds."""

import json
from dataclasses import dataclass, replace
from typing import Any

from ingestion.errors import ContinuityError
from ingestion.eventtime import NS
from ingestion.folderid import folder_id
from ingestion.records import Imprint
from ingestion.settings import IngestSettings
from ingestion.store import Identity, PartitionStore
from ingestion.told import Told
from ingestion.windowing import NEVER, Rules, Windows


@dataclass(frozen=True)
class Committed:
    """The group's offset for a partition and the note that came with it."""

    offset: int
    metadata: str


@dataclass(frozen=True)
class Bounds:
    """First offset that the log holds and the offset behind its last committed record."""

    start: int
    end: int


@dataclass(frozen=True)
class Resume:
    """`told` knows which messages have their letter; `windows.position` is where to read on. Everything below
    `reached` was read once; `last_read` is the last record of it that is known, and the log must still hold it."""

    store: PartitionStore
    windows: Windows
    told: Told
    reached: int
    last_read: Imprint | None

    def past_the_gap(self) -> "Resume":
        """The start in a log that has other records below `reached`, where what was read counts as handled."""
        return replace(self, told=Told.everything_below(self.reached), last_read=None)


def metadata(
    topic_id: str,
    max_event: int,
    settled: int,
    last_read: Imprint | None,
    letters: list[Any] | None = None,
    folder: str | None = None,
) -> str:
    """What a commit says beside the offset: topic id, largest event time before it, position of confirmed letters, last record,
    which messages between the two have a letter (`Told.note`), and the data folder's id."""
    event = None if max_event <= NEVER else max_event
    note = {"t": topic_id, "e": event, "s": settled, "r": last_read, "l": letters, "f": folder}
    return json.dumps(note, separators=(",", ":"))


def resume(settings: IngestSettings, identity: Identity, committed: Committed | None, log: Bounds) -> Resume:
    """Scan the partition's files and check that the log continues them.

    Raises ContinuityError naming what the operator can choose, StorageError if the folder cannot be used.
    """
    length = int(settings.event_time.window * NS)
    store = PartitionStore(settings.data_dir, identity, length).scan()
    note = _note(committed.metadata) if committed is not None else None
    place = f"{identity.topic}[{identity.partition}]"
    other = ({f.topic_id for f in store.footers} | ({note["t"]} if note else set())) - {identity.topic_id}
    if other:
        # The folder of the new topic's own is the operator's answer, given once.
        if not settings.new_topic and not store.own_folder.exists():
            raise ContinuityError(
                f"topic {identity.topic} was created again (id {identity.topic_id}, on disk {sorted(other)[0]}): "
                "start with --new-topic to read it beside the old windows"
            )
        store = PartitionStore(settings.data_dir, identity, length).scan(new_folder=True)
        if note and note["t"] != identity.topic_id:
            note = None
    elsewhere = note is not None and note.get("f") not in (None, folder_id(settings.data_dir))
    if committed is not None and elsewhere and committed.offset > log.start and not settings.accept_gap:
        raise ContinuityError(
            f"{place}: group {settings.group_id!r} has read up to offset {committed.offset} into another data folder, or this one was emptied "
            f"since ({settings.data_dir}): give the group a new name to read the log from its start into this folder, or start with "
            "--accept-gap to go on from there"
        )
    known = committed is not None and note is not None
    start = log.start
    if committed is not None and note is not None and not store.read_again:
        start = committed.offset
    settled = int(note["s"]) if note else log.start
    first = min((f.first_offset for f in store.footers), default=log.start)
    if not settings.accept_gap and start < log.start:
        raise ContinuityError(
            f"{place}: offsets {start} to {log.start - 1} were removed by retention before they were read: "
            "start with --accept-gap to go on without them"
        )
    if not settings.accept_gap and (
        (not known and first < log.start) or (store.read_again and log.start > 0)
    ):
        cause = (
            "a window file is damaged" if known else f"group {settings.group_id!r} has no committed offset"
        )
        raise ContinuityError(
            f"{place}: {cause} and retention removed what lies before offset {log.start}, so that readings may be gone for good: "
            "start with --accept-gap to go on from there"
        )
    last_read = _last_read(store, note)
    reached = max([start, settled, *(footer.position_at_close for footer in store.footers)])
    if reached > log.end:
        raise ContinuityError(
            f"{place}: position {reached} is beyond the log's end {log.end}: "
            "the log was cut; restore it or start with another group and data folder"
        )
    start = max(start, log.start)
    resumed = note is not None and not store.read_again and note["e"] is not None
    largest = int(note["e"]) if resumed and note else NEVER
    windows = Windows(Rules.of(settings.event_time), start, largest, store.handled)
    if last_read is not None and last_read.offset < log.start:
        last_read = None
    told = Told.of_note(settled, note.get("l")) if note else Told.everything_below(settled)
    return Resume(store, windows, told, reached, last_read)


def _last_read(store: PartitionStore, note: dict[str, Any] | None) -> Imprint | None:
    """By the group's note, and by files that are newer: older ones may hold what an accepted gap has replaced."""
    settled = note["s"] if note else -1
    found = [_imprint(footer.last_read) for footer in store.footers if footer.position_at_close > settled]
    if note:
        found.append(_imprint(note.get("r")))
    return max((imprint for imprint in found if imprint is not None), default=None)


def _imprint(values: Any) -> Imprint | None:
    ours = isinstance(values, list) and len(values) == 4 and all(type(value) is int for value in values)
    return Imprint(*values) if ours else None


def _note(text: str | None) -> dict[str, Any] | None:
    try:
        note = json.loads(text or "")
        ours = type(note["t"]) is str and type(note["s"]) is int and type(note["e"]) in (int, type(None))
        return note if ours else None
    except (ValueError, TypeError, KeyError):
        return None
