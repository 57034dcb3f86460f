"""Proof that every message has exactly one place, from files and topics alone.

Shares no bookkeeping with the consumer: window files are read as plain Parquet, the dead-letter and late topics with
committed reads, and the log itself wherever an offset has no place. The committed offset only says how far the promise
reaches: what lies at or above it is read again by the next run and is `waiting`.
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from ingestion.compacted import look
from ingestion.errors import BrokerUnavailable
from ingestion.eventtime import NS
from ingestion.settings import IngestSettings, Site
from ingestion.unreachable import unavailable

_FILE, _REPEAT, _DEAD, _LATE, _DOUBLED, _IN_LOG = 1, 2, 4, 8, 16, 32
_SHOWN = 10
_READ_THROUGH = 5_000
_TRANSACTION_MS = 40_000
"""Letters may lie behind the transaction of a killed process, which stays open for 20 s, and the broker looks every 10 s."""


@dataclass(frozen=True)
class PartitionAudit:
    """Where the offsets from `log_start` up to `log_end` (not included) went; all counts are of offsets.

    `position` is the group's committed offset, None without one. `kept` are in window files, `duplicate` only repeated a kept
    reading, `late_topic` and `dead` are in their topics (late readings in addenda are `kept`), `no_record` holds no message (transaction markers, compacted or aborted records),
    `waiting` lies at or above `position`. `missing` and `doubled` break the promise; the first ten of each are named.
    """

    site: str
    topic: str
    partition: int
    log_start: int
    log_end: int
    position: int | None
    kept: int
    duplicate: int
    late_topic: int
    dead: int
    no_record: int
    waiting: int
    missing: int
    doubled: int
    first_missing: list[int]
    first_doubled: list[int]


@dataclass(frozen=True)
class AuditReport:
    """One entry a partition, sites without a topic, and window files that cannot be read or hold rows of another window."""

    partitions: list[PartitionAudit]
    missing_topics: list[str] = field(default_factory=list)
    bad_files: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is missing, doubled or unreadable."""
        return not self.bad_files and not any(p.missing or p.doubled for p in self.partitions)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "clean": self.clean,
            "missing": sum(p.missing for p in self.partitions),
            "doubled": sum(p.doubled for p in self.partitions),
            "partitions": [asdict(p) for p in self.partitions],
            "missing_topics": self.missing_topics,
            "bad_files": self.bad_files,
        }


def audit(settings: IngestSettings) -> AuditReport:
    """Account for every offset of every configured site. Run it while no ingestion runs, or what happens meanwhile shows.

    Raises BrokerUnavailable. Memory: one byte an offset of one partition at a time.
    """
    try:
        return _Audit(settings).run()
    except KafkaError as error:
        raise unavailable(settings.bootstrap, error) from error


