"""Where training data comes from: a window store, or site files. What follows is the same for both."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from pipeline.datasets.snapshot import Source
from pipeline.datasets.tables import tables_from_frame
from pipeline.datasets.valid import Valid, within

if TYPE_CHECKING:
    from ingestion.sitefile import SiteFile


class Readings(Protocol):
    """Readings of several sites, to be read as often as needed."""

    def sources(self) -> Mapping[str, Sequence[Source]]:
        """The files behind each site, for the snapshot's name."""

    def tables(self, site: str) -> Iterable[pa.Table]:
        """The readings tables of a site (docs/architecture.md)."""

    def out_of_range(self, site: str) -> Mapping[str, int]:
        """By sensor the values that the last reading of a site's tables from first to last left out."""


class WindowReadings:
    """What ingestion has published below a data folder, within the valid ranges of today: a window may be older than its sensor's."""

    def __init__(self, data_dir: Path, sites: Sequence[str], valid: Sequence[Valid] = ()) -> None:
        self._data_dir = data_dir
        self._sites = tuple(sites)
        self._valid = tuple(valid)
        self._out_of_range: dict[str, Counter[str]] = {}

    def sources(self) -> Mapping[str, Sequence[Source]]:
        """Window files and addenda with their row counts."""
        from ingestion.windowfiles import footers

        root = self._data_dir / "windows"
        return {
            site: [
                Source(str(path.relative_to(root)), footer.row_count)
                for path, footer in footers(self._data_dir, site)
            ]
            for site in self._sites
        }

    def tables(self, site: str) -> Iterable[pa.Table]:
        """Base windows and addenda united, in event-time order."""
        from ingestion.windowfiles import read_site

        limits = {each.sensor: each for each in self._valid if each.site == site}
        out: Counter[str] = Counter()
        for table in read_site(self._data_dir, site):
            yield within(table, limits, out) if limits else table
        self._out_of_range[site] = out

    def out_of_range(self, site: str) -> Mapping[str, int]:
        """See `Readings`."""
        return self._out_of_range.get(site, {})


class FileReadings:
    """Historian exports that are in memory."""

    def __init__(self, files: Mapping[str, SiteFile]) -> None:
        self._files = files

    def sources(self) -> Mapping[str, Sequence[Source]]:
        """One entry per site, named by what is in it."""
        found = {}
        for site, file in self._files.items():
            digest = hashlib.sha256(repr(file.sensors).encode())
            digest.update("\0".join(file.frame["asset"]).encode())
            digest.update(file.frame["timestamp"].to_numpy(dtype="datetime64[ns]").tobytes())
            digest.update(file.frame[list(file.sensors)].to_numpy("float64").tobytes())
            found[site] = [Source(digest.hexdigest(), len(file.frame))]
        return found

    def tables(self, site: str) -> Iterable[pa.Table]:
        """The file's rows in time order."""
        file = self._files[site]
        return tables_from_frame(file.frame, file.sensors, site)

    def out_of_range(self, site: str) -> Mapping[str, int]:
        """None: what a file loses by its sensors' rules is told when it is read (`pipeline.jobs.mapped`)."""
        return {}
