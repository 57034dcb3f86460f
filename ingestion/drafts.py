"""Window files before they have a name: rows without duplicates as Parquet bytes, with the footer of the decision to close."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.compacted import Compact, Reader
from ingestion.eventtime import NS
from ingestion.footer import Footer, Identity, fingerprint
from ingestion.records import readings_schema
from ingestion.smallfile import MAX_ROWS, Forms, encode, files_of
from ingestion.tidy import tidy, tidy_many
from ingestion.windowing import Closed, unite

_KNOWN_BYTES = 24 << 20
_MAX_CHUNKS = 64


@dataclass(frozen=True)
class Draft:
    """A file's bytes, the name it is to have, and what its footer says."""

    content: bytes
    path: Path
    footer: Footer


def stamp(ns: int) -> str:
    """UTC `YYYYMMDDTHHMMSSZ`; a fraction of a second, if any, follows the seconds as `.nnnnnnnnn`."""
    seconds, rest = divmod(ns, NS)
    text = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y%m%dT%H%M%S")
    return f"{text}.{rest:09d}Z" if rest else f"{text}Z"


class Drafts:
    """Drafts of one partition; remembers the rows of windows that get addenda, while there is room."""

    def __init__(self, identity: Identity, length: int) -> None:
        self._length = length
        self._identity = asdict(identity)
        self._folder = Path()
        self._chain: Mapping[int, list[Path]] = {}
        self._compacts: tuple[Compact, ...] = ()
        self._known: OrderedDict[int, pa.Table] = OrderedDict()
        self._known_bytes = 0
        self._fingerprints: dict[tuple[str, ...], str] = {}
        self._forms = Forms()

    def of(
        self,
        group: list[Closed],
        folder: Path,
        chain: Mapping[int, list[Path]],
        compacts: tuple[Compact, ...],
    ) -> list[Draft]:
        """The files to be of different windows, in the order of `group`; `chain` holds the files each window has already."""
        self._folder, self._chain, self._compacts = folder, chain, compacts
        found: list[Draft | None] = [None] * len(group)
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

    def _bases(self, windows: list[Closed]) -> list[Draft]:
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
            Draft(content, self._path(window), footer)
            for content, window, footer in zip(contents, windows, footers, strict=True)
        ]

    def _addendum(self, window: Closed) -> Draft:
        rows, earlier = window.rows, self._earlier(window)
        tidied = tidy(rows, earlier)
        self._remember(window.start, earlier, tidied.rows)
        last = int(rows.column("offset")[-1].as_py())
        names, size = tuple(tidied.rows.column_names), tidied.rows.num_rows
        dropped = (tidied.duplicate_rows, tidied.duplicate_ranges)
        footer = self._footer(window, last, size, names, "addendum", dropped)
        content = encode(tidied.rows, footer.to_json(), small=size <= MAX_ROWS)
        return Draft(content, self._path(window, window.first_offset), footer)

    def _path(self, window: Closed, addendum: int | None = None) -> Path:
        ending = ".parquet" if addendum is None else f".add-{addendum}.parquet"
        return self._folder / f"{stamp(window.start)}_{stamp(window.start + self._length)}{ending}"

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
            window_end_ns=window.start + self._length,
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
            last_read=list(window.last_read) if window.last_read else None,
        )

    def _earlier(self, window: Closed) -> pa.Table:
        """All rows of the window that are on disk; read once, then remembered while there is room."""
        known = self.forget(window.start)
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
            self.forget(next(iter(self._known)))

    def forget(self, start: int) -> pa.Table | None:
        """Let go of what is remembered of a window."""
        rows = self._known.pop(start, None)
        if rows is not None:
            self._known_bytes -= rows.nbytes
        return rows
