"""The sensors' own values around the biggest alerts, cut out of `signals/<site>.parquet`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.report.downsample import Envelope, envelope

_MARGIN_SHARE = 0.75
_LEAST_STEPS = 30
_MOST_MARGIN_NS = 24 * 3600 * 10**9
_SPANS = 360


@dataclass(frozen=True)
class Clip:
    """One sensor around one alert, in the sensor's own unit."""

    sensor: str
    values: Envelope

    @property
    def extremes(self) -> tuple[float, float] | None:
        """The lowest and the highest value; None if none is known."""
        known = np.isfinite(self.values.low)
        if not known.any():
            return None
        return float(self.values.low[known].min()), float(self.values.high[known].max())


Request = tuple[str, int, int, tuple[str, ...]]
"""Asset, alert start and end in ns, names of the sensors wanted."""


def read_clips(path: Path, requests: Sequence[Request]) -> list[tuple[Clip, ...]]:
    """For each request the clips of its sensors; sensors or times that the file does not hold are left out.

    Raises:
        OSError, pa.ArrowException: the file cannot be read.
    """
    file = pq.ParquetFile(path)
    have = set(file.schema_arrow.names)
    wanted = list(dict.fromkeys(s for request in requests for s in request[3] if s in have))
    table = file.read(columns=["event_time", "asset", *wanted])
    result: list[tuple[Clip, ...]] = []
    for asset, start, end, sensors in requests:
        rows = table.filter(pc.equal(table["asset"], asset))
        time = rows["event_time"].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
        order = np.argsort(time, kind="stable")
        time = time[order]
        step = int(np.median(np.diff(time))) if len(time) > 1 else 0
        margin = int(min(_MOST_MARGIN_NS, max(_MARGIN_SHARE * (end - start), _LEAST_STEPS * step)))
        inside = (time >= start - margin) & (time <= end + margin)
        if inside.sum() < 2:
            result.append(())
            continue
        clips = []
        for sensor in sensors:
            if sensor in have:
                values = rows[sensor].cast(pa.float64()).to_numpy(zero_copy_only=False)[order]
                clips.append(Clip(sensor, envelope(time[inside], values[inside], _SPANS)))
        result.append(tuple(clips))
    return result
