"""Scores onto disk as the report reads them: `scores/<site>.parquet`, and sensor values around alerts in `signals/`.

Rows are streamed as row groups into a hidden temporary file and published by one rename when closed, so a reader sees
either the whole file or none. Both the live scorer and the evaluation of a run write through this class.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.artefacts import Unwritable
from pipeline.scoring.alerts import top_contributions

SCORE_SCHEMA = pa.schema(
    [
        ("event_time", pa.timestamp("ns", "UTC")),
        ("asset", pa.string()),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("is_anomaly", pa.bool_()),
        ("top_sensors", pa.list_(pa.string())),
        ("top_contributions", pa.list_(pa.float64())),
        ("label", pa.int8()),
    ]
)
"""Columns of `scores/<site>.parquet`. The two `top_` lists are filled where `is_anomaly`, else null."""

_ROWS_PER_GROUP = 65_536
_MOST_SIGNAL_ROWS = 200_000
_FOREVER = np.iinfo(np.int64).max


class ScoreWriter:
    """Writes one site's scores; use as a context manager: leaving it normally publishes, an exception discards.

    Raises:
        Unwritable: the folder cannot be.
    """

    def __init__(
        self,
        run_dir: Path,
        site: str,
        sensors: Sequence[str],
        *,
        top: int = 5,
        context: int = 60,
        extend: bool = False,
    ) -> None:
        """`top` sensors are named per flagged step; `context` steps around flagged ones are kept with values.

        With `extend` rows of earlier files stay, but for each machine's from its first new step on.
        """
        self._sensors, self._top, self._context = tuple(sensors), top, context
        self.path = run_dir / "scores" / f"{site}.parquet"
        self._signal_path = run_dir / "signals" / f"{site}.parquet"
        self._signal_schema = pa.schema(
            [
                ("event_time", pa.timestamp("ns", "UTC")),
                ("asset", pa.string()),
                *((name, pa.float32()) for name in self._sensors),
            ]
        )
        self._tails: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        self._after: dict[str, int] = {}
        self._signal_rows = 0
        self._begin(extend)

    def _begin(self, extend: bool) -> None:
        """Hidden files for what comes next."""
        self._first: dict[str, int] | None = {} if extend else None
        self._scores = _Staged(self.path, SCORE_SCHEMA)
        self._signals = _Staged(self._signal_path, self._signal_schema)
        self.rows = 0

    def write(
        self,
        asset: str,
        time_ns: NDArray[np.int64],
        score: NDArray[np.float64],
        threshold: NDArray[np.float64],
        contribution: NDArray[Any],
        values: NDArray[Any],
        label: NDArray[Any] | None = None,
    ) -> None:
        """Append steps of one asset in order of time; steps whose score is NaN (warm-up) are kept as null scores.

        Shapes: `time_ns` int64[N] UTC, `score` and `threshold` float[N], `contribution` and `values` float[N, F] (values in raw
        units), `label` 0/1 [N], negative where it is not known, or None.
        """
        count = len(time_ns)
        if count == 0:
            return
        if self._first is not None:
            self._first.setdefault(asset, int(time_ns[0]))
        score = np.asarray(score, np.float64)
        with np.errstate(invalid="ignore"):
            flagged = score > threshold
        names: list[list[str] | None] = [None] * count
        parts: list[list[float] | None] = [None] * count
        for i in np.flatnonzero(flagged):
            found = top_contributions(contribution[i], values[i], self._sensors, self._top)
            names[i] = [c.sensor for c in found]
            parts[i] = [c.contribution for c in found]
        columns = [
            pa.array(time_ns, pa.int64()).cast(pa.timestamp("ns", "UTC")),
            pa.array([asset] * count, pa.string()),
            pa.array(score, pa.float64(), from_pandas=True),
            pa.array(threshold, pa.float64(), from_pandas=True),
            pa.array(flagged, pa.bool_()),
            pa.array(names, pa.list_(pa.string())),
            pa.array(parts, pa.list_(pa.float64())),
            pa.nulls(count, pa.int8()) if label is None else pa.array(label, pa.int8(), mask=~(label >= 0)),
        ]
        self._scores.add(pa.Table.from_arrays(columns, schema=SCORE_SCHEMA))
        self.rows += count
        if self._signal_rows < _MOST_SIGNAL_ROWS:
            self._keep_signals(asset, np.asarray(time_ns, np.int64), np.asarray(values), flagged)

    def _keep_signals(
        self, asset: str, time_ns: NDArray[np.int64], values: NDArray[Any], flagged: NDArray[np.bool_]
    ) -> None:
        """Append rows within `context` steps of a flagged one; rows that may still turn out to be near are held."""
        held = self._tails.get(asset)
        if held is not None:
            time_ns = np.concatenate([held[0], time_ns])
            values = np.concatenate([held[1], values])
            flagged = np.concatenate([np.zeros(len(held[0]), bool), flagged])
        count, reach = len(time_ns), self._context
        near = np.zeros(count, bool)
        near[: self._after.get(asset, 0)] = True
        edges = np.zeros(count + 1, np.int64)
        for i in np.flatnonzero(flagged):
            edges[max(0, i - reach)] += 1
            edges[min(count, i + reach + 1)] -= 1
        near |= np.cumsum(edges[:-1]) > 0
        index = np.flatnonzero(flagged)
        carry = max(0, int(index[-1]) + reach + 1 - count) if index.size else 0
        self._after[asset] = max(carry, self._after.get(asset, 0) - count)
        self._append_signals(asset, time_ns[near], values[near])
        tail = np.flatnonzero(~near)
        tail = tail[tail >= count - reach]
        if near.any():
            tail = tail[tail > np.flatnonzero(near)[-1]]
        self._tails[asset] = (time_ns[tail], values[tail])

    def _append_signals(self, asset: str, time_ns: NDArray[np.int64], values: NDArray[Any]) -> None:
        if len(time_ns) == 0:
            return
        columns = [
            pa.array(time_ns, pa.int64()).cast(pa.timestamp("ns", "UTC")),
            pa.array([asset] * len(time_ns), pa.string()),
        ]
        floats = values.astype(np.float32)
        columns += [pa.array(floats[:, j], pa.float32(), from_pandas=True) for j in range(len(self._sensors))]
        self._signals.add(pa.Table.from_arrays(columns, schema=self._signal_schema))
        self._signal_rows += len(time_ns)

    def publish(self) -> None:
        """Let readers see what was written so far, and go on behind it."""
        if self.rows:
            self.close()
            self._begin(extend=True)

    def close(self) -> None:
        """Publish both files; when extending, earlier files stay untouched if nothing was added."""
        if self._first is not None and not self.rows and self.path.exists():
            self.discard()
            return
        self._signals.publish(self._first)
        self._scores.publish(self._first)

    def discard(self) -> None:
        """Remove what was written."""
        self._signals.discard()
        self._scores.discard()

    def __enter__(self) -> "ScoreWriter":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish, or discard after an exception."""
        if kind is None:
            self.close()
        else:
            self.discard()


