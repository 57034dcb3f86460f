"""What a sample of a topic says about itself: format, assets, sensors, and how its event times behave."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.decode import FORMATS, Decoder, build_decoder
from ingestion.decode.auto import recognise
from ingestion.errors import InputDataError
from ingestion.eventtime import NS
from ingestion.records import RESERVED, Decoded, RecordBatch
from ingestion.sample import Sample
from ingestion.settings import DecodeRules, EventTimeRules, IngestSettings, Limits, Site
from ingestion.texts import Texts
from ingestion.tidy import tidy

_CENTURY = 100 * 366 * 86400.0


@dataclass(frozen=True)
class SensorProfile:
    """One sensor in the sample.

    `values` is their number, `rate` their number a second and asset (median spacing), `missing` the share of values that are not there
    although the sensor's own median spacing has a place for them. `texts` are what it sent as text, with their numbers.
    """

    name: str
    values: int
    assets: int
    rate: float | None
    low: float | None
    high: float | None
    missing: float | None
    texts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """A topic as its sample shows it. Times in seconds.

    `skew_*` is event time minus the record's own time, of rows that have both. `ahead` are the rows that ingestion would refuse for it;
    unless they are most of the rows, which is a wrong zone and no wrong clock, nothing else but `rows` takes them in. `disorder` is the largest step back of event time within
    a partition, `disorder_most` covers 99.9 % of the rows; `duplicates` are rows that repeat another.
    """

    topic: str
    partitions: int
    held: int
    messages: int
    format: str
    recognised: int
    sites: tuple[str, ...]
    assets: dict[str, int]
    sensors: tuple[SensorProfile, ...]
    rows: int
    rejects: dict[str, int]
    counts: dict[str, int]
    without_time: int
    skew_median: float | None
    skew_lowest: float | None
    skew_highest: float | None
    ahead: int
    disorder: float
    disorder_most: float
    duplicates: int
    span: float
    rows_a_second: float | None
    median_bytes: int
    largest_bytes: int
    cut: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {**asdict(self), "sites": list(self.sites)}


def profile(
    sample: Sample,
    *,
    oldest: Callable[[], Sample] | None = None,
    format: str | None = None,
    times: EventTimeRules,
    schema_registry: str = "",
    max_future_skew: float = 300.0,
) -> tuple[Profile, pa.Table]:
    """Decode the sample as ingestion would and describe it; the readings table, all partitions' together, comes with it. `oldest` fetches the topic's first records; it is asked only if Sparkplug
    messages wait for births that came before the sample.

    `max_future_skew` decides which rows count as `ahead`. Raises InputDataError if no format fits or one needs a schema registry.
    """
    chosen, votes = _format(sample, format)
    if chosen == "avro" and not schema_registry:
        raise InputDataError(
            f"topic {sample.topic!r} holds Avro: name its schemas with --schema-registry (a folder with <id>.avsc files, or an address)"
        )
    texts = Texts()
    with tempfile.TemporaryDirectory(prefix="fedplant-inspect-") as folder:
        settings = IngestSettings(
            sites=(Site("sample", sample.topic),),
            bootstrap="",
            data_dir=Path(folder),
            event_time=replace(times, max_future_skew=_CENTURY),
            decode=DecodeRules(format=chosen, schema_registry=schema_registry, states=texts),
            limits=Limits(max_message_bytes=16 << 20),
        )
        decoded = [(batch, build_decoder(settings).decode(batch)) for batch in sample.batches]
        waiting = any(
            reject.reason == "waiting_for_birth" for _, found in decoded for reject in found.rejects
        )
        if waiting and oldest is not None:
            births = oldest()
            decoded = [(batch, _after(births, settings, batch)) for batch in sample.batches]
    if not any(found.readings.num_rows for _, found in decoded):
        raise InputDataError(f"topic {sample.topic!r}: {_why_nothing(sample, chosen, votes, decoded)}")
    skews = [_skew(batch, found) for batch, found in decoded]
    ahead = [skew > max_future_skew for skew in skews]
    refused = sum(int(each.sum()) for each in ahead)
    if 2 * refused <= sum(map(len, ahead)):
        decoded = [_without(pair, each) for pair, each in zip(decoded, ahead, strict=True)]
    readings = pa.concat_tables([found.readings for _, found in decoded], promote_options="default")
    told = _described(sample, chosen, votes, decoded, readings, texts, np.concatenate(skews), refused)
    return told, readings


def _without(pair: tuple[RecordBatch, Decoded], left_out: np.ndarray) -> tuple[RecordBatch, Decoded]:
    batch, found = pair
    return batch, replace(found, readings=found.readings.filter(pa.array(~left_out)))


def _format(sample: Sample, given: str | None) -> tuple[str, int]:
    if given is not None and given != "auto":
        if given not in FORMATS and ":" not in given:
            raise InputDataError(
                f"--format {given!r}: expected one of {', '.join(FORMATS)}, or module:function"
            )
        return given, 0
    votes: Counter[str] = Counter()
    for batch in sample.batches:
        name, number = recognise(batch.keys, batch.values, batch.topic)
        if name:
            votes[name] += number
    return votes.most_common(1)[0] if votes else ("flat", 0)


def _after(oldest: Sample, settings: IngestSettings, batch: RecordBatch) -> Decoded:
    decoder: Decoder = build_decoder(settings)
    for earlier in oldest.batches:
        if earlier.partition == batch.partition and earlier.offsets[0] < batch.offsets[0]:
            decoder.decode(earlier)
    return decoder.decode(batch)


def _why_nothing(
    sample: Sample, chosen: str, votes: int, decoded: Iterable[tuple[RecordBatch, Decoded]]
) -> str:
    reasons = Counter(reject.reason for _, found in decoded for reject in found.rejects)
    why = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common(4))
    first = next((value for batch in sample.batches for value in batch.values if value), b"")
    known = (
        f"its format looks like {chosen}, but no record could be read"
        if votes
        else "no record is of a known format"
    )
    return (
        f"{known} ({why} of {sample.messages:,}); the first begins with {first[:40]!r}; "
        "name the format with --format, or your own decoder as --format module:function"
    )


def _described(
    sample: Sample,
    chosen: str,
    votes: int,
    decoded: list[tuple[RecordBatch, Decoded]],
    readings: pa.Table,
    texts: Texts,
    skews: np.ndarray,
    ahead: int,
) -> Profile:
    counts: Counter[str] = sum((found.counts for _, found in decoded), Counter())
    rejects = Counter(reject.reason for _, found in decoded for reject in found.rejects)
    times = readings.column("event_time").cast(pa.int64()).to_numpy()
    own, back = counts["unknown_time"], _steps_back(decoded)
    rows = len(skews)
    skews = skews[~np.isnan(skews) & ((skews != 0.0) | (own == 0))]
    codes, names = _assets(readings)
    sizes = np.array([len(value or b"") for batch in sample.batches for value in batch.values])
    span = float(times.max() - times.min()) / NS
    seen = texts.seen()
    sensors = [
        _sensor(name, readings.column(name), codes, times, dict(seen.get(name, {})))
        for name in readings.column_names
        if name not in RESERVED
    ]
    return Profile(
        topic=sample.topic,
        partitions=sample.partitions,
        held=sample.held,
        messages=sample.messages,
        format=chosen,
        recognised=votes,
        sites=_sites(sample, chosen, names),
        assets={
            name: int(n) for name, n in zip(names, np.bincount(codes, minlength=len(names)), strict=True)
        },
        sensors=tuple(sorted(sensors, key=lambda s: s.name)),
        rows=rows,
        rejects=dict(rejects.most_common()),
        counts={name: n for name, n in sorted(counts.items()) if ":" not in name},
        without_time=own,
        skew_median=float(np.median(skews)) if len(skews) else None,
        skew_lowest=float(skews.min()) if len(skews) else None,
        skew_highest=float(skews.max()) if len(skews) else None,
        ahead=ahead,
        disorder=float(back.max()),
        disorder_most=float(np.quantile(back, 0.999)),
        duplicates=sum(tidy(found.readings).duplicate_rows for _, found in decoded if len(found.readings)),
        span=span,
        rows_a_second=readings.num_rows / span if span > 0 else None,
        median_bytes=int(np.median(sizes)),
        largest_bytes=int(sizes.max()),
        cut=sample.cut,
    )


def _skew(batch: RecordBatch, found: Decoded) -> np.ndarray:
    """float64[N] seconds that each row's event time is ahead of its record; NaN for rows of records without a time."""
    place = np.searchsorted(batch.offsets, found.readings.column("offset").to_numpy())
    stamps = batch.timestamps[place]
    times = found.readings.column("event_time").cast(pa.int64()).to_numpy()
    return np.where(stamps >= 0, (times - stamps * 1_000_000) / NS, np.nan)


