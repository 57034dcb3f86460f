"""What an ingestion is told: sites, cluster, event-time rules, decoding rules and bounds. Values only, no behaviour."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingestion.errors import InputDataError
from ingestion.mapping import SensorRule

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
GROUP = re.compile(r"[ -~]{1,1000}")
"""Names of groups that can be used: librdkafka takes no others into a transaction ("Input buffer group id is not safe")."""
GROUP_RULE = "1-1000 printable ASCII characters"


def check_name(kind: str, name: str) -> str:
    """Return `name` if it can be a folder and a topic part; raises InputDataError otherwise (so it cannot leave the data folder)."""
    if not _NAME.fullmatch(name):
        raise InputDataError(
            f"{kind} {name!r} cannot be used: expected 1-200 of letters, digits, '.', '_', '-', not starting with '.'; rename it"
        )
    return name


@dataclass(frozen=True)
class Site:
    """One plant: its name and the topics its readings come from, and where what cannot be kept goes."""

    name: str
    topic: str = ""
    dead_letter_topic: str = ""
    late_topic: str = ""

    def __post_init__(self) -> None:
        check_name("site", self.name)
        for attribute, ending in (
            ("topic", "telemetry.v1"),
            ("dead_letter_topic", "dlq"),
            ("late_topic", "late"),
        ):
            value = getattr(self, attribute) or f"iiot.{self.name}.{ending}"
            object.__setattr__(self, attribute, check_name("topic", value))


@dataclass(frozen=True)
class EventTimeRules:
    """When a reading was measured, and when a window is over. All durations in seconds.

    `unit` is how numeric timestamps are read: `auto` tells s, ms, us and ns apart by magnitude. `zone` is the IANA zone of
    text timestamps without an offset; without it such text is refused. `earliest_year` is the first plausible year.
    """

    window: float = 60.0
    out_of_orderness: float = 5.0
    allowed_lateness: float = 24 * 3600.0
    max_future_skew: float = 3600.0
    idle_timeout: float = 30.0
    unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    zone: str | None = None
    earliest_year: int = 1990

    def __post_init__(self) -> None:
        if not 0.001 <= self.window <= 7 * 86400:
            raise InputDataError(f"window = {self.window} s: expected 0.001 s to 7 days")
        for name in ("out_of_orderness", "allowed_lateness", "max_future_skew", "idle_timeout"):
            if getattr(self, name) < 0:
                raise InputDataError(f"{name} = {getattr(self, name)} s: expected zero or more")
        if self.zone is not None:
            try:
                ZoneInfo(self.zone)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise InputDataError(
                    f"zone = {self.zone!r}: expected an IANA time zone such as 'Europe/Berlin'"
                ) from error


@dataclass(frozen=True)
class DecodeRules:
    """How values become sensors. `sensors` is the declared set, empty if all are welcome; `unknown_sensors` says what then
    happens to others: `keep`, `drop` (counted) or `reject` (the message becomes a dead letter). `format` is one of
    `ingestion.decode.FORMATS` or a user's `module:function`; `schema_registry` is a folder or an http(s) address, for Avro.
    `mapping` holds by site the rules of its sensors, by the names as sent, `assets` new names of machines; `min_quality` is the lowest OPC quality of values that
    are kept; `learned_from` is another data folder whose births and recognised formats hold where this one's has none; `states` are the text values that decoders turn into numbers (sensor -> text -> code), taken from `mapping`."""

    format: str = "flat"
    schema_registry: str = ""
    sensors: tuple[str, ...] = ()
    unknown_sensors: Literal["keep", "drop", "reject"] = "keep"
    max_sensors: int = 2000
    mapping: Mapping[str, Mapping[str, SensorRule]] = field(default_factory=dict)
    assets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    min_quality: int | None = None
    learned_from: Path | None = None
    states: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def mapped(self) -> bool:
        """Whether readings change between decoding and windowing."""
        return bool(self.mapping or self.assets) or self.min_quality is not None


@dataclass(frozen=True)
class Limits:
    """Bounds on memory and time. Sizes in bytes, times in seconds.

    `session_timeout` is how long a killed member holds its partitions; a broker's `group.min.session.timeout.ms` bounds it below.
    `metadata_interval` is how long partitions added to a topic may go unnoticed.
    """

    max_message_bytes: int = 1 << 20
    max_rows_per_message: int = 50_000
    max_buffered_bytes: int = 64 << 20
    max_queued_bytes: int = 24 << 20
    commit_interval: float = 1.0
    broker_timeout: float = 30.0
    session_timeout: float = 10.0
    metadata_interval: float = 30.0


@dataclass(frozen=True)
class Intake:
    """What reading the sites' topics takes, whatever becomes of the readings: which sites, which cluster, which rules.

    `client` holds the connection in kafka-python's option names (security_protocol, ssl_*, sasl_*; see `ingestion.clients`).
    """

    sites: tuple[Site, ...]
    bootstrap: str
    client: Mapping[str, Any] = field(default_factory=dict, repr=False, kw_only=True)
    event_time: EventTimeRules = field(default=EventTimeRules(), kw_only=True)
    decode: DecodeRules = field(default=DecodeRules(), kw_only=True)
    limits: Limits = field(default=Limits(), kw_only=True)

    def __post_init__(self) -> None:
        if not self.sites:
            raise InputDataError("no site given: name at least one site to ingest")
        for attribute in ("name", "topic"):
            values = [getattr(site, attribute) for site in self.sites]
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                raise InputDataError(f"site {attribute} {twice[0]!r} is used twice: each site needs its own")

    def shared(self) -> dict[str, Any]:
        """These values by name, for settings of another kind that read the same."""
        return {each.name: getattr(self, each.name) for each in fields(Intake)}


@dataclass(frozen=True)
class IngestSettings(Intake):
    """Everything one ingestion needs.

    `close_open` closes what is still open when `until="end"` is reached; rows that come later become addenda.
    `accept_gap` and `new_topic` are the operator's answers to a ContinuityError.
    """

    data_dir: Path
    group_id: str = "fedplant"
    close_open: bool = False
    accept_gap: bool = False
    new_topic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not GROUP.fullmatch(self.group_id):
            raise InputDataError(
                f"group {self.group_id[:80]!r} cannot be used: expected {GROUP_RULE}; rename it"
            )
