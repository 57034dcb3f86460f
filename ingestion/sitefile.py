"""Site files: one Parquet or CSV per plant, as a historian exports them. The file's stem is the site id.

Column `timestamp`, optional `asset`, optional `label` (0/1, empty where unknown), every other numeric column a sensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.csvexport import read_csv
from ingestion.errors import InputDataError
from ingestion.filetimes import EARLIEST, LATEST, read_times
from ingestion.labels import read_labels
from ingestion.layout import USUAL, Layout
from ingestion.longform import Readings, one_row_a_time
from ingestion.quality import poor_rows
from ingestion.records import RESERVED
from ingestion.settings import check_name
from ingestion.strays import without_strays
from ingestion.tolerated import Tolerated

_SUFFIXES = (".parquet", ".csv")
_OTHER_FORMS = re.compile(
    r"\.(7z|arrow|avro|bz2|dat|feather|gz|h5|hdf5|json|jsonl|mat|ndjson|ods|orc|parq|pq|rar|tab|tar|tgz|tsv|txt|xls|xlsb|xlsm|xlsx|xz|zip|zst)",
    re.IGNORECASE,
)
"""Endings of files that hold readings in a form that is not read; others, as a README, are nobody's readings."""
_SPECIAL = ("timestamp", "asset", "label")
_MOSTLY = 0.5
_ROW_NUMBERS = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class SiteFile:
    """One site's recorded readings.

    `frame`: `timestamp` datetime64[ns, UTC] ascending, `asset` str, then `sensors` as float64 (NaN where missing, never infinite); no
    (timestamp, asset) twice. `labels`: Int8 of the same index, <NA> where unknown, or None. `notes`: what was tolerated, one line each.
    """

    site: str
    frame: pd.DataFrame
    sensors: tuple[str, ...]
    labels: pd.Series | None
    notes: tuple[str, ...]


def read_site_dir(folder: Path | str, layout: Layout = USUAL) -> dict[str, SiteFile]:
    """Read every `.parquet` and `.csv` of a folder, by site id in name order; `layout` as in `read_site_file`.

    Raises:
        InputDataError: no such folder, no site file in it, two files of one site, any file unusable, or no file with a row.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputDataError(
            f"{folder} is not a folder; name the folder with one Parquet or CSV file per site"
        )
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in paths:
            raise InputDataError(
                f"{folder}: site {path.stem} has two files, {paths[path.stem].name} and {path.name}; keep one"
            )
        paths[path.stem] = path
    if not paths:
        others = unread(folder)
        what = (
            f"only {', '.join(others[:5])}; unpack or export them as such"
            if others
            else "expected one per site"
        )
        raise InputDataError(f"{folder} holds no .parquet or .csv file; {what}")
    files = {site: read_site_file(paths[site], layout) for site in sorted(paths)}
    if all(file.frame.empty for file in files.values()):
        raise InputDataError(f"{folder}: no file holds a row; expected at least one reading")
    return files


def unread(folder: Path | str) -> list[str]:
    """Names of a folder's files that look like readings and are passed over: packed ones, workbooks, other forms; sorted."""
    found = (path for path in Path(folder).iterdir() if not path.name.startswith(".") and path.is_file())
    return sorted(path.name for path in found if _OTHER_FORMS.fullmatch(path.suffix))


def read_site_file(path: Path | str, layout: Layout = USUAL) -> SiteFile:
    """Read one site file; `layout` says what it calls time, machine and label.

    Times without an offset are in the layout's zone; numbers are seconds, ms, us or ns since 1970 by their magnitude. CSV: comma or semicolon, decimal point or
    comma, with or without a byte order mark. A header without rows is a site that has not sent anything: an empty frame without sensors.

    Raises:
        InputDataError: missing or damaged file, or one without a header; no `timestamp`; unsafe site id; duplicate or reserved columns; no numeric sensor;
            labels other than 0 and 1 and the words for them.
    """
    path = Path(path)
    site = check_name("site", path.stem)
    notes: list[str] = []
    table = _with_usual_names(path, _read(path, layout, notes), layout)
    table = _without_nameless(table, notes)
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputDataError(f"{path}: column {twice[0]!r} occurs twice; give each sensor its own name")
    if "timestamp" not in names:
        raise InputDataError(
            f"{path}: no column `timestamp`; found {', '.join(names[:8]) or 'no columns'}; "
            "rename the one that holds the time, or name it (--time NAME)"
        )
    if layout.sensor is None:
        _refuse_reserved(path, (name for name in names if name not in (*_SPECIAL, layout.quality)))
    if table.num_rows == 0:
        return _without_rows(site)
    times, assets = read_times(path, table["timestamp"], layout, notes), _assets(table, site)
    labels = _labels(path, table["label"], notes) if "label" in names else None
    poor = _poor(path, table, layout, notes)
    if layout.sensor is not None and layout.value is not None:
        named = pd.Series(table[layout.sensor].cast(pa.string()).to_pandas(), dtype=object)
        values, text = _cells(table[layout.value])
        values[poor], text[poor] = np.nan, False
        odd = Tolerated()
        _without_infinite(layout.value, values, odd)
        notes += odd.remarks()
        try:
            frame, sensors = one_row_a_time(Readings(times, assets, named, values, text, labels), notes)
        except InputDataError as error:
            raise InputDataError(f"{path}: {error}") from None
        _refuse_reserved(path, sensors)
        return _in_order(site, frame, sensors, notes, path)
    odd = Tolerated()
    series = {
        name: column
        for name in names
        if name not in (*_SPECIAL, layout.quality)
        and (column := _numbers(name, table[name], poor, odd)) is not None
    }
    notes += odd.remarks()
    if not series:
        others = [f"{name!r} is mostly text" for name in list(odd.ignored)[:8]]
        raise InputDataError(
            f"{path}: no numeric sensor column: {', '.join(others) or 'no column besides ' + ', '.join(names)}; expected at least one"
        )
    frame = pd.DataFrame({"timestamp": times, "asset": assets, **series})
    if labels is not None:
        frame["label"] = labels
    return _in_order(site, frame, tuple(series), notes, path)


