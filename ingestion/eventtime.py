"""From what a plant wrote as a time to int64 nanoseconds since 1970 UTC.

Numbers are s, ms, us or ns, told apart by magnitude: within one plausible span of years the four ranges cannot overlap.
Text is ISO 8601 with an offset; without an offset it is local time of the declared zone, or refused. In the hour that
daylight saving skips the time moves on by the gap; in the hour it repeats the first pass is taken; both are counted.
Fractions of s and ms in binary floating point are rounded to whole microseconds, the decimals that a float64 of today holds.
"""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.settings import EventTimeRules
from ingestion.tasks import heed

NS = 1_000_000_000
_PER_UNIT = {"s": NS, "ms": 1_000_000, "us": 1_000, "ns": 1}
_LATEST_YEAR = 2200
_LISTED_UNTIL = int(datetime(2037, 1, 1, tzinfo=timezone.utc).timestamp()) * NS
_ISO = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[Tt ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?"
    r"\s?(?:([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)(?:\[[\w/+-]+\])?)?",
    re.ASCII,
)
_OTHER_DATES = re.compile(r"(\d{4})-?(?:W(\d\d)-?([1-7])|(\d{3}))(?=[Tt ])", re.ASCII)


@dataclass(frozen=True)
class Times:
    """`ns` int64[N]; `bad` bool[N], True where no plausible time could be read (`ns` is 0 there); `counts` by name."""

    ns: np.ndarray
    bad: np.ndarray
    counts: Counter[str]


def _span_seconds(rules: EventTimeRules) -> tuple[int, int]:
    low = int(datetime(rules.earliest_year, 1, 1, tzinfo=timezone.utc).timestamp())
    high = int(datetime(_LATEST_YEAR, 1, 1, tzinfo=timezone.utc).timestamp())
    return low, high