class _Staged:
    """A Parquet file that grows under a hidden name and appears under its own at the end."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema, self.rows = schema, 0
        self._path = path
        self._hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._hidden, schema, compression="zstd")
        except OSError as error:
            raise Unwritable.by(path, error) from error

    def add(self, table: pa.Table) -> None:
        self._pending.append(table)
        self._pending_rows += table.num_rows
        self.rows += table.num_rows
        if self._pending_rows >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            try:
                self._writer.write_table(pa.concat_tables(self._pending))
            except OSError as error:
                self.discard()
                raise Unwritable.by(self._path, error) from error
            self._pending, self._pending_rows = [], 0

    def publish(self, first_new: Mapping[str, int] | None) -> None:
        """Appear under the own name; with `first_new` (asset -> ns) after the rows of the file that is there."""
        self._flush()
        try:
            self._writer.close()
            if first_new is not None and self._path.exists():
                self._put_behind(first_new)
            with self._hidden.open("rb") as file:
                os.fsync(file.fileno())
            self._hidden.replace(self._path)
        except OSError as error:
            self.discard()
            raise Unwritable.by(self._path, error) from error

    def _put_behind(self, first_new: Mapping[str, int]) -> None:
        """Rewrite the hidden file with the earlier file's older rows in front; columns must be the same."""
        earlier = pq.ParquetFile(self._path)
        if not earlier.schema_arrow.equals(self.schema):
            return
        joined = self._hidden.with_suffix(".join")
        try:
            with pq.ParquetWriter(joined, self.schema, compression="zstd") as writer:
                for batch in earlier.iter_batches(batch_size=_ROWS_PER_GROUP):
                    limits = [first_new.get(asset, _FOREVER) for asset in batch["asset"].to_pylist()]
                    older = pc.less(batch["event_time"].cast(pa.int64()), pa.array(limits, pa.int64()))
                    writer.write_batch(batch.filter(older))
                for batch in pq.ParquetFile(self._hidden).iter_batches(batch_size=_ROWS_PER_GROUP):
                    writer.write_batch(batch)
            joined.replace(self._hidden)
        finally:
            joined.unlink(missing_ok=True)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()
        with contextlib.suppress(OSError):
            self._hidden.unlink(missing_ok=True)