class _Audit:
    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._timeout = int(settings.limits.broker_timeout * 1000)
        self._letter_patience = max(self._timeout, _TRANSACTION_MS)
        self._bad: list[str] = []

    def run(self) -> AuditReport:
        """See `audit`."""
        ids = self._topic_ids()
        consumer = KafkaConsumer(
            bootstrap_servers=self._settings.bootstrap,
            group_id=self._settings.group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=_READ_THROUGH,
            **self._settings.client,
        )
        found: list[PartitionAudit] = []
        missing = []
        try:
            for site in self._settings.sites:
                if site.topic not in ids:
                    missing.append(site.topic)
                    continue
                letters = [
                    (flag, list(self._letters(consumer, name, site.topic, ids[site.topic])))
                    for flag, name in ((_DEAD, site.dead_letter_topic), (_LATE, site.late_topic))
                    if name in ids
                ]
                for partition in sorted(consumer.partitions_for_topic(site.topic) or ()):
                    found.append(self._partition(consumer, site, partition, ids[site.topic], letters))
        finally:
            consumer.close(autocommit=False)
        return AuditReport(found, missing, self._bad)

    def _topic_ids(self) -> dict[str, str]:
        admin = KafkaAdminClient(bootstrap_servers=self._settings.bootstrap, **self._settings.client)
        try:
            wanted = {n for s in self._settings.sites for n in (s.topic, s.dead_letter_topic, s.late_topic)}
            present = sorted(wanted & set(admin.list_topics()))
            return {
                e["name"]: str(e["topic_id"]) for e in (admin.describe_topics(present) if present else [])
            }
        finally:
            admin.close()

    def _partition(
        self,
        consumer: KafkaConsumer,
        site: Site,
        number: int,
        topic_id: str,
        letters: list[tuple[int, list[tuple[int, int, bool]]]],
    ) -> PartitionAudit:
        place = TopicPartition(site.topic, number)
        start = consumer.beginning_offsets([place], timeout_ms=self._timeout)[place]
        end = consumer.end_offsets([place], timeout_ms=self._timeout)[place]
        committed = consumer.committed(place, metadata=True, timeout_ms=self._timeout)
        position = committed.offset if committed is not None else None
        flags = np.zeros(max(0, end - start), dtype=np.uint8)
        self._mark_files(site, number, topic_id, start, flags)
        for flag, entries in letters:
            for origin, offset, may_split in entries:
                at = offset - start
                if origin != number or not 0 <= at < len(flags):
                    continue
                with_rows = may_split and flag == _LATE and not flags[at] & ~(_FILE | _REPEAT)
                if flags[at] and not with_rows:
                    flags[at] |= _DOUBLED
                flags[at] |= flag
        promised = min(end, start if position is None else max(start, position)) - start
        self._mark_log(consumer, place, start, promised, flags)
        missing = np.flatnonzero(flags[:promised] == _IN_LOG)
        doubled = np.flatnonzero(flags & _DOUBLED)
        file, repeat = (flags & _FILE) > 0, (flags & _REPEAT) > 0
        return PartitionAudit(
            site=site.name,
            topic=site.topic,
            partition=number,
            log_start=start,
            log_end=end,
            position=position,
            kept=int(file.sum()),
            duplicate=int((repeat & ~file).sum()),
            late_topic=int(((flags & _LATE) > 0).sum()),
            dead=int(((flags & _DEAD) > 0).sum()),
            no_record=int((flags[:promised] == 0).sum()),
            waiting=int((flags[promised:] == 0).sum()),
            missing=len(missing),
            doubled=len(doubled),
            first_missing=[int(at) + start for at in missing[:_SHOWN]],
            first_doubled=[int(at) + start for at in doubled[:_SHOWN]],
        )

    def _mark_files(self, site: Site, number: int, topic_id: str, start: int, flags: np.ndarray) -> None:
        root = Path(self._settings.data_dir) / "windows" / site.name
        for folder in (root / site.topic / f"p{number}", root / f"{site.topic}~{topic_id}" / f"p{number}"):
            if not folder.is_dir():
                continue
            listing = look(folder)
            self._bad += map(str, listing.damaged)
            windows: dict[int, list[pa.Table]] = {}
            for path in listing.plain:
                for begin, table in self._rows(path, topic_id, start, flags):
                    windows.setdefault(begin, []).append(table)
            for compact in listing.compacts:
                for begin, table in self._compacted(compact.path, topic_id, start, flags):
                    windows.setdefault(begin, []).append(table)
            for tables in windows.values():
                self._mark_window(tables, start, flags)

    def _rows(
        self, path: Path, topic_id: str, start: int, flags: np.ndarray
    ) -> Iterator[tuple[int, pa.Table]]:
        """Window start and rows of one file of this very topic; marks the offsets it dropped as repetitions."""
        try:
            file = pq.ParquetFile(path)
            footer = orjson.loads(file.metadata.metadata[b"fedplant"])
            if footer["topic_id"] != topic_id:
                return
            table = file.read().replace_schema_metadata()
            times = table.column("event_time").cast(pa.int64()).to_numpy()
            inside = (times >= footer["window_start_ns"]) & (times < footer["window_end_ns"])
            length = footer["window_end_ns"] - footer["window_start_ns"]
            if not inside.all() or length != int(self._settings.event_time.window * NS):
                self._bad.append(str(path))
            self._repeated(footer, start, flags)
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            self._bad.append(str(path))
            return
        yield footer["window_start_ns"], table

    def _compacted(
        self, path: Path, topic_id: str, start: int, flags: np.ndarray
    ) -> Iterator[tuple[int, pa.Table]]:
        """The same for a compacted file: every window must hold as many rows as its members' footers say."""
        try:
            file = pq.ParquetFile(path)
            content = orjson.loads(file.metadata.metadata[b"fedplant_compacted"])
            footers = [footer for _, footer in content["members"] if footer["topic_id"] == topic_id]
            if not footers:
                return
            table = file.read().replace_schema_metadata()
            length = int(self._settings.event_time.window * NS)
            begins = table.column("event_time").cast(pa.int64()).to_numpy() // length * length
            expected: Counter[int] = Counter()
            for footer in footers:
                expected[footer["window_start_ns"]] += footer["row_count"]
                self._repeated(footer, start, flags)
            held = Counter(begins.tolist())
            if held != +expected or any(f["window_end_ns"] - f["window_start_ns"] != length for f in footers):
                self._bad.append(str(path))
            order = np.argsort(begins, kind="stable")
            table, begins = table.take(pa.array(order)), begins[order]
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            self._bad.append(str(path))
            return
        cuts = [0, *(np.flatnonzero(np.diff(begins)) + 1).tolist(), len(begins)]
        for first, last in itertools.pairwise(cuts):
            if last > first:
                yield int(begins[first]), table.slice(first, last - first)

    @staticmethod
    def _repeated(footer: dict[str, Any], start: int, flags: np.ndarray) -> None:
        for first, last in footer["duplicate_offsets"]:
            flags[max(0, first - start) : max(0, last + 1 - start)] |= _REPEAT

    @staticmethod
    def _mark_window(tables: list[pa.Table], start: int, flags: np.ndarray) -> None:
        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")
        offsets = table.column("offset").to_numpy()
        unique, counts = np.unique(offsets, return_counts=True)
        unique = unique[(unique >= start) & (unique < start + len(flags))]
        flags[unique - start] |= _FILE
        if (counts > 1).any():
            # A message may carry several readings; only the same reading twice is a fault.
            same = table.group_by(table.column_names).aggregate([([], "count_all")])
            twice = same.filter(pc.greater(same.column("count_all"), 1)).column("offset").to_numpy()
            twice = twice[(twice >= start) & (twice < start + len(flags))]
            flags[twice - start] |= _DOUBLED

    def _letters(
        self, consumer: KafkaConsumer, name: str, topic: str, topic_id: str
    ) -> Iterator[tuple[int, int, bool]]:
        """(partition, offset, whether the message is a list) of every letter of this very topic that this group sent."""
        group = self._settings.group_id.encode()
        parts = [TopicPartition(name, p) for p in sorted(consumer.partitions_for_topic(name) or ())]
        # Where a killed process left a transaction open, committed reads end before it, and letters behind it would be missed.
        with contextlib.closing(
            KafkaConsumer(bootstrap_servers=self._settings.bootstrap, **self._settings.client)
        ) as uncommitted:
            ends = uncommitted.end_offsets(parts, timeout_ms=self._timeout)
        starts = consumer.beginning_offsets(parts, timeout_ms=self._timeout)
        for part in parts:
            for record in self._read(consumer, part, starts[part], ends[part], self._letter_patience):
                headers = dict(record.headers)
                ours = headers.get("topic") == topic.encode() and headers.get("group", group) == group
                if ours and headers.get("topic_id", topic_id.encode()) == topic_id.encode():
                    several = (record.value or b"").lstrip()[:1] == b"["
                    yield int(headers["partition"]), int(headers["offset"]), several

    def _mark_log(
        self, consumer: KafkaConsumer, place: TopicPartition, start: int, promised: int, flags: np.ndarray
    ) -> None:
        """Mark the offsets that have no place although the log holds a message there."""
        without = np.flatnonzero(flags[:promised] == 0)
        if not len(without):
            return
        for run in np.split(without, np.flatnonzero(np.diff(without) > _READ_THROUGH) + 1):
            first, last = int(run[0]) + start, int(run[-1]) + start
            for record in self._read(consumer, place, first, last + 1, self._timeout):
                if record.offset - start < promised and flags[record.offset - start] == 0:
                    flags[record.offset - start] = _IN_LOG

    def _read(
        self, consumer: KafkaConsumer, part: TopicPartition, begin: int, end: int, patience: int
    ) -> Iterator[Any]:
        """The records from one offset to before another, waiting `patience` ms for the next. Raises BrokerUnavailable."""
        if begin >= end:
            return
        consumer.assign([part])
        consumer.seek(part, begin)
        silent = 0
        while (consumer.position(part) or begin) < end:
            records = consumer.poll(timeout_ms=500).get(part, [])
            silent = 0 if records else silent + 1
            if silent * 500 > patience:
                raise BrokerUnavailable(
                    f"{part.topic}[{part.partition}]: nothing read at {consumer.position(part)} for {patience / 1000:.0f} s; "
                    "an open transaction or a slow broker: try again later"
                )
            for record in records:
                if record.offset < end:
                    yield record
