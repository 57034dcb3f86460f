"""Exports with one row per reading (time, sensor, value) brought to one row per time with a column for each sensor. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ingestion.errors import InputDataError
from ingestion.tolerated import Tolerated

_MOST_CELLS = 400_000_000
"""3.2 GB of float64."""


@dataclass(frozen=True)
class Readings:
    """N readings in the order of the file.

    `times` datetime64[ns, UTC], NaT where unusable; `assets` and `sensors` str, the latter missing where no sensor is named; `values` float64[N],
    NaN where missing; `text` bool[N], where a cell holds something that is not a number; `labels` Int8 or None.
    """

    times: pd.Series
    assets: pd.Series
    sensors: pd.Series
    values: NDArray[np.float64]
    text: NDArray[np.bool_]
    labels: pd.Series | None


def one_row_a_time(readings: Readings, notes: list[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A frame `timestamp`, `asset`, one float64 column a sensor and `label` if there are any, in time order; and the sensors, sorted.

    A time is of an incident if one of its readings is. Of two readings of a sensor at one time the first is kept. Sensors that are mostly
    text are left out. What was tolerated is added to `notes`. Raises InputDataError if no number is left, or the frame would be too large.
    """
    names = readings.sensors.str.strip()
    names = names.where(names != "")
    named = names.notna().to_numpy()
    if not named.all():
        notes.append(f"{int((~named).sum())} rows name no sensor; they were left out")
    kept = named & readings.times.notna().to_numpy()
    kept &= ~_of_text_sensors(names, readings, kept, notes)
    column, sensors = pd.factorize(names[kept], sort=True)
    at = pd.DataFrame(
        {"timestamp": readings.times[kept].to_numpy(), "asset": readings.assets[kept].to_numpy()}
    )
    row = at.groupby(["timestamp", "asset"], sort=True).ngroup().to_numpy()
    rows = int(row.max()) + 1 if len(row) else 0
    if rows == 0 or len(sensors) == 0:
        raise InputDataError("no row has a usable time, a sensor's name and a number")
    if rows * len(sensors) > _MOST_CELLS:
        raise InputDataError(
            f"{rows:,} times of {len(sensors):,} sensors are too many to hold at once; export a shorter time or fewer sensors, or name the "
            "machines' column (--asset)"
        )
    again = pd.Series(row * len(sensors) + column).duplicated().to_numpy()
    if again.any():
        notes.append(f"{int(again.sum())} rows repeat sensor and time of an earlier row; the first was kept")
    values = np.full((rows, len(sensors)), np.nan)
    values[row[~again], column[~again]] = readings.values[kept][~again]
    frame = at.assign(row=row).drop_duplicates("row").sort_values("row")[["timestamp", "asset"]]
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True)
    frame = pd.concat([frame.reset_index(drop=True), pd.DataFrame(values, columns=list(sensors))], axis=1)
    if readings.labels is not None:
        of_time = readings.labels[kept].reset_index(drop=True).groupby(row).max()
        frame["label"] = of_time.reindex(range(rows)).to_numpy()
        frame["label"] = frame["label"].astype("Int8")
    return frame, tuple(sensors)


def _of_text_sensors(
    names: pd.Series, readings: Readings, kept: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.bool_]:
    """Which rows are of sensors whose cells are mostly text; text among the numbers of others is counted."""
    if not readings.text.any():
        return np.zeros(len(names), bool)
    cells = pd.DataFrame(
        {"sensor": names, "text": readings.text, "said": readings.text | ~np.isnan(readings.values)}
    )
    by_sensor = cells[kept].groupby("sensor")[["text", "said"]].sum()
    mostly = by_sensor.index[by_sensor["text"] > by_sensor["said"] / 2]
    some = by_sensor["text"].drop(mostly)
    odd = Tolerated(
        "sensor",
        ignored={str(sensor): "is mostly text" for sensor in mostly},
        text={str(sensor): int(count) for sensor, count in some.items() if count},
    )
    notes += odd.remarks()
    return names.isin(mostly).to_numpy()
