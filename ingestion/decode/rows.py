"""One flat JSON message at a time: the exact rules, used where the columnar reader gives up.

Slow and literal. `ingestion.decode.columns` must give the same rows for every message that it accepts.
"""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ingestion.decode.states import code_of
from ingestion.records import RESERVED
from ingestion.settings import DecodeRules, Limits

TIME_FIELDS = ("ts", "timestamp", "time", "timestamp_ms", "event_time")
SENSOR_FIELDS = ("sensor", "tag", "metric", "signal", "name", "point", "measurement")
VALUE_FIELDS = ("value", "val", "v")
OWN_FIELDS = (*TIME_FIELDS, "asset", "seq", "quality", "values")
MAX_DEPTH = 64
MAX_FIELDS = 4
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPED = re.compile(rb"\\.?", re.DOTALL)
_MAYBE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


_TRUTH = {
    text: number
    for word, number in (("true", 1.0), ("false", 0.0))
    for text in (word, word.title(), word.upper())
}


class Refused(Exception):
    """A message that cannot become rows."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class Row:
    """One reading as it was sent; `time` is still raw."""

    time: Any
    asset: str | None
    seq: int | None
    quality: int | None
    sensors: dict[str, float | None] = field(default_factory=dict)
    dropped: int = 0


def parse_json(value: bytes) -> Any:
    """Parse one message. NaN and Infinity literals and a byte order mark, which no JSON allows but gateways send, are understood.

    Raises Refused (`not_json`, `too_deep`, `duplicate_key`).
    """
    if value.count(b"{") + value.count(b"[") > MAX_DEPTH and depth_of(value) > MAX_DEPTH:
        raise Refused("too_deep", f"nested deeper than {MAX_DEPTH}")
    try:
        text = value.decode("utf-8-sig")
        found = json.loads(text, object_pairs_hook=_no_doubles, parse_int=_whole)
        if _MAYBE_SURROGATE.search(value):
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except RecursionError:
        raise Refused("too_deep", f"nested deeper than {MAX_DEPTH}") from None
    except UnicodeDecodeError as error:
        raise Refused("not_json", f"not UTF-8 at byte {error.start}") from None
    except UnicodeEncodeError:
        raise Refused("not_json", "text with half of a surrogate pair, which no UTF-8 can hold") from None
    except json.JSONDecodeError as error:
        raise Refused("not_json", f"not JSON at character {error.pos}: {error.msg}") from None
    except ValueError as error:
        raise Refused("not_json", str(error)[:200]) from None


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = Counter(name for name, _ in pairs)
        name = next(name for name, count in names.items() if count > 1)
        raise Refused("duplicate_key", f"key {name[:80]!r} appears twice in one object")
    return found


def depth_of(value: bytes) -> int:
    """How deep objects and lists are nested; brackets in text do not count."""
    if b"\\" in value:
        return _depth_with_escapes(value)
    codes = np.frombuffer(value, dtype=np.uint8)
    outside = (np.cumsum(codes == 0x22) & 1) == 0
    step = np.zeros(len(codes), dtype=np.int32)
    step[((codes == 0x5B) | (codes == 0x7B)) & outside] = 1
    step[((codes == 0x5D) | (codes == 0x7D)) & outside] = -1
    return int(np.cumsum(step).max(initial=0))


def _depth_with_escapes(value: bytes) -> int:
    # An escaped character is never a quote that opens or closes text.
    return depth_of(_ESCAPED.sub(b"", value))


def rows_of(value: bytes | None, rules: DecodeRules, limits: Limits, counts: Counter[str]) -> list[Row]:
    """All rows of one message, at least one. Raises Refused with the documented reason."""
    if value is None:
        raise Refused("null_value", "the record has no value")
    if not value.strip():
        raise Refused("empty_value", "the record's value is empty")
    if len(value) > limits.max_message_bytes:
        raise Refused(
            "too_large", f"{len(value)} bytes, more than max_message_bytes = {limits.max_message_bytes}"
        )
    content = parse_json(value)
    items = content if isinstance(content, list) else [content]
    if not items:
        raise Refused("no_values", "an empty list carries no reading")
    if len(items) > limits.max_rows_per_message:
        raise Refused("too_large", f"{len(items)} readings, more than {limits.max_rows_per_message}")
    found: Counter[str] = Counter()
    rows = [_row(item, rules, found) for item in items]
    counts.update(found)
    return rows


def _row(item: Any, rules: DecodeRules, counts: Counter[str]) -> Row:
    if not isinstance(item, dict):
        raise Refused("wrong_shape", f"expected an object with sensor values, found {type(item).__name__}")
    inner = item.get("values")
    if len(item) + (len(inner) if isinstance(inner, dict) else 0) > MAX_FIELDS * rules.max_sensors:
        raise Refused(
            "too_many_sensors", f"more fields than {MAX_FIELDS} times max_sensors = {rules.max_sensors}"
        )
    time = next((item[name] for name in TIME_FIELDS if item.get(name) is not None), None)
    if isinstance(time, (dict, list, bool)):
        raise Refused("bad_timestamp", f"expected a number or text as time, found {type(time).__name__}")
    row = Row(
        time,
        _asset(item.get("asset")),
        _integer(item, "seq", 63, counts),
        _integer(item, "quality", 15, counts),
    )
    if inner is not None and not isinstance(inner, dict):
        raise Refused("wrong_shape", f"expected an object in 'values', found {type(inner).__name__}")
    for name, raw in (inner or {}).items():
        if isinstance(raw, (dict, list)):
            raise Refused("wrong_shape", f"sensor {name[:80]!r} holds a nested {type(raw).__name__}")
        _add(row, name, raw, rules, counts)
    for name, raw in item.items():
        if name in OWN_FIELDS:
            continue
        if isinstance(raw, (dict, list)) or (
            isinstance(raw, str) and inner is not None and name not in rules.states
        ):
            counts["ignored_field"] += 1
            continue
        if name in row.sensors:
            raise Refused("duplicate_key", f"sensor {name[:80]!r} appears beside and inside 'values'")
        _add(row, name, raw, rules, counts)
    if not row.sensors and not row.dropped:
        raise Refused("no_values", "no sensor value in the message")
    named = narrow_fields(item)
    if named is not None and not any(
        value is not None or isinstance(item[name], float)
        for name, value in row.sensors.items()
        if name not in VALUE_FIELDS
    ):
        raise Refused(
            "narrow",
            f"names its sensor in {named[0]!r} and holds nothing but its value: set format = 'narrow' or 'auto'",
        )
    return row


def narrow_fields(item: dict[str, Any]) -> tuple[str, str] | None:
    """The fields that hold sensor name and value if the object is one narrow reading."""
    value = next((name for name in VALUE_FIELDS if name in item), None)
    if value is None or "values" in item:
        return None
    sensor = next((name for name in SENSOR_FIELDS if isinstance(item.get(name), str)), None)
    return None if sensor is None else (sensor, value)


def _asset(raw: Any) -> str | None:
    if raw is None or raw == "":
        return None
    if isinstance(raw, (str, int)) and not isinstance(raw, bool) and len(str(raw)) <= 256:
        return str(raw)
    raise Refused("bad_asset", "expected text of at most 256 characters as asset")


def _integer(item: dict[str, Any], name: str, bits: int, counts: Counter[str]) -> int | None:
    raw = item.get(name)
    if raw is None:
        return None
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int) or not -(2**bits) <= raw < 2**bits:
        counts[f"bad_{name}"] += 1
        return None
    return raw


def _add(row: Row, name: str, raw: Any, rules: DecodeRules, counts: Counter[str]) -> None:
    reason = bad_sensor_name(name)
    if reason:
        raise Refused(
            reason,
            f"sensor name {name[:80]!r} is reserved, empty, too long or unprintable; rename it at the sender",
        )
    if rules.sensors and name not in rules.sensors:
        if rules.unknown_sensors == "reject":
            raise Refused("unknown_sensor", f"sensor {name[:80]!r} is not declared")
        if rules.unknown_sensors == "drop":
            counts["unknown_sensor"] += 1
            row.dropped += 1
            return
    if isinstance(raw, str) and name in rules.states:
        row.sensors[name] = code = code_of(raw, rules.states[name])
        if code is None:
            counts[f"unknown_state:{name}"] += 1
        return
    row.sensors[name] = number_of(raw, counts)


def bad_sensor_name(name: str) -> str | None:
    """The reason why `name` cannot be a column, or None."""
    if name in RESERVED:
        return "reserved_name"
    if not name or len(name) > 256 or not name.isprintable():
        return "bad_sensor_name"
    return None


def number_of(raw: Any, counts: Counter[str]) -> float | None:
    """A finite float64, or None, counted by why. Text is a number as Python writes one in ASCII, without `_`; true and false are 1 and 0."""
    if raw is None:
        return None
    try:
        if isinstance(raw, str):
            number = _TRUTH[raw] if raw in _TRUTH else float(raw if raw.isascii() and "_" not in raw else "x")
            counts["text_number"] += 1
        elif isinstance(raw, (bytes, bytearray)):
            raise TypeError  # which float() would read as text
        else:
            number = float(raw)
    except OverflowError:
        number = math.inf
    except (ValueError, TypeError):
        counts["not_a_number"] += 1
        return None
    if not math.isfinite(number):
        counts["non_finite"] += 1
        return None
    return number
