import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ingestion.records import BASE_FIELDS
from ingestion.tidy import tidy

READINGS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.integers(0, 1),
        st.sampled_from([None, None, 1]),
        st.sampled_from([None, 192]),
        st.sampled_from([None, 0.0, -0.0, 1.5]),
        st.sampled_from([None, 2.5]),
    ),
    max_size=14,
)


def table(readings) -> pa.Table:
    columns = list(zip(*readings, strict=True)) or [()] * 6
    asset, time, seq, quality, one, two = ([*column] for column in columns)
    arrays = [range(len(readings)), time, asset, seq, quality, one, two]
    schema = pa.schema([*BASE_FIELDS, pa.field("x", pa.float64()), pa.field("y", pa.float64())])
    return pa.table([pa.array(a, f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema)


@given(READINGS, st.integers(0, 14))
def test_the_first_of_each_reading_is_kept_as_a_plain_loop_would(readings, known: int) -> None:
    seen: set[tuple[object, ...]] = set()
    kept = []
    for at, (asset, time, seq, quality, one, two) in enumerate(readings):
        alike = (seq, one is None, two is None) if seq is not None else (quality, one, two)
        key = (asset, time, *alike)
        if key not in seen and at >= known:
            kept.append((time, at))
        seen.add(key)
    rows = table(readings)
    found = tidy(rows.slice(known), rows.slice(0, known)) if known else tidy(rows)
    assert found.rows.column("offset").to_pylist() == [at for _, at in sorted(kept)]
    assert found.duplicate_rows == max(0, len(readings) - known) - len(kept)