def _without_nameless(table: pa.Table, notes: list[str]) -> pa.Table:
    """The table without columns that nobody named: what stands behind a comma at the line's end, and the row numbers that pandas writes."""
    nameless = [at for at, name in enumerate(table.column_names) if not name or _ROW_NUMBERS.fullmatch(name)]
    for at in nameless:
        if table.column(at).null_count < table.num_rows:
            notes.append(f"column {at + 1} has no name; it was left out")
    return table.select([at for at in range(table.num_columns) if at not in nameless])


def _poor(path: Path, table: pa.Table, layout: Layout, notes: list[str]) -> np.ndarray:
    """bool[N], rows whose values are not to be trusted. A quality that is there and not asked about is told: ignored, it ruins a training."""
    if layout.quality is not None:
        try:
            return poor_rows(layout.quality, table[layout.quality], layout.min_quality, notes)
        except InputDataError as error:
            raise InputDataError(f"{path}: {error}") from None
    if layout.sensor is not None:
        others = set(table.column_names) - {*_SPECIAL, layout.sensor, layout.value}
        notes += [
            f"column {name!r} is not looked at; if it tells good readings from bad, name it (--quality {name})"
            for name in sorted(others)
            if "qual" in name.casefold() or name.casefold() == "status"
        ]
    return np.zeros(table.num_rows, np.bool_)


def _refuse_reserved(path: Path, sensors: Iterable[str]) -> None:
    taken = [name for name in sensors if name in (*RESERVED, *_SPECIAL)]
    if taken:
        instead = ", or say what it is (--quality quality)" if taken[0] == "quality" else ""
        raise InputDataError(f"{path}: the name {taken[0]!r} is reserved; rename that sensor{instead}")


def _without_rows(site: str) -> SiteFile:
    frame = pd.DataFrame(
        {"timestamp": pd.Series(dtype="datetime64[ns, UTC]"), "asset": pd.Series(dtype=object)}
    )
    return SiteFile(site, frame, (), None, ("no rows: this site takes no part",))


def _in_order(
    site: str, frame: pd.DataFrame, sensors: tuple[str, ...], notes: list[str], path: Path
) -> SiteFile:
    known = frame["timestamp"].notna()
    if not known.all():
        frame = frame[known]
    if not frame["timestamp"].is_monotonic_increasing:
        # One machine after the other is an order too.
        if not frame.groupby("asset", sort=False)["timestamp"].is_monotonic_increasing.all():
            notes.append("rows are not in time order; they were sorted")
        frame = frame.sort_values("timestamp", kind="stable")
    frame = _without_strays(frame, notes)
    again = frame.duplicated(["timestamp", "asset"])
    if again.mean() > _MOSTLY:
        raise InputDataError(
            f"{path}: {int(again.sum())} of {len(frame)} rows repeat the time of an earlier row of their asset; if a row is one reading, name its "
            "columns (--sensor, --value); if there are several machines, theirs (--asset); or export finer times"
        )
    if again.any():
        notes.append(
            f"{int(again.sum())} rows repeat the time of an earlier row of their asset; the first was kept"
        )
        frame = frame[~again]
    frame = frame.reset_index(drop=True)
    if frame.empty:
        raise InputDataError(
            f"{path}: no row has a usable timestamp; expected ISO 8601 text or an epoch number"
        )
    if len(frame) == 1:
        notes.append("only one row: nothing can be learned from it")
    labels = frame.pop("label") if "label" in frame else None
    return SiteFile(site, frame, sensors, labels, tuple(notes))


