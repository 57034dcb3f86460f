"""What a sensor is called, measured in and allowed to be: applied to whole columns of readings, right after decoding.

In this order, for one value: text becomes the code of its state; a value of too low quality is dropped; `value * scale + offset`;
from unit to unit; a value outside the valid range is dropped; the sensor gets its own name. A dropped value is null, its row is
kept, and the drop is counted for the sensor. Nothing here looks at more than one row.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from ingestion.errors import InputDataError
from ingestion.records import BASE_FIELDS, RESERVED, Decoded
from ingestion.units import conversion

REASONS = ("bad_quality", "unknown_state", "out_of_range", "conflict")
_MAX_STATES = 1000


@dataclass(frozen=True)
class SensorRule:
    """How one sensor is read. Raises InputDataError for what cannot be meant.

    `name` is what it is called from here on, empty for as sent. `unit` is what `value * scale + offset` is measured in, `to` what is
    kept. `minimum` and `maximum` bound what is kept, in `to`. `min_quality` is the lowest OPC quality (192 good, 64 uncertain, below
    64 bad) of values that are kept. `states` are the codes of text values; a sensor with states has no other values.
    """

    name: str = ""
    unit: str = ""
    to: str = ""
    scale: float = 1.0
    offset: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    min_quality: int | None = None
    states: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name in RESERVED or (self.name and (len(self.name) > 256 or not self.name.isprintable())):
            raise InputDataError(
                f"name {self.name[:80]!r}: expected up to 256 printable characters other than {', '.join(RESERVED)}"
            )
        if bool(self.unit) != bool(self.to):
            raise InputDataError("unit and to go together: what the value is measured in, and what is kept")
        if self.states and (self.unit or self.scale != 1.0 or self.offset != 0.0):
            raise InputDataError(
                "states are codes: they go with neither unit, to, scale nor offset; choose other codes"
            )
        if len(self.states) > _MAX_STATES:
            raise InputDataError(f"{len(self.states)} states, expected at most {_MAX_STATES}")
        if self.scale == 0.0 or not all(map(math.isfinite, (self.scale, self.offset, *self.states.values()))):
            raise InputDataError("scale, offset and codes of states must be finite, and scale not zero")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise InputDataError(f"min {self.minimum:g} is above max {self.maximum:g}")
        _ = self.linear

    @cached_property
    def linear(self) -> tuple[float, float]:
        """`(factor, shift)` of scale, offset and units together. Raises InputDataError."""
        if not self.unit:
            return self.scale, self.offset
        factor, shift = conversion(self.unit, self.to)
        return self.scale * factor, self.offset * factor + shift


class SiteMapping:
    """The rules of one site by the sensors' names as sent; `min_quality` also holds for sensors without a rule; `assets` are new names
    of machines by the names as sent."""

    def __init__(
        self,
        rules: Mapping[str, SensorRule],
        min_quality: int | None = None,
        assets: Mapping[str, str] | None = None,
    ) -> None:
        self._assets = dict(assets or {})
        self.states = {name: rule.states for name, rule in rules.items() if rule.states}
        self._rules = {
            name: rule if rule.min_quality is not None else replace(rule, min_quality=min_quality)
            for name, rule in rules.items()
        }
        self._others = None if min_quality is None else SensorRule(min_quality=min_quality)

    def apply(self, decoded: Decoded) -> Decoded:
        """The same readings with every rule applied, and its counts as `reason:sensor`."""
        if self._assets and decoded.readings.num_rows:
            decoded = replace(decoded, readings=_renamed(decoded.readings, self._assets))
        readings = decoded.readings
        own = {name for name in readings.column_names if name in self._rules}
        if not own and self._others is None:
            return decoded
        counts: Counter[str] = Counter()
        quality = _quality(readings)
        columns: dict[str, pa.ChunkedArray | pa.Array] = {
            f.name: readings.column(f.name) for f in BASE_FIELDS
        }
        for name in readings.column_names:
            if name in columns and name in RESERVED:
                continue
            column = readings.column(name)
            rule = self._rules.get(name, self._others)
            if rule is None:
                kept, target = column, name
            else:
                kept, target = _mapped(column, name, rule, quality, counts), rule.name or name
            columns[target] = _united(columns[target], kept, name, counts) if target in columns else kept
        return replace(decoded, readings=pa.table(columns), counts=decoded.counts + counts)


def _renamed(readings: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """The table with machines called by their new names; each name is looked up once."""
    encoded = readings.column("asset").combine_chunks().dictionary_encode()
    known = encoded.dictionary.to_pylist()
    if not any(name in names for name in known):
        return readings
    called = pa.array([names.get(name, name) for name in known], pa.string()).take(encoded.indices)
    return readings.set_column(readings.column_names.index("asset"), readings.schema.field("asset"), called)


def _quality(readings: pa.Table) -> np.ndarray | None:
    """float64[N] with NaN where the quality is not known; None if it is known nowhere."""
    column = readings.column("quality")
    if column.null_count == len(column):
        return None
    return column.cast(pa.float64()).to_numpy()  # type: ignore[no-any-return]


def _mapped(
    column: pa.ChunkedArray, name: str, rule: SensorRule, quality: np.ndarray | None, counts: Counter[str]
) -> pa.Array:
    values = column.to_numpy().copy()
    known = ~np.isnan(values)

    def drop(reason: str, wrong: np.ndarray) -> None:
        number = int(np.count_nonzero(wrong))
        if number:
            counts[f"{reason}:{name}"] += number
            known[wrong] = False

    if rule.states:
        drop("unknown_state", known & ~np.isin(values, list(rule.states.values())))
    if rule.min_quality is not None and quality is not None:
        drop("bad_quality", known & (quality < rule.min_quality))
    factor, shift = rule.linear
    if (factor, shift) != (1.0, 0.0):
        with np.errstate(over="ignore", invalid="ignore"):
            values = values * factor + shift
    low = -np.inf if rule.minimum is None else rule.minimum
    high = np.inf if rule.maximum is None else rule.maximum
    drop("out_of_range", known & ~(np.isfinite(values) & (values >= low) & (values <= high)))
    return pa.array(values, mask=~known)


def _united(
    first: pa.ChunkedArray | pa.Array, second: pa.ChunkedArray | pa.Array, name: str, counts: Counter[str]
) -> pa.Array:
    """Two sensors under one name, as when a tag was renamed; where both have a value the first is kept."""
    one, two = (
        np.asarray(column.to_numpy(zero_copy_only=False)) for column in (_whole(first), _whole(second))
    )
    both = int(np.count_nonzero(~np.isnan(one) & ~np.isnan(two)))
    if both:
        counts[f"conflict:{name}"] += both
    values = np.where(np.isnan(one), two, one)
    return pa.array(values, mask=np.isnan(values))


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def by_sensor(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The counts that belong to a sensor, as sensor -> reason -> number."""
    found: dict[str, dict[str, int]] = {}
    for key, number in sorted(counts.items()):
        reason, mark, sensor = key.partition(":")
        if mark and reason in REASONS:
            found.setdefault(sensor, {})[reason] = number
    return found
