import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.records import EVENT_TIME, readings_schema
from ingestion.smallfile import Forms, encode, files_of
from ingestion.tidy import tidy, tidy_many

reading = st.tuples(
    st.integers(0, 59),
    st.sampled_from(["a", "pump-7", "köln"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, 192]),
    st.sampled_from([None, 0.5, -1e300]),
    st.sampled_from([None, 7.25]),
)
windows = st.lists(st.lists(reading, min_size=1, max_size=40), min_size=1, max_size=8)
columns = ["offset", "event_time", "asset", "seq", "quality", "flow", "heat"]


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    """Rows of (offset, second, asset, seq, quality, flow, heat)."""
    schema = readings_schema(columns)
    arrays = [
        pa.array(np.array(values) * 10**9, pa.int64()).cast(EVENT_TIME)
        if name == "event_time"
        else pa.array(values, schema.field(name).type)
        for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


@settings(max_examples=150)
@given(windows)
def test_many_windows_at_once_give_the_bytes_of_each_window_written_alone_by_arrow(found):
    rows, offset = [], 0
    for start, window in enumerate(found):
        for second, *values in window:
            rows.append((offset, start * 60 + second, *values))
            offset += 1
    counts = np.array([len(window) for window in found])
    whole = table(rows)
    many = tidy_many(whole, counts)
    footers = [f'{{"window":{i}}}' * (1 + 20 * (i % 2)) for i in range(len(found))]
    contents = files_of(many, footers, Forms())

    begin = 0
    for i, size in enumerate(counts.tolist()):
        alone = tidy(whole.slice(begin, size))
        begin += size
        assert many.duplicate_rows[i] == alone.duplicate_rows
        assert many.duplicate_ranges[i] == alone.duplicate_ranges
        assert contents[i] == encode(alone.rows.combine_chunks(), footers[i], alone.rows.num_rows <= 32)
        file = pq.ParquetFile(pa.BufferReader(contents[i]))
        assert file.metadata.metadata[b"fedplant"].decode() == footers[i]
        assert file.read().replace_schema_metadata().equals(alone.rows)
