"""Which rows of an export its quality column calls too poor: OPC qualities, status codes of OPC UA, or words. Pure."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ingestion.decode.messages import BAD, GOOD, UNCERTAIN
from ingestion.errors import InputDataError

_WORDS = {"good": GOOD, "uncertain": UNCERTAIN, "bad": BAD}
_SEVERITY = np.array([GOOD, UNCERTAIN, BAD, BAD], np.float64)
_UA = 1 << 30
"""OPC qualities are words of 16 bits; what is beyond is a status code of OPC UA, in whose two highest bits the severity lies."""


def poor_rows(name: str, column: pa.ChunkedArray, lowest: int, notes: list[str]) -> NDArray[np.bool_]:
    """bool[N], which rows are of an OPC quality (192 good, 64 uncertain, below 64 bad) under `lowest`; what is no quality says nothing.

    Of a word of OPC only the low byte counts, of a text its first word (`Good`, `Uncertain`, `Bad`). What was tolerated is added to `notes`.

    Raises:
      InputDataError: the column mostly holds something else, or calls every row too poor.
    """
    cells = pd.Series(column.to_pandas())
    codes, found = pd.factorize(cells)
    said = codes >= 0
    quality = np.append(_qualities(found), np.nan)[codes]
    unknown = said & np.isnan(quality)
    if unknown.sum() > said.sum() / 2:
        raise InputDataError(
            f"column {name!r} says {str(cells[unknown].iloc[0])[:40]!r}; expected an OPC quality (192 good, 64 uncertain, below 64 bad), a "
            "status code of OPC UA, or Good, Uncertain, Bad"
        )
    if unknown.any():
        notes.append(f"column {name!r}: {int(unknown.sum()):,} cells are no quality; their rows are kept")
    poor = quality < lowest
    if len(poor) and poor.all():
        raise InputDataError(
            f"column {name!r} calls every row worse than {lowest}, the first {str(cells.iloc[0])[:40]!r}; is it an OPC quality (192 good, 64 "
            "uncertain, below 64 bad)?"
        )
    if poor.any():
        notes.append(
            f"{int(poor.sum()):,} rows are of a quality below {lowest} (column {name!r}); their values count as missing"
        )
    return poor


def _qualities(found: object) -> NDArray[np.float64]:
    """The OPC quality of each different cell, NaN where it is none."""
    cells = pd.Series(np.asarray(found, dtype=object))
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
    numbers[~np.isfinite(numbers) | (np.abs(numbers) >= 2.0**32) | (numbers != np.floor(numbers))] = np.nan
    if (numbers >= _UA).any() or (numbers < 0).any():
        status = np.nan_to_num(numbers) % 2.0**32
        return np.where(np.isnan(numbers), np.nan, _SEVERITY[(status // _UA).astype(int)])
    words = np.array([_word(cell) for cell in cells])
    return np.where(np.isnan(numbers), words, numbers % 256)


def _word(cell: object) -> float:
    first = re.match(r"\s*([A-Za-z]+)", cell) if isinstance(cell, str) else None
    return _WORDS.get(first[1].casefold(), np.nan) if first else np.nan
