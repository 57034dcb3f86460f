"""Numbers as a locale writes them, in cells that are read as text: `1.234,5`, `1,234.5`, `1 234,5`, `1'234.5`. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

_SPACES = r" '\u00a0\u2009\u202f\u2019"
LOCAL = r"(?:^|\d)[., '\x{a0}\x{2009}\x{202f}\x{2019}]\d"
"""Somewhere in every column that `as_plain` changes; for RE2."""
_EXPONENT = r"(?:[eE][+-]?\d+)?"


def _fraction(mark: str, other: str) -> re.Pattern[str]:
    """A number with a fraction behind `mark`, its thousands apart by `other` or a blank, or not at all."""
    return re.compile(rf"[+-]?(?:\d*|[1-9]\d{{0,2}}(?:[{other}{_SPACES}]\d{{3}})+)[{mark}]\d+{_EXPONENT}")


_COMMA, _POINT = _fraction(",", "."), _fraction(".", ",")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
"""A fraction of three digits or a whole number of thousands: the cell by itself does not tell."""


def decimal_mark(cells: Iterable[str], usual: str) -> str:
    """The mark that most cells with a fraction have, `usual` where none tells; only if no other does, those that could be whole thousands count.

    >>> decimal_mark(["12,5", "1.000", "2.000", "3.000"], ".")
    ','
    """
    certain, either = Counter[str](), Counter[str]()
    for cell in cells:
        if "," not in cell and "." not in cell:
            continue
        written = cell.strip().strip('"')
        mark = "," if _COMMA.fullmatch(written) else "." if _POINT.fullmatch(written) else ""
        (either if _EITHER.fullmatch(written) else certain)[mark] += 1
    for found in (certain, certain + either):
        if found[","] != found["."]:
            return "," if found[","] > found["."] else "."
    return usual


def as_plain(cells: pd.Series, decimal: str) -> tuple[pd.Series, str | None]:
    """The text of a column with its numbers written as Python does, and the first one whose thousands were apart; other cells stay.

    A mark is taken for thousands only where no cell of the column has it before a fraction, and a comma only where one cell says so for certain
    (`1,234.5`, `1,234,567`): a cell such as `71,234` may come from another locale.

    >>> cells, first = as_plain(pd.Series(["1.234,5", "12", "7,25", "Bad Input"]), ",")
    >>> cells.tolist(), first
    (['1234.5', '12', '7.25', 'Bad Input'], '1.234,5')
    >>> as_plain(pd.Series(["71,234", "72,5"]), ".")[0].tolist()
    ['71,234', '72,5']
    """
    text = cells.str.strip()
    mark = "." if decimal == "," else ","
    groups = text.str.fullmatch(
        rf"[+-]?[1-9]\d{{0,2}}(?:([{mark}{_SPACES}])\d{{3}})(?:\1\d{{3}})*(?:[{decimal}]\d+)?", na=False
    )
    marked = groups & text.str.contains(mark, regex=False, na=False)
    other = text.str.fullmatch(rf"[+-]?\d*[{mark}]\d+{_EXPONENT}", na=False) & ~marked
    certain = marked & (text.str.contains(decimal, regex=False, na=False) | (text.str.count(f"[{mark}]") > 1))
    if other.any() or (decimal == "." and not certain.any()):
        groups &= ~marked
    first = text[groups].iloc[0] if groups.any() else None
    text = text.where(~groups, text.str.replace(f"[{mark}{_SPACES}]", "", regex=True))
    if decimal == ",":
        fractions = text.str.fullmatch(rf"[+-]?\d*,\d+{_EXPONENT}", na=False)
        text = text.where(~fractions, text.str.replace(",", ".", regex=False))
    return text, first
