"""Comma-, semicolon- or tab-separated exports of whatever locale as Arrow tables."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from ingestion.errors import InputDataError
from ingestion.layout import Layout

_MISSING = ["", "NaN", "nan", "NAN", "null", "NULL", "None", "NA", "N/A", "#N/A", "-"]
_NO_UTF8 = "cp1252"
_COMMA, _POINT = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?"), re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
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
    with path.open(encoding=encoding, errors="replace") as handle:
        header = handle.readline().strip()
        delimiter = max(";,\t", key=header.count)
        decimal = "." if delimiter == "," else _decimal(islice(handle, _SAMPLED), delimiter)
    options = pacsv.ConvertOptions(
        column_types={name: pa.string() for name in (layout.timestamp, layout.asset, layout.sensor) if name},
        null_values=_MISSING,
        strings_can_be_null=True,
        decimal_point=decimal,
        auto_dict_encode=False,
    )
    torn: list[pacsv.InvalidRow] = []

    def leave_out(row: pacsv.InvalidRow) -> str:
        torn.append(row)
        return "skip"

    table = pacsv.read_csv(
        path,
        read_options=pacsv.ReadOptions(encoding=encoding),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, invalid_row_handler=leave_out),
        convert_options=options,
    )
    # More cells than names are a value that holds the delimiter, which shifts what follows it; fewer, a line that was cut off.
    row = next((row for row in torn if row.actual_columns > row.expected_columns), None)
    if torn and (row or table.num_rows == 0 or len(torn) > max(1, _TORN * table.num_rows)):
        row = row or torn[0]
        raise InputDataError(
            f"{path}: {len(torn)} of {len(torn) + table.num_rows} rows have not the header's {row.expected_columns} cells, the first "
            f"{row.actual_columns}: {row.text[:80]!r}; quote cells that hold {delimiter!r}, or export again"
        )
    if torn:
        notes.append(f"{len(torn)} rows have fewer cells than the header; they were left out")
    return table.rename_columns([name.strip() for name in table.column_names])


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


def _decimal(lines: Iterable[str], delimiter: str) -> str:
    """The mark that most cells with a fraction have. The first cell is usually the time, whose fraction has a point in every locale."""
    cells = [cell.strip().strip('"') for line in lines for cell in line.split(delimiter)[1:]]
    commas, points = (sum(bool(form.fullmatch(cell)) for cell in cells) for form in (_COMMA, _POINT))
    return "," if commas > points else "."
