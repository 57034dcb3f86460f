"""Stretches of the configuration that no ingested reading lies in, as after a typo: found from the windows, before anything is learned."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestion.windowfiles import folders_of, machines_heard
from pipeline.datasets.leaveout import Period, concerns, matches


@dataclass(frozen=True)
class Ingested:
    """What was ingested of some sites below a data folder, and is learned from: before `until_ns`, ns since 1970 UTC; None is the end of the data.

    `held_ns`: so long a machine's last reading stands for it, and a stretch that begins meanwhile is no typo. `patience`: seconds of reading,
    after which what is left counts as touched.
    """

    data_dir: Path
    sites: Sequence[str]
    until_ns: int | None
    held_ns: int = 0
    patience: float = float("inf")

    def untouched(self, stretches: Sequence[Period]) -> Iterator[tuple[Period, list[str]]]:
        """Those in which nothing lies, each with its sites; sites without a window have no say, nor has a stretch that has no other.

        Raises:
          StorageError: a window file cannot be read.
        """
        until = time.monotonic() + self.patience
        known = [site for site in sorted(self.sites) if folders_of(self.data_dir, site)]
        for each in stretches:
            sites = [site for site in known if concerns(each, site)]
            if sites and not any(self._touches(each, site, until) for site in sites):
                yield each, sites

    def _touches(self, stretch: Period, site: str, deadline: float) -> bool:
        begin, end = stretch.from_ns - self.held_ns, stretch.to_ns + self.held_ns
        if self.until_ns is not None:
            end = min(end, self.until_ns)
        for machines in machines_heard(self.data_dir, site, begin, end):
            if any(matches(machine, stretch.assets) for machine in machines) or time.monotonic() > deadline:
                return True
        return False
