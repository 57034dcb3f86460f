"""Which `strptime` form the times of an export are written in, for a message that says what to type. Pure."""

from __future__ import annotations

from itertools import product

import pandas as pd

_DATES = (
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%d.%m.%y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d-%b-%y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%Y/%m/%d",
)
_TIMES = (" %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", " %I:%M %p", "")
_TRIED = 2000


def time_forms(texts: pd.Series) -> list[str]:
    """The usual forms in which every text could be read; more than one where day and month could be either.

    Only the first and the last thousand texts are looked at.

    >>> time_forms(pd.Series(["31/12/2026 10:00", "01/01/2027 10:00"]))
    ['%d/%m/%Y %H:%M']
    >>> time_forms(pd.Series(["01/02/2026 02:15 PM"]))
    ['%d/%m/%Y %I:%M %p', '%m/%d/%Y %I:%M %p']
    """
    known = texts.dropna().astype(str)
    some = pd.concat([known.head(_TRIED // 2), known.tail(_TRIED // 2)])
    if some.empty:
        return []
    first = some.iloc[:1]
    return [
        form for form in map("".join, product(_DATES, _TIMES)) if _read(first, form) and _read(some, form)
    ]


def _read(texts: pd.Series, form: str) -> bool:
    return bool(pd.to_datetime(texts, format=form, errors="coerce").notna().all())
