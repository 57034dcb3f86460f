"""`fedplant inspect`: from a look at an unknown topic to the configuration that ingests it."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingestion.profile import Profile, SensorProfile, profile
from ingestion.sample import take_sample
from ingestion.settings import EventTimeRules
from pipeline.config import Config, load_config
from pipeline.config.durations import format_duration
from pipeline.config.kafka import KafkaConfig
from pipeline.config.names import NAME
from pipeline.datasets.coderemarks import limits, told
from pipeline.datasets.codes import Code, codes_of
from pipeline.errors import ConfigError
from pipeline.remarks import printable
from pipeline.streams.cluster import Cluster, connect
from pipeline.streams.plants import running_broker

_NICE = (10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
_STATES = range(2, 21)
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True)
class Inspection:
    """What was seen and, as TOML, what to do with it; `codes` are values that look like codes for no reading."""

    profile: Profile
    config: str
    notes: tuple[str, ...]
    codes: tuple[Code, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "profile": self.profile.to_dict(),
            "config": self.config,
            "notes": list(self.notes),
            "codes": [asdict(code) for code in self.codes],
        }


def inspect_topic(
    topic: str,
    *,
    config_path: Path | None,
    bootstrap: str | None,
    sample: int,
    seconds: float,
    format: str | None,
    site: str | None,
    time_zone: str | None,
    schema_registry: str | None,
    say: Callable[[str], None],
) -> Inspection:
    """Look at a topic of the cluster named, else the configured one, else an embedded broker that runs.

    Raises:
      InputDataError: no such topic, an empty one, or one that no format fits.
      BrokerUnavailable: the cluster does not answer.
      ConfigError: no topic can have that name, no cluster is named and none runs, or the configuration is refused.
    """
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise ConfigError(f"{topic!r} is no topic: names are 1 to 249 letters, digits, '.', '_' and '-'")
    if site is not None and not NAME.match(site):
        raise ConfigError(f"--site {site!r}: a site's name is letters, digits, '.', '_' and '-'")
    config = load_config(config_path) if config_path else None
    rules = config.ingestion if config else None
    zone = time_zone or (rules.time_zone if rules else None)
    registry = schema_registry or (rules.schema_registry if rules else None) or ""
    times = EventTimeRules(zone=zone)
    with _cluster(config, bootstrap, say) as cluster:
        options: dict[str, Any] = {"number": sample, "seconds": seconds}
        taken = take_sample(cluster.bootstrap, cluster.client, topic, **options)
        found, readings = profile(
            taken,
            oldest=lambda: take_sample(cluster.bootstrap, cluster.client, topic, where="oldest", **options),
            format=format,
            times=times,
            schema_registry=registry,
        )
        address = cluster.bootstrap
    kafka = config.kafka if config else KafkaConfig(bootstrap=address)
    if bootstrap:
        kafka = kafka.model_copy(update={"bootstrap": bootstrap})
    codes = _codes(found, readings)
    notes = _notes(found, zone, codes)
    text = configuration(found, kafka, site or site_name(topic), zone, registry, notes, codes)
    return Inspection(found, text, notes, codes)


def _cluster(config: Config | None, bootstrap: str | None, say: Callable[[str], None]) -> Any:
    if config is not None:
        return connect(config, bootstrap, say)
    return contextlib.nullcontext(Cluster(bootstrap or running_broker()))


def site_name(topic: str) -> str:
    """The plant that a topic most likely belongs to.

    >>> site_name("iiot.plant-a.telemetry.v1")
    'plant-a'
    """
    known = re.fullmatch(r"iiot\.(.+)\.telemetry\.v1", topic)
    name = known[1] if known else topic
    return name.lstrip("._-")[:121] or "plant"


def _codes(found: Profile, readings: pa.Table) -> tuple[Code, ...]:
    columns = ((each.name, readings.column(each.name).to_numpy()) for each in found.sensors if each.values)
    return tuple(code for name, values in columns for code in codes_of((name,), (values[:, None],)))


def _notes(found: Profile, zone: str | None, codes: Sequence[Code]) -> tuple[str, ...]:
    notes = []
    if found.counts.get("naive_time"):
        said = "give --time-zone, for example Europe/Berlin" if zone is None else "they are read in that zone"
        notes.append(f"{found.counts['naive_time']:,} times carry no offset: {said}")
    if found.without_time:
        notes.append(f"{found.without_time:,} readings have no time of their own and get their record's")
    if found.ahead:
        most = found.ahead * 2 > found.rows
        outcome = "" if most else ": dead letters (future_timestamp), and no part of the figures above"
        notes.append(
            f"{found.ahead:,} of {found.rows:,} readings are dated more than 5 min after their record's own time{outcome}"
        )
    if len(found.sites) > 1:
        notes.append(
            f"the payloads name {len(found.sites)} plants ({', '.join(found.sites[:5])}); one topic is one site here"
        )
    if found.rejects.get("waiting_for_birth"):
        notes.append(
            f"{found.rejects['waiting_for_birth']:,} messages wait for a Sparkplug birth: ask the edge nodes for a rebirth"
        )
    other = sum(n for reason, n in found.rejects.items() if reason != "waiting_for_birth")
    if other:
        why = ", ".join(f"{reason} {n:,}" for reason, n in found.rejects.items())
        notes.append(f"{other:,} of {found.messages:,} messages would be dead letters ({why})")
    if codes:
        notes.append(
            f"looks like a code for no reading, which hides the sensor behind its size: {told(codes)}; if it is one, take over the "
            "limits at the end of the configuration"
        )
    if found.cut:
        notes.append(
            "time or memory ran out before the whole sample was read; give it more --seconds or a smaller --sample"
        )
    return tuple(notes)


def configuration(
    found: Profile,
    kafka: KafkaConfig,
    site: str,
    zone: str | None,
    registry: str,
    notes: tuple[str, ...],
    codes: Sequence[Code],
) -> str:
    """TOML that ingests the topic. Valid ranges that leave out codes are comments: a sample of minutes says little of what is valid."""
    lines = [
        _comment(
            f"From `fedplant inspect {found.topic}`: {found.messages:,} messages, {len(found.assets):,} assets, "
            f"{len(found.sensors):,} sensors."
        ),
        *map(_comment, notes),
        "",
        "[project]",
        'name = "fleet"',
        'data_dir = "fedplant-data"',
        "",
        "[kafka]",
        *_keys(_changed(kafka)),
        "",
        "[[sites]]",
        *_keys({"name": site, "topic": found.topic}),
        "",
        "[ingestion]",
        *_keys(_ingestion(found, zone, registry)),
    ]
    for sensor in found.sensors:
        if states := _states(sensor):
            inside = ", ".join(f"{_text(name)} = {code}" for name, code in states.items())
            lines += [
                "",
                f"[ingestion.sensors.{_text(sensor.name)}]",
                "# as seen in the sample; add what else it can say",
                f"states = {{ {inside} }}",
            ]
    for name, each in groupby(codes, attrgetter("sensor")):
        same = list(each)
        lines += [
            "",
            _comment(f"{told(same)} looks like a code for no reading; if it is one, take away the # below"),
            _comment(f"[ingestion.sensors.{_text(name)}]"),
            *map(_comment, limits(same)),
        ]
    return "\n".join(lines) + "\n"


def _changed(kafka: KafkaConfig) -> dict[str, Any]:
    default = KafkaConfig()
    given = {name: getattr(kafka, name) for name in KafkaConfig.model_fields}
    changed = {name: value for name, value in given.items() if value != getattr(default, name)}
    if "request_timeout" in changed:
        changed["request_timeout"] = format_duration(changed["request_timeout"])
    return {"bootstrap": kafka.bootstrap, **changed}


def _ingestion(found: Profile, zone: str | None, registry: str) -> dict[str, Any]:
    values: dict[str, Any] = {"format": found.format, "window": format_duration(_window(found))}
    values["out_of_orderness"] = format_duration(_nice(found.disorder_most * 1.5))
    if found.ahead * 2 > found.rows and found.skew_highest is not None:
        values["max_future_skew"] = format_duration(math.ceil(found.skew_highest / 3600 + 1) * 3600)
    if found.largest_bytes > 1 << 20:
        values["max_message_bytes"] = min(100_000_000, 2 * found.largest_bytes)
    if zone:
        values["time_zone"] = zone
    if registry and found.format == "avro":
        values["schema_registry"] = registry
    return values


def _window(found: Profile) -> float:
    """Some hundred rows a partition, in round figures; a minute where the sample cannot say."""
    if not found.rows_a_second:
        return 60.0
    wanted = 100 * found.partitions / found.rows_a_second
    return float(min(_NICE, key=lambda length: abs(math.log(length / wanted))))


def _nice(seconds: float) -> float:
    return float(next((length for length in _NICE if length >= seconds), _NICE[-1]))


def _states(sensor: SensorProfile) -> dict[str, int]:
    """Codes for the texts of a sensor that says nothing else, in alphabetical order."""
    if sensor.values or len(sensor.texts) not in _STATES or not all(map(str.isprintable, sensor.texts)):
        return {}
    return {name: code for code, name in enumerate(sorted(sensor.texts))}


def _keys(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_text(value)}" for name, value in values.items()]


def _text(value: Any) -> str:
    """A TOML value; JSON's strings, numbers and booleans are TOML's too."""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def _comment(text: str) -> str:
    """One line whatever names are in it: anybody may have written them, and a line end would let them write settings."""
    return f"# {printable(text, keep='')}"