def from_numbers(values: np.ndarray, rules: EventTimeRules) -> Times:
    """Read int64[N] or float64[N] timestamps."""
    low, high = _span_seconds(rules)
    ns = np.zeros(len(values), dtype=np.int64)
    found = np.zeros(len(values), dtype=bool)
    whole = values.dtype.kind == "i"
    for unit, per_unit in _PER_UNIT.items():
        if rules.unit not in ("auto", unit):
            continue
        scale = NS // per_unit
        inside = (values >= low * scale) & (values < high * scale)
        if inside.any():
            chosen = values[inside]
            if whole:
                ns[inside] = chosen * per_unit
            else:
                floor = np.floor(chosen)
                step = min(per_unit, 1000)
                rest = np.rint((chosen - floor) * (per_unit // step)).astype(np.int64) * step
                ns[inside] = floor.astype(np.int64) * per_unit + rest
            found |= inside
    return Times(ns, ~found, Counter())


def from_text(values: pa.Array, rules: EventTimeRules) -> Times:
    """Read string[N] timestamps; nulls count as bad. One cast when all carry an offset, one by one otherwise."""
    try:
        ns = pc.cast(values, pa.timestamp("ns", tz="UTC")).cast(pa.int64()).fill_null(0).to_numpy()
        bad = ~_plausible(ns, rules)
        return Times(np.where(bad, 0, ns), bad, Counter())
    except pa.ArrowInvalid:
        pass
    local = _local(values, rules)
    if local is not None:
        bad = ~_plausible(local, rules)
        return Times(np.where(bad, 0, local), bad, Counter())
    counts: Counter[str] = Counter()
    out = np.zeros(len(values), dtype=np.int64)
    bad = np.zeros(len(values), dtype=bool)
    for i, text in enumerate(values.to_pylist()):
        heed()
        found = one_time(text, rules, counts)
        bad[i] = found is None
        out[i] = found or 0
    return Times(out, bad, counts)


def _local(values: pa.Array, rules: EventTimeRules) -> np.ndarray | None:
    """int64 ns of times without an offset in the declared zone, all in one step; None if one needs a decision of its own."""
    if rules.zone is None:
        return None
    try:
        naive = pc.cast(values, pa.timestamp("ns"))
        known = pc.assume_timezone(naive, rules.zone, ambiguous="raise", nonexistent="raise")
        local: np.ndarray = known.cast(pa.int64()).fill_null(0).to_numpy()
        # Arrow's zones know no daylight saving after the last change that is listed, which is in 2037.
        return local if len(local) == 0 or int(local.max()) < _LISTED_UNTIL else None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def one_time(raw: object, rules: EventTimeRules, counts: Counter[str]) -> int | None:
    """Read one timestamp of any accepted type; None if it is not a plausible time."""
    if isinstance(raw, bool) or raw is None:
        return None
    if isinstance(raw, (int, float)):
        if isinstance(raw, int) and abs(raw) >= 2**63:
            return None
        times = from_numbers(np.array([raw], dtype=np.int64 if isinstance(raw, int) else np.float64), rules)
        return None if times.bad[0] else int(times.ns[0])
    if not isinstance(raw, str) or len(raw) > 64:
        return None
    text = raw.strip()
    if text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit():
        return one_time(float(text) if "." in text else int(text), rules, counts)
    ns = _iso(_spelled_out(text), rules, counts)
    return ns if ns is not None and bool(_plausible(np.array([ns]), rules)[0]) else None


def _plausible(ns: np.ndarray, rules: EventTimeRules) -> np.ndarray:
    low, high = _span_seconds(rules)
    return (ns >= low * NS) & (ns < high * NS)


def _spelled_out(text: str) -> str:
    """ISO 8601 as Arrow reads it: calendar date with dashes and colons, a decimal point, at most nine digits behind it, no space before
    the offset. 24:00 and a leap second are the instant after them; a zone's name in brackets behind an offset says nothing more."""
    found = _ISO.fullmatch(_by_calendar(text))
    if found is None:
        return text
    year, month, day, hour, minute, second, fraction, offset = found.groups(default="")
    tail = f".{fraction[:9]}" if fraction else ""
    offset = "Z" if offset in ("UTC", "GMT") else offset.upper()
    later = timedelta(0)
    if (hour, minute, second or "00") == ("24", "00", "00") and not fraction.strip("0"):
        hour, later = "00", timedelta(days=1)
    elif (minute, second) == ("59", "60"):
        second, tail, later = "59", "", timedelta(seconds=1)
    plain = f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}"
    if later:
        try:
            plain = (datetime.fromisoformat(plain) + later).isoformat()
        except (ValueError, OverflowError):
            return text
    return plain + tail + offset


def _by_calendar(text: str) -> str:
    """Week dates (2026-W09-7) and ordinal dates (2026-060) as year, month and day."""
    match = _OTHER_DATES.match(text)
    if match is None:
        return text
    year, week, day, ordinal = match.groups()
    try:
        # Not `strptime`: of a year without a 366th day or a 53rd week it makes days of the next.
        if ordinal:
            found = date(int(year), 1, 1) + timedelta(days=int(ordinal) - 1)
        else:
            found = date.fromisocalendar(int(year), int(week), int(day))
    except (ValueError, OverflowError):
        return text
    if ordinal and found.year != int(year):
        return text
    return f"{found.isoformat()}{text[match.end() :]}"


def _iso(text: str, rules: EventTimeRules, counts: Counter[str]) -> int | None:
    try:
        return int(pa.scalar(text).cast(pa.timestamp("ns", tz="UTC")).value)
    except pa.ArrowInvalid:
        pass
    try:
        local = int(pa.scalar(text).cast(pa.timestamp("ns")).value)
    except pa.ArrowInvalid:
        return None
    if rules.zone is None:
        counts["naive_time"] += 1
        return None
    zone = ZoneInfo(rules.zone)
    seconds, rest = divmod(local, NS)
    naive = datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=zone)
    first, second = naive.utcoffset(), naive.replace(fold=1).utcoffset()
    if first is None or second is None:
        return None
    if first != second:
        counts["dst_fold" if first > second else "dst_gap"] += 1
    return (seconds - int(first.total_seconds())) * NS + rest
