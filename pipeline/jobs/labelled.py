"""Labelled incidents of site files as stretches that learning does not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from glob import escape

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ingestion.sitefile import SiteFile
from pipeline.datasets.leaveout import Leaving, LeftOut
from pipeline.evaluation.alarms import stretches


def labelled_stretches(files: Mapping[str, SiteFile], until_ns: int) -> tuple[LeftOut, ...]:
    """Every incident of every machine that begins before an instant (ns since 1970 UTC): from its first labelled reading to the first one behind it.

    What is labelled from `until_ns` on is not looked at: an incident that reaches so far ends there.
    """
    found = []
    for site, file in files.items():
        if file.labels is None:
            continue
        marked, time = labelled(file), times_ns(file)
        before = time < until_ns
        for asset, rows in _by_asset(file, before):
            for begin, end in stretches(marked[rows]):
                stop = int(time[rows[end]]) if end < len(rows) else until_ns
                own = (escape(site),), (escape(asset),)
                found.append(LeftOut(int(time[rows[begin]]), stop, *own, labelled=True))
    return tuple(found)


def incidents(file: SiteFile, rows: NDArray[np.bool_]) -> int | None:
    """Labelled stretches among the chosen rows of a file, bool[N], counted machine by machine; None without labels."""
    if file.labels is None:
        return None
    marked = labelled(file) & rows
    every = np.ones(len(marked), np.bool_)
    return sum(len(stretches(marked[of])) for _, of in _by_asset(file, every))


def seen_by_learning(file: SiteFile, leave_out: Sequence[LeftOut], until_ns: int) -> NDArray[np.bool_]:
    """Which rows of a file, bool[N], come before an instant and are in none of the stretches."""
    time = times_ns(file)
    seen, leaving = time < until_ns, Leaving(file.site, leave_out)
    for asset, rows in _by_asset(file, seen.copy()):
        seen[rows] = ~leaving.leave(asset, time[rows])
    return seen


def labelled(file: SiteFile) -> NDArray[np.bool_]:
    """Which rows of a file with labels are of an incident, bool[N]."""
    assert file.labels is not None
    return np.asarray((file.labels == 1).to_numpy(bool, na_value=False))


def times_ns(file: SiteFile) -> NDArray[np.int64]:
    """Event times of a file's rows, ns since 1970 UTC."""
    return file.frame["timestamp"].to_numpy(dtype="datetime64[ns]").astype(np.int64)


def _by_asset(file: SiteFile, chosen: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each machine and its chosen rows, in the file's order, which is that of time."""
    assets = file.frame["asset"].to_numpy()
    for asset in pd.unique(assets):
        yield str(asset), np.flatnonzero((assets == asset) & chosen)
