"""Labelled incidents of site files as stretches that learning does not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from glob import escape

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ingestion.sitefile import SiteFile
from pipeline.datasets.leaveout import Leaving, LeftOut
from pipeline.evaluation.alarms import Stretch
from pipeline.evaluation.truth import UNKNOWN, known_stretches, reach


def labelled_stretches(files: Mapping[str, SiteFile], until_ns: int) -> tuple[LeftOut, ...]:
    """Every incident of every machine that begins before an instant (ns since 1970 UTC): from its first labelled reading to the first one behind it.

    Readings without a label between two of an incident are of it (`pipeline.evaluation.truth`). What is labelled from `until_ns` on is not
    looked at: an incident that reaches so far ends there.
    """
    found = []
    for site, file in files.items():
        time = times_ns(file)
        for asset, rows in _by_asset(file, time < until_ns):
            for begin, end in _incidents(file, rows):
                stop = int(time[rows[end]]) if end < len(rows) else until_ns
                own = (escape(site),), (escape(asset),)
                found.append(LeftOut(int(time[rows[begin]]), stop, *own, labelled=True))
    return tuple(found)


def incidents(file: SiteFile, rows: NDArray[np.bool_]) -> int | None:
    """Labelled stretches among the chosen rows of a file, bool[N], counted machine by machine; None without labels."""
    if file.labels is None:
        return None
    return sum(len(_incidents(file, of)) for _, of in _by_asset(file, rows))


def seen_by_learning(file: SiteFile, leave_out: Sequence[LeftOut], until_ns: int) -> NDArray[np.bool_]:
    """Which rows of a file, bool[N], come before an instant and are in none of the stretches."""
    time = times_ns(file)
    seen, leaving = time < until_ns, Leaving(file.site, leave_out)
    for asset, rows in _by_asset(file, seen.copy()):
        seen[rows] = ~leaving.leave(asset, time[rows])
    return seen


def times_ns(file: SiteFile) -> NDArray[np.int64]:
    """Event times of a file's rows, ns since 1970 UTC."""
    return file.frame["timestamp"].to_numpy(dtype="datetime64[ns]").astype(np.int64)


def _by_asset(file: SiteFile, chosen: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each machine and its chosen rows, in the file's order, which is that of time."""
    assets = file.frame["asset"].to_numpy()
    for asset in pd.unique(assets):
        yield str(asset), np.flatnonzero((assets == asset) & chosen)


def _incidents(file: SiteFile, rows: NDArray[np.int64]) -> list[Stretch]:
    """Half-open ranges of a machine's rows int64[N] of a file that lie in an incident; none without labels."""
    if file.labels is None:
        return []
    label = file.labels.iloc[rows].to_numpy(np.int8, na_value=UNKNOWN)
    # Counted in readings: those that follow each other belong together, however long a machine was silent in between.
    reading = np.arange(len(rows))
    most = reach([reading[label != UNKNOWN]])
    return [(begin, end) for begin, end, incident in known_stretches(reading, label, most) if incident]
