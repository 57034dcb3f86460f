"""What a replay sends, and when: one site's rows as messages, and the pieces of all sites in event-time order. No Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import orjson
import pandas as pd

from ingestion.sitefile import SiteFile

GOOD_QUALITY = 192
_CHUNK = 1024


@dataclass(frozen=True)
class Plan:
    """One site's rows to send: times int64[N] ms, codes int32[N] into assets, seq int64[N], values float64[N, F]."""

    site: str
    topic: str
    sensors: tuple[str, ...]
    assets: tuple[str, ...]
    codes: np.ndarray
    times: np.ndarray
    seq: np.ndarray
    values: np.ndarray

    @staticmethod
    def of(file: SiteFile, topic: str, start: datetime | None, end: datetime | None) -> Plan:
        """The rows with event time in `[start, end)`, UTC when naive."""
        frame = file.frame
        codes, assets = pd.factorize(frame["asset"])
        stamps = frame["timestamp"]
        low = 0 if start is None else stamps.searchsorted(_utc(start), side="left")
        high = len(frame) if end is None else stamps.searchsorted(_utc(end), side="left")
        rows = slice(int(low), max(int(low), int(high)))
        seq = frame.groupby("asset", sort=False).cumcount().to_numpy()
        return Plan(
            file.site,
            topic,
            file.sensors,
            tuple(str(asset) for asset in assets),
            codes[rows],
            stamps.to_numpy(dtype="datetime64[ms]").astype(np.int64)[rows],
            seq[rows],
            frame[list(file.sensors)].to_numpy(dtype=np.float64)[rows],
        )

    def messages(self, first: int, last: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, payload and event time (ms) of rows [first, last)."""
        keys = [asset.encode() for asset in self.assets]
        dumps, sensors, assets = orjson.dumps, self.sensors, self.assets
        columns = zip(
            self.codes[first:last].tolist(),
            self.times[first:last].tolist(),
            self.seq[first:last].tolist(),
            self.values[first:last].tolist(),
            strict=True,
        )
        for code, ts, seq, row in columns:
            # orjson writes NaN as null, which is how gateways say that a sensor gave nothing.
            reading = {
                "asset": assets[code],
                "ts": ts,
                "values": dict(zip(sensors, row, strict=True)),
                "quality": GOOD_QUALITY,
                "seq": seq,
            }
            yield keys[code], dumps(reading), ts


def _utc(moment: datetime) -> pd.Timestamp:
    return pd.Timestamp(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc))


def schedule(plans: Sequence[Plan], speed: float | None) -> Iterator[tuple[Plan, int, int]]:
    """Pieces (plan, first row, last row) in event-time order over all sites; with `speed`, each no earlier than it is due."""
    at = [0] * len(plans)
    origin = min((int(plan.times[0]) for plan in plans if len(plan.times)), default=0)
    began = time.monotonic()
    while True:
        ahead = [
            (int(plan.times[row]), index)
            for index, (plan, row) in enumerate(zip(plans, at, strict=True))
            if row < len(plan.times)
        ]
        if not ahead:
            return
        event_ms, index = min(ahead)
        plan, first = plans[index], at[index]
        last = min(first + _CHUNK, len(plan.times))
        if speed is not None:
            due = began + (event_ms - origin) / 1000 / speed
            time.sleep(max(0.0, due - time.monotonic()))
            reached = origin + (time.monotonic() - began) * 1000 * speed
            last = min(last, max(first + 1, int(np.searchsorted(plan.times, reached, side="right"))))
        yield plan, first, last
        at[index] = last
