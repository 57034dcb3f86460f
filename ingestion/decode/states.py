"""Text values of declared state sensors as the codes of their states.

Elsewhere text is no value. Which sensors have states is `DecodeRules.states`, sensor -> text -> code.
"""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

States = Mapping[str, Mapping[str, float]]


def code_of(text: str, known: Mapping[str, float]) -> float | None:
    """The code of a state, given as its text or as one of the codes itself; None if it is neither."""
    code = known.get(text)
    if code is None:
        code = known.get(text.strip())
    if code is None and len(text) < 32:
        try:
            number = float(text)
        except ValueError:
            return None
        return number if number in known.values() else None
    return code


def codes_of(texts: pa.Array, known: Mapping[str, float]) -> pa.Array | None:
    """The codes of a whole text column, null where it is null; None if a text needs a decision of its own."""
    place = pc.index_in(texts, value_set=pa.array(list(known), pa.string()))
    if place.null_count != texts.null_count:
        return None
    return pa.array(list(known.values()), pa.float64()).take(place)
