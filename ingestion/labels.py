"""Labels of a site file: whether a row is of an incident, as 0 and 1 or in one of the words that exports use."""

from __future__ import annotations

from typing import Any

import pandas as pd

_WORDS = {
    **dict.fromkeys(("0", "false", "normal", "good", "healthy", "ok"), 0),
    **dict.fromkeys(
        ("1", "true", "abnormal", "anomalous", "anomaly", "attack", "bad", "failure", "fault", "faulty"), 1
    ),
}


def read_labels(column: Any, notes: list[str]) -> pd.Series:
    """Int8 of a column of numbers, booleans or words, <NA> where it is empty; a note says how words were read.

    Raises:
      ValueError: a cell is neither 0 nor 1 nor such a word; the first one that is not is named.
    """
    raw = pd.Series(column).astype(object)
    raw = raw.where(raw.notna(), None)
    found = pd.to_numeric(raw, errors="coerce").astype("Float64")
    words = raw[found.isna() & raw.notna()].astype(str)
    plain = words.str.strip().str.casefold()
    meant = plain.map(_WORDS)
    wrong = [*raw[found.notna() & ~found.isin([0, 1])], *words[meant.isna() & (plain != "")]]
    if wrong:
        raise ValueError(
            f"label {wrong[0]!r}; expected 0 (good), 1 (in an incident) or empty (not known). "
            "If the column says something else, rename it; if another one has the labels, name that (--label NAME)"
        )
    found[meant.index] = meant.astype("Float64")
    told = {str(words[at]): int(meant[at]) for at in words.drop_duplicates().index if plain[at] != ""}
    if told:
        notes.append("labels are words: " + ", ".join(f"{word!r} read as {of}" for word, of in told.items()))
    return found.astype("Int8")
