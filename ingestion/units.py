"""From one unit to another as `value * factor + shift`, worked out once with pint and never per reading."""

from decimal import Decimal
from functools import lru_cache
from typing import Any

from ingestion.errors import InputDataError

_LONGEST = 64
_EXAMPLES = "such as 'degC', 'bar', 'mm/s', 'kW', '1/min' or 'percent'"


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    # Decimal, because 5/9 of a degree in floats is off from the thirteenth digit on.
    return pint.UnitRegistry(non_int_type=Decimal)


def parse_unit(text: str) -> Any:
    """The unit that a text names. Raises InputDataError."""
    try:
        if not text.strip() or len(text) > _LONGEST:
            raise ValueError("empty or too long")
        return _registry().Unit(text)
    except Exception as error:  # pint raises whatever its parser stumbles over
        raise InputDataError(f"unit {text!r} is not known; write a unit {_EXAMPLES}") from error


def conversion(unit: str, to: str) -> tuple[float, float]:
    """`(factor, shift)` such that `value * factor + shift` is in `to` what `value` is in `unit`.

    >>> conversion("bar", "kPa")
    (100.0, 0.0)

    Raises InputDataError: a unit is unknown, the two measure different things, or the step between them is not linear.
    """
    source, target = parse_unit(unit), parse_unit(to)
    if not source.is_compatible_with(target):
        raise InputDataError(
            f"{unit!r} ({source.dimensionality}) cannot become {to!r} ({target.dimensionality}); "
            f"allowed are units of {source.dimensionality}{_siblings(source)}"
        )
    if _has_angle(source) != _has_angle(target):
        raise InputDataError(
            f"{unit!r} to {to!r}: one counts angle (a turn is 2 pi) and the other does not; use `scale` instead"
        )
    quantity = _registry().Quantity
    try:
        zero, one, ten = (quantity(Decimal(v), source).to(target).magnitude for v in (0, 1, 10))
        factor = one - zero
        if abs(ten - zero - 10 * factor) > abs(factor) * Decimal("1e-9"):
            raise ValueError("not linear")
        return float(factor), float(zero)
    except Exception as error:  # a logarithm, an offset unit inside a product
        raise InputDataError(f"{unit!r} to {to!r} is not a linear step; convert it at the sender") from error


def _has_angle(unit: Any) -> bool:
    return "radian" in str(_registry().get_root_units(unit)[1])


def _siblings(unit: Any) -> str:
    try:
        names = sorted(str(found) for found in _registry().get_compatible_units(unit))
    except Exception:  # only the hint is lost
        return ""
    short = [name for name in names if len(name) < 24][:6]
    return f", for example {', '.join(short)}" if short else ""