def _steps_back(decoded: list[tuple[RecordBatch, Decoded]]) -> np.ndarray:
    """float64[N] seconds that each row lies behind the latest event time before it in its partition."""
    parts = []
    for _, found in decoded:
        times = found.readings.column("event_time").cast(pa.int64()).to_numpy()
        parts.append((np.maximum.accumulate(times) - times) / NS)
    return np.concatenate(parts)


def _assets(readings: pa.Table) -> tuple[np.ndarray, list[str]]:
    encoded = readings.column("asset").combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


def _sensor(
    name: str, column: pa.ChunkedArray, codes: np.ndarray, times: np.ndarray, texts: dict[str, int]
) -> SensorProfile:
    values = column.to_numpy()
    there = np.flatnonzero(~np.isnan(values))
    if not len(there):
        return SensorProfile(name, 0, 0, None, None, None, None, texts)
    order = there[np.lexsort((times[there], codes[there]))]
    moments, owners = times[order], codes[order]
    steps = np.diff(moments)[np.diff(owners) == 0]
    steps = steps[steps > 0]
    rate = missing = None
    if len(steps):
        usual = float(np.median(steps))
        rate = NS / usual
        places = int(np.rint(steps / usual).clip(1).sum())
        missing = 1.0 - len(steps) / places
    return SensorProfile(
        name,
        len(there),
        len(np.unique(owners)),
        rate,
        float(values[there].min()),
        float(values[there].max()),
        missing,
        texts,
    )


def _sites(sample: Sample, chosen: str, assets: list[str]) -> tuple[str, ...]:
    """What the payloads themselves call the plants, where the format has a word for it."""
    if chosen == "uns":
        return tuple(sorted({".".join(name.split(".")[:2]) for name in assets})[:20])
    if chosen == "sparkplug":
        keys = {
            key[:200] for batch in sample.batches for key in batch.keys if key and key.startswith(b"spBv1.0/")
        }
        return tuple(sorted({key.decode("utf-8", "replace").split("/")[1] for key in keys})[:20])
    return ()
