"""Comma-, semicolon- or tab-separated exports of whatever locale as Arrow tables."""

from __future__ import annotations

import codecs
import csv
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from ingestion.errors import InputDataError
from ingestion.layout import Layout
from ingestion.numerals import LOCAL, as_plain, decimal_mark

_MISSING = ["", "NaN", "nan", "NAN", "null", "NULL", "None", "NA", "N/A", "#N/A", "-"]
_NO_UTF8 = "cp1252"
_DELIMITERS = ";,\t|"
_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)
"""A first line that tells a spreadsheet the delimiter."""
_HEADER_WITHIN = 100
"""Lines in which a header is looked for, if the first is none: what precedes it is a report's title, server, time span."""
_SAMPLED = 1000
"""Rows that tell the decimal mark: the first ones may hold nothing but whole numbers."""
_START = 1 << 10
"""Bytes that tell a binary file; later ones may be zero in text too, where a logger lost its power while it wrote."""
_TORN = 0.01
"""A larger share of rows without the header's number of cells is another kind of file, not an export that was cut off."""


def read_csv(path: Path, layout: Layout, notes: list[str]) -> pa.Table:
    """The rows of a CSV; what was tolerated is added to `notes`. Raises InputDataError, OSError, ValueError, ArrowException."""
    encoding = _encoding(path)
    _refuse_binary(path, encoding)
    if encoding == _NO_UTF8:
        notes.append("not UTF-8; read as Windows-1252")
    start = _start(path, encoding, layout)
    special = [name for name in (layout.timestamp, layout.asset, layout.sensor) if name]
    options = pacsv.ConvertOptions(
        column_types={name: pa.string() for name in special},
        null_values=_MISSING,
        strings_can_be_null=True,
        decimal_point=start.decimal,
        auto_dict_encode=False,
    )
    torn: list[pacsv.InvalidRow] = []

    def leave_out(row: pacsv.InvalidRow) -> str:
        torn.append(row)
        return "skip"

    table = pacsv.read_csv(
        path,
        read_options=pacsv.ReadOptions(encoding=encoding, skip_rows=start.skipped),
        parse_options=pacsv.ParseOptions(delimiter=start.delimiter, invalid_row_handler=leave_out),
        convert_options=options,
    )
    # More cells than names are a value that holds the delimiter, which shifts what follows it; fewer, a line that was cut off.
    row = next((row for row in torn if row.actual_columns > row.expected_columns), None)
    if torn and (row or table.num_rows == 0 or len(torn) > max(1, _TORN * table.num_rows)):
        row = row or torn[0]
        raise InputDataError(
            f"{path}: {len(torn)} of {len(torn) + table.num_rows} rows have not the header's {row.expected_columns} cells, the first "
            f"{row.actual_columns}: {row.text[:80]!r}; quote cells that hold {start.delimiter!r}, or export again"
        )
    if torn:
        notes.append(f"{len(torn)} rows have fewer cells than the header; they were left out")
    # Headers of spreadsheets have line ends within a name.
    table = table.rename_columns(
        [re.sub(r"\s*[\r\n\t]+\s*", " ", name.strip()) for name in table.column_names]
    )
    return _with_plain_numbers(table, start.decimal, special, notes)


@dataclass(frozen=True)
class _Start:
    """How a file begins: lines before its header, and what stands between cells and before a fraction."""

    skipped: int
    delimiter: str
    decimal: str


def _start(path: Path, encoding: str, layout: Layout) -> _Start:
    with path.open(encoding=encoding, errors="replace") as handle:
        lines = list(islice(handle, _SAMPLED + 2))
    skipped = next((at for at, line in enumerate(lines) if line.strip("\r\n\ufeff ")), 0)
    told = _SEPARATOR.fullmatch(lines[skipped].strip().lstrip("\ufeff"))
    skipped += bool(told)
    header = lines[skipped].strip() if skipped < len(lines) else ""
    delimiter = told[1] if told else max(_DELIMITERS, key=header.count)
    if layout.timestamp not in _names(header, delimiter):
        for number, line in enumerate(lines[:_HEADER_WITHIN], 1):
            if any(layout.timestamp in _names(line, mark) for mark in _DELIMITERS):
                raise InputDataError(
                    f"{path}: the column {layout.timestamp!r} is named in line {number}; remove the {number - 1} lines above it"
                )
    # The first cell is usually the time, whose fraction has a point in every locale.
    # Between commas a cell that holds one is quoted.
    telling = (line for line in lines[skipped + 1 :] if delimiter != "," or '"' in line)
    cells = (cell for line in telling for cell in _cells(line, delimiter)[1:])
    return _Start(skipped, delimiter, decimal_mark(cells, "."))


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.replace("\0", "")], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def _names(header: str, delimiter: str) -> list[str]:
    return [name.strip().strip('"').strip() for name in header.strip("\ufeff").split(delimiter)]


def _with_plain_numbers(table: pa.Table, decimal: str, special: list[str], notes: list[str]) -> pa.Table:
    """The table with numbers in columns that hold other text, or thousands apart, as a point and digits: Arrow reads such a column as text."""
    apart = {}
    for at, (name, kind) in enumerate(zip(table.column_names, table.schema.types, strict=True)):
        if name in special or not pa.types.is_string(kind):
            continue
        if not pc.any(pc.match_substring_regex(table.column(at), LOCAL)).as_py():
            continue
        written = pd.Series(table.column(at).to_pandas(), dtype=object)
        cells, first = as_plain(written, decimal)
        table = table.set_column(at, name, pa.array(cells, pa.string(), from_pandas=True))
        if first is not None:
            apart[name] = first, cells[written.str.strip() == first].iloc[0]
    if apart:
        name, (first, number) = next(iter(apart.items()))
        what = f"column {name!r}" if len(apart) == 1 else f"{len(apart)} columns ({name!r} the first)"
        notes.append(f"{what}: thousands are set apart; {first!r} is read as {number}")
    return table


def _encoding(path: Path) -> str:
    with path.open("rb") as handle:
        start = handle.read(2)
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        handle.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        try:
            while chunk := handle.read(1 << 20):
                decoder.decode(chunk)
        except UnicodeDecodeError:
            return _NO_UTF8
    return "utf-8"


def _refuse_binary(path: Path, encoding: str) -> None:
    """Archives, workbooks and programs under the name of a CSV, and text in an encoding that nothing here reads."""
    with path.open("rb") as handle:
        if encoding != "utf-16" and b"\0" in handle.read(_START):
            raise InputDataError(
                f"{path}: is not text (a workbook, an archive, or UTF-16 without a byte order mark?); export it as CSV in UTF-8, or as Parquet"
            )
        if encoding != _NO_UTF8:
            return
        handle.seek(0)
        for number, line in enumerate(handle, 1):
            try:
                line.decode(_NO_UTF8)
            except UnicodeDecodeError as error:
                raise InputDataError(
                    f"{path}: byte 0x{line[error.start]:02x} in line {number} is neither UTF-8 nor Windows-1252; export it in UTF-8"
                ) from None