def _without_strays(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The rows in order without those that lie alone; one in 2093 would be the last reading, and stretch every picture over 67 years."""
    kept = without_strays(frame["timestamp"].to_numpy(dtype="datetime64[ns]").astype(np.int64))
    strays = pd.concat([frame["timestamp"].iloc[: kept.start], frame["timestamp"].iloc[kept.stop :]])
    frame = frame.iloc[kept]
    if len(strays):
        notes.append(
            f"{len(strays)} rows lie far from all others in time, the first at {strays.iloc[0]:%Y-%m-%d %H:%M} UTC: a wrong clock; they were left out"
        )
    odd = int(((frame["timestamp"] < EARLIEST) | (frame["timestamp"] >= LATEST)).sum())
    if odd:
        notes.append(f"{odd} rows lie before 1990 or after 2099: a wrong clock or unit of time")
    return frame


def _with_usual_names(path: Path, table: pa.Table, layout: Layout) -> pa.Table:
    """The table with its special columns renamed; each that was named must exist and must not take another's place."""
    names = table.column_names
    special = {"timestamp": layout.timestamp, "asset": layout.asset, "label": layout.label}
    for column in (layout.sensor, layout.value, layout.quality):
        if column is not None and column not in names:
            raise InputDataError(f"{path}: no column {column!r}; found {', '.join(names[:8])}")
    for usual, given in special.items():
        if given == usual:
            continue
        if given not in names:
            raise InputDataError(f"{path}: no column {given!r}; found {', '.join(names[:8])}")
        if usual in names:
            raise InputDataError(f"{path}: has {given!r} and also a column `{usual}`; rename or drop one")
        names = [usual if name == given else name for name in names]
    return table.rename_columns(names)


def _read(path: Path, layout: Layout, notes: list[str]) -> pa.Table:
    try:
        if path.stat().st_size == 0:
            raise InputDataError(f"{path}: the file is empty; expected a header and at least one row")
        if path.suffix.lower() == ".parquet":
            return pq.ParquetFile(path).read()
        if path.suffix.lower() == ".csv":
            return read_csv(path, layout, notes)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(getattr(error, "strerror", None) or error).splitlines()[0][:200]
        raise InputDataError(f"{path}: cannot be read as {path.suffix[1:]}: {reason}") from error
    raise InputDataError(f"{path}: expected a .parquet or .csv file")


def _assets(table: pa.Table, site: str) -> pd.Series:
    if "asset" not in table.column_names:
        return pd.Series([site] * table.num_rows, dtype=object)
    column = table["asset"]
    return pd.Series(column.cast(pa.string()).to_pandas()).fillna(site).replace("", site)


def _numbers(name: str, column: pa.ChunkedArray, poor: np.ndarray, odd: Tolerated) -> np.ndarray | None:
    """A sensor's column without the values of poor rows, None if it is not one."""
    values, text = _cells(column)
    values[poor], text[poor] = np.nan, False
    bad, said = int(text.sum()), int(text.sum() + (~np.isnan(values)).sum())
    if bad > said / 2:
        odd.ignored[name] = f"is not numeric ({column.type})"
        return None
    if bad:
        odd.text[name] = bad
    _without_infinite(name, values, odd)
    if np.isnan(values).all():
        odd.empty.append(name)
    return values


def _without_infinite(name: str, values: np.ndarray, odd: Tolerated) -> None:
    infinite = np.isinf(values)
    if infinite.any():
        odd.infinite[name] = int(infinite.sum())
        values[infinite] = np.nan


def _cells(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """float64[N], NaN where there is no number, and bool[N], where there is something else."""
    kind = column.type
    number = (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    )
    if number or pa.types.is_null(kind):
        # Not safe: a meter of 64 bits beyond 2^53 is the nearest float64.
        values = np.array(column.cast(pa.float64(), safe=False).to_pandas(), dtype=np.float64)
        return values, np.zeros(len(column), bool)
    raw = pd.Series(column.to_pandas())
    values = np.full(len(raw), np.nan)
    if raw.dtype == object and not pa.types.is_nested(kind) and not pa.types.is_temporal(kind):
        values = np.array(pd.to_numeric(raw, errors="coerce"), dtype=np.float64)
    return values, np.isnan(values) & raw.notna().to_numpy()


def _labels(path: Path, column: pa.ChunkedArray, notes: list[str]) -> pd.Series:
    try:
        return read_labels(column.to_pandas(), notes)
    except ValueError as error:
        raise InputDataError(f"{path}: {error}") from None
