"""Parquet bytes of many small windows at once.

Arrow spends some 30 us a column on any file, over a millisecond for forty columns, however few rows there are. Windows
with the same columns and as many rows differ only in their values and their footer, so Arrow writes one of them, and its
bytes serve as a form into which the values of all others are laid. The result is what Arrow itself would have written.
"""

import struct
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion.tidy import TidiedMany

MAX_ROWS = 32
_KEY = "fedplant"
_PLACEHOLDER = "\x01" * 300
_FORMS = 256
_WIDTH = {pa.int64(): 8, pa.int16(): 4, pa.float64(): 8}


def encode(rows: pa.Table, footer: str, small: bool) -> bytes:
    """One table as a Parquet file with `footer` under the key `fedplant`; small ones plain, others compressed."""
    sink = pa.BufferOutputStream()
    # store_schema=False would also drop the table's own metadata: the footer is added by the writer.
    with pq.ParquetWriter(
        sink,
        rows.schema,
        compression="none" if small else "snappy",
        use_dictionary=False if small else ["asset"],
        write_statistics=not small,
        store_schema=False,
    ) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({_KEY: footer})
    return sink.getvalue().to_pybytes()


@dataclass(frozen=True)
class Shape:
    """What decides a small file's layout: sensors, row count, base columns that are all null, UTF-8 lengths of the assets."""

    sensors: tuple[str, ...]
    rows: int
    silent: tuple[str, ...]
    lengths: tuple[int, ...]


class Forms:
    """Files of known shapes; the least recently used are forgotten."""

    def __init__(self) -> None:
        self._known: OrderedDict[Shape, _Form] = OrderedDict()

    def fill(self, shape: Shape, rows: pa.Table, footers: list[str]) -> list[bytes]:
        """Files of windows that lie behind each other in `rows`, `shape.rows` rows each."""
        form = self._known.get(shape)
        if form is None:
            form = self._known[shape] = _Form(shape, rows.slice(0, shape.rows))
            if len(self._known) > _FORMS:
                self._known.popitem(last=False)
        self._known.move_to_end(shape)
        return form.fill(rows, footers)


def files_of(windows: TidiedMany, footers: list[str], forms: Forms) -> list[bytes]:
    """The files of all windows, in order."""
    out: list[bytes] = [b""] * len(footers)
    alike: dict[Shape, tuple[list[str], list[int]]] = {}
    lengths = pc.binary_length(windows.rows.column("asset")).to_numpy()
    for i in range(len(footers)):
        begin, end = windows.bounds[i], windows.bounds[i + 1]
        if end - begin > MAX_ROWS or windows.gappy[i]:
            rows = windows.rows.slice(begin, end - begin).select(windows.schema_names(i))
            out[i] = encode(rows, footers[i], small=end - begin <= MAX_ROWS)
            continue
        shape = Shape(windows.sensors[i], end - begin, windows.silent[i], tuple(lengths[begin:end].tolist()))
        alike.setdefault(shape, (windows.schema_names(i), []))[1].append(i)
    for shape, (names, members) in alike.items():
        first = np.array([windows.bounds[i] for i in members])
        chosen = (first[:, None] + np.arange(shape.rows)).reshape(-1)
        rows = windows.rows.select(names)
        if len(members) < len(footers):
            rows = rows.take(pa.array(chosen))
        contents = forms.fill(shape, rows, [footers[i] for i in members])
        for i, content in zip(members, contents, strict=True):
            out[i] = content
    return out


class _Form:
    def __init__(self, shape: Shape, sample: pa.Table) -> None:
        self._shape = shape
        written = encode(sample, _PLACEHOLDER, small=True)
        length = struct.unpack("<I", written[-8:-4])[0]
        self._body = np.frombuffer(written, dtype=np.uint8)[: len(written) - 8 - length]
        tail = written[-8 - length : -8]
        mark = _sized(_PLACEHOLDER.encode())
        at = tail.index(mark)
        self._before, self._after = tail[:at], tail[at + len(mark) :]
        group = pq.ParquetFile(pa.BufferReader(written)).metadata.row_group(0)
        self._holes: list[tuple[str, int, int]] = []
        for i, field in enumerate(sample.schema):
            if field.name in shape.silent:
                continue
            size = shape.rows * _WIDTH.get(field.type, 8)
            if field.type == pa.string():
                size = sum(shape.lengths) + 4 * shape.rows
            chunk = group.column(i)
            end = chunk.data_page_offset + chunk.total_compressed_size
            self._holes.append((field.name, end - size, size))

    def fill(self, rows: pa.Table, footers: list[str]) -> list[bytes]:
        """See `Forms.fill`."""
        count = len(footers)
        body = np.empty((count, len(self._body)), dtype=np.uint8)
        body[:] = self._body
        for name, at, size in self._holes:
            body[:, at : at + size] = _plain(rows.column(name)).reshape(count, size)
        return [
            row.tobytes() + _ending(self._before + _sized(footer.encode()) + self._after)
            for row, footer in zip(body, footers, strict=True)
        ]


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    """Parquet's PLAIN encoding of a column without nulls."""
    if column.type == pa.string():
        texts = [value.encode() for value in column.to_pylist()]
        return np.frombuffer(b"".join(len(t).to_bytes(4, "little") + t for t in texts), dtype=np.uint8)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values = column.to_numpy()
    if column.type == pa.int16():
        values = values.astype("<i4")
    return np.ascontiguousarray(values).view(np.uint8)


def _sized(text: bytes) -> bytes:
    size, prefix = len(text), b""
    while size > 127:
        prefix += bytes((size & 127 | 128,))
        size >>= 7
    return prefix + bytes((size,)) + text


def _ending(tail: bytes) -> bytes:
    return tail + struct.pack("<I", len(tail)) + b"PAR1"
