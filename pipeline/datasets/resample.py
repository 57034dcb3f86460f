"""Readings to runs: a regular grid per asset, cut at its long silences, with the last value of each sensor held as long as it counts.

Grid times are multiples of the step since 1970 UTC; a grid time takes the last reading at or before it, as the live
scorer does. Of several readings of a sensor in one step the last wins (event time, then order of the table); a null
does not overwrite a value. Sensors that report by exception are held each by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.datasets.leaveout import Leaving, LeftOut
from pipeline.datasets.run import Run, SiteRuns
from pipeline.datasets.tables import by_asset, column_values, sensor_names, time_ns
from pipeline.errors import ConfigError


def resample_site(
    site: str,
    tables: Iterable[pa.Table],
    *,
    step_ns: int,
    max_gap_ns: int,
    hold_ns: Sequence[int] | None = None,
    sensors: Sequence[str] | None = None,
    until_ns: int | None = None,
    leave_out: Sequence[LeftOut] = (),
) -> SiteRuns:
    """Bring the readings of one site to a regular grid.

    Args:
      site: plant.
      tables: readings tables, one after the other; memory grows with the resampled values, not with the readings.
      step_ns: grid spacing in ns.
      max_gap_ns: when no sensor of an asset speaks for longer, its run ends.
      hold_ns: by sensor how long its last value counts, also into a next run; None is `max_gap_ns` for all.
      sensors: the sensors to take; all that appear by default.
      until_ns: readings at or after this event time (ns since 1970 UTC) are not read.
      leave_out: readings in these stretches are left out, and runs begin anew behind them.

    Raises:
      ConfigError: `step_ns` is not positive, or `max_gap_ns` is shorter than a step.
    """
    if step_ns < 1 or max_gap_ns < step_ns:
        raise ConfigError(
            f"step = {step_ns / 1e9:g} s and max_gap = {max_gap_ns / 1e9:g} s: expected step > 0 and max_gap >= step"
        )
    cells: dict[str, list[pd.DataFrame]] = {}
    readings, leaving = 0, Leaving(site, leave_out)
    for table in tables:
        for asset, part in by_asset(table):
            time = time_ns(part)
            kept = np.ones(len(time), bool) if until_ns is None else time < until_ns
            readings += int(kept.sum())
            if leave_out:
                kept[kept] = ~leaving.leave(asset, time[kept])
            if not kept.any():
                continue
            # Once a table: Arrow makes the list anew each time it is asked.
            there = set(part.column_names)
            wanted = sensor_names(there) if sensors is None else sensors
            # The index, because no sensor of a site may be wanted.
            frame = pd.DataFrame(
                {name: column_values(part, name)[kept] for name in wanted if name in there},
                index=range(int(kept.sum())),
            )
            order = np.argsort(time[kept], kind="stable")
            cell = -(-time[kept] // step_ns)
            cells.setdefault(asset, []).append(_last_of_each(frame.iloc[order], cell[order]))
    if sensors is None:
        names = sensor_names(name for parts in cells.values() for part in parts for name in part.columns)
    else:
        names = tuple(sensors)
    hold = np.broadcast_to(
        np.asarray(max_gap_ns if hold_ns is None else hold_ns, np.int64) // step_ns, len(names)
    )
    runs: list[Run] = []
    for asset in sorted(cells):
        merged = pd.concat(cells.pop(asset))
        # Windows of several partitions may interleave; a stable sort keeps later tables last within a step.
        merged = _last_of_each(merged.sort_index(kind="stable"), None).reindex(columns=list(names))
        values = merged.to_numpy(np.float64)
        grid = merged.index.to_numpy(np.int64)
        for part in leaving.parts(asset, grid * step_ns):
            runs.extend(_runs(site, asset, grid[part], values[part], step_ns, max_gap_ns // step_ns, hold))
    end_ns = max((run.end_ns for run in runs), default=0)
    if leaving.end_ns is not None:
        end_ns = max(end_ns, -(-leaving.end_ns // step_ns) * step_ns)
    touched = tuple(leaving.touched.tolist())
    return SiteRuns(site, names, tuple(runs), readings, leaving.readings, touched, end_ns)


def _runs(
    site: str,
    asset: str,
    grid: NDArray[np.int64],
    values: NDArray[np.float64],
    step_ns: int,
    gap: int,
    hold: NDArray[np.int64],
) -> Iterator[Run]:
    """The runs of one asset from its values float64[N, F] at the steps `grid` int64[N]; `gap` and `hold` int64[F] count steps."""
    spoke = ~np.isnan(values).all(axis=1)
    grid, values = grid[spoke], values[spoke]
    if len(grid) == 0:
        return
    # Row of the latest value of each sensor, -1 before the first.
    known = np.where(np.isnan(values), -1, np.arange(len(grid), dtype=np.int32)[:, None])
    latest = np.maximum.accumulate(known, axis=0)
    breaks = np.flatnonzero(np.diff(grid) > gap) + 1
    for first, last in zip(np.r_[0, breaks], np.r_[breaks, len(grid)], strict=True):
        times = np.arange(grid[first], grid[last - 1] + 1)
        source = latest[first + np.searchsorted(grid[first:last], times, side="right") - 1]
        held = np.take_along_axis(values, np.maximum(source, 0), axis=0)
        held[(source < 0) | (times[:, None] - grid[source] > hold)] = np.nan
        yield Run(site, asset, int(grid[first]) * step_ns, step_ns, held)


def _last_of_each(frame: pd.DataFrame, cell: NDArray[np.int64] | None) -> pd.DataFrame:
    key = frame.index if cell is None else cell
    if len(frame.columns) == 0:
        return pd.DataFrame(index=pd.Index(np.unique(key)))
    if len(np.unique(key)) == len(frame):
        return frame.set_axis(pd.Index(key), axis=0)
    return frame.groupby(key, sort=True).last()
