"""The times of a site file: instants, ISO 8601 or another form with or without an offset, seconds since 1970, days of a spreadsheet."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from ingestion.errors import InputDataError
from ingestion.layout import Layout
from ingestion.timeforms import time_forms

EARLIEST, LATEST = pd.Timestamp("1990-01-01", tz="UTC"), pd.Timestamp("2100-01-01", tz="UTC")
"""Times outside are of a wrong clock or unit."""
_MOSTLY = 0.5
_DAY_ZERO = pd.Timestamp("1899-12-30")
"""What spreadsheets count days from."""
_DAYS = [(moment.tz_localize(None) - _DAY_ZERO).days for moment in (EARLIEST, LATEST)]
_DIGITS = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 8: "%Y%m%d"}
"""Dates written without marks, by their length: numbers that are no instant of this age in any unit."""


def read_times(path: Path, column: pa.ChunkedArray, layout: Layout, notes: list[str]) -> pd.Series:
    """datetime64[ns, UTC] of a column of times, text or numbers, NaT where a cell is none; what was tolerated is added to `notes`.

    Raises:
        InputDataError: most of them are of a form that is not known or not the one named; a usual one is told.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = pd.to_datetime(
            column.cast(pa.timestamp(kind.unit if pa.types.is_timestamp(kind) else "s")).to_pandas()
        )
        known = pa.types.is_timestamp(kind) and kind.tz is not None
        parsed = _in_utc(pd.Series(times), "UTC" if known else layout.time_zone, notes)
    else:
        if pa.types.is_dictionary(kind):
            column = column.cast(pa.string())
        raw = pd.Series(column.to_pandas())
        numbers = _numbers(raw) if layout.time_format is None else pd.Series(dtype=float)
        if numbers.notna().any() and numbers.notna().sum() >= raw.notna().sum() / 2:
            parsed = _from_numbers(path, numbers, layout, notes)
        else:
            parsed = _from_text(path, raw, layout, notes)
    lost = int(parsed.isna().sum())
    if lost:
        notes.append(f"{lost} rows without a usable timestamp were left out")
    return parsed


def _from_text(path: Path, raw: pd.Series, layout: Layout, notes: list[str]) -> pd.Series:
    """UTC instants of text; each row may carry an offset of its own, or none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        form = layout.time_format or "ISO8601"
        if layout.time_zone == "UTC":
            instants = pd.to_datetime(raw, utc=True, format=form, errors="coerce").astype(
                "datetime64[ns, UTC]"
            )
            _refuse_other_form(path, raw, instants.isna(), layout)
            return instants
        text = cast(Any, raw).astype(str).str.strip()
        carries = text.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$", na=False) & text.str.contains(":")
        offset = pd.to_datetime(raw.where(carries), utc=True, format=form, errors="coerce")
        local = pd.to_datetime(raw.where(~carries), format=form, errors="coerce")
    _refuse_other_form(path, raw, offset.isna() & local.isna(), layout)
    return offset.astype("datetime64[ns, UTC]").fillna(_in_utc(local, layout.time_zone, notes))


def _refuse_other_form(path: Path, raw: pd.Series, unread: pd.Series, layout: Layout) -> None:
    """Most times that are there cannot be read: they are written in another form, which is told if it is a usual one."""
    wrong = unread & raw.notna()
    if wrong.sum() <= _MOSTLY * raw.notna().sum():
        return
    form = f"not as {layout.time_format}" if layout.time_format else "neither ISO 8601 nor an epoch number"
    fitting = time_forms(raw[wrong])
    if fitting:
        hint = f" (--time-format {' or '.join(map(repr, fitting))})"
    else:
        hint = " (--time-format)" if layout.time_format else " (such as --time-format '%d/%m/%Y %H:%M')"
    raise InputDataError(
        f"{path}: timestamp {str(raw[wrong].iloc[0])!r} is {form}; convert the column or describe it{hint}"
    )


def _in_utc(times: pd.Series, zone: str, notes: list[str]) -> pd.Series:
    """Naive local times as UTC; those of the hour that a clock repeats could be two instants and become NaT, as do those of one it skips."""
    naive = times.astype("datetime64[ns]")
    local = naive.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    lost = naive.notna() & local.isna()
    if lost.any():
        at = naive[lost].iloc[0]
        notes.append(
            f"{int(lost.sum())} rows lie in an hour that clocks in {zone} skip or repeat, the first at {at:%Y-%m-%d %H:%M}; if the "
            "logger's clock does not change, name its offset (--time-zone Etc/GMT-1 is UTC+1)"
        )
    return local.dt.tz_convert("UTC").astype("datetime64[ns, UTC]")


def _numbers(raw: pd.Series) -> pd.Series:
    """Times as numbers, NaN where they are none; a decimal comma is one of days or seconds with a fraction."""
    if raw.dtype == object:
        text = cast(Any, raw).astype(str).str.strip()
        raw = raw.where(~text.str.fullmatch(r"\d+,\d+"), text.str.replace(",", ".", regex=False))
    return pd.to_numeric(raw, errors="coerce")


def _from_numbers(path: Path, numbers: pd.Series, layout: Layout, notes: list[str]) -> pd.Series:
    """UTC instants of seconds, ms, us or ns since 1970, told by their size, or of the days that spreadsheets count."""
    known = numbers[numbers.notna()]
    if ((known >= _DAYS[0]) & (known < _DAYS[1])).all():
        days = (_DAY_ZERO + pd.to_timedelta(numbers, unit="D")).dt.round("ms")
        notes.append(f"times are days of a spreadsheet: {known.iloc[0]:g} is read as {days[known.index[0]]}")
        return _in_utc(days, layout.time_zone, notes)
    found = _epochs(numbers)
    if not found.between(EARLIEST, LATEST, inclusive="left").sum() > _MOSTLY * len(known):
        whole = known[np.isfinite(known)].astype("int64").astype(str)
        form = _DIGITS.get(len(whole.iloc[0])) if len(whole) else None
        dates = pd.to_datetime(whole, format=form, errors="coerce", utc=True) if form else whole.iloc[:0]
        if form and whole.str.len().eq(len(whole.iloc[0])).all() and dates.between(EARLIEST, LATEST).all():
            raise InputDataError(
                f"{path}: timestamp {whole.iloc[0]!r} looks like a date without marks and no epoch number; describe it (--time-format {form!r})"
            )
    return found


def _epochs(numbers: pd.Series) -> pd.Series:
    size = float(numbers.abs().median())
    unit: Literal["s", "ms", "us", "ns"] = (
        "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"
    )
    if numbers.dtype.kind == "i":
        return pd.to_datetime(numbers, unit=unit, utc=True, errors="coerce").astype("datetime64[ns, UTC]")
    finite = numbers.where(np.isfinite(numbers))
    found = pd.to_datetime(finite, unit=unit, utc=True, errors="coerce").astype("datetime64[ns, UTC]")
    # What a float of this size holds beyond is noise, a quarter of a microsecond of it.
    return found.dt.round("us")
