"""Stretches of time: those that learning does not see, `[[dataset.leave_out]]`, and those that were looked at, `[[dataset.looked_at]]`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from pipeline.config.instants import Instant
from pipeline.config.section import Section
from pipeline.datasets.leaveout import matches
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.dataset import DatasetConfig

TABLES = ("leave_out", "looked_at")
"""Keys of `[dataset]` that hold stretches of time."""


def _usable_pattern(value: str) -> str:
    if not value.strip():
        raise ValueError(
            "an empty name; give names or patterns such as 'press-*', or leave the key out for all"
        )
    return value


Pattern = Annotated[str, AfterValidator(_usable_pattern)]


class StretchConfig(Section):
    """A stretch of time of some machines."""

    begin: Instant = Field(
        alias="from",
        description="Its first instant (without an offset it is in `ingestion.time_zone`, else UTC).",
    )
    to: Instant = Field(description="The first instant behind it, later than `from`.")
    sites: list[Pattern] | None = Field(
        None,
        min_length=1,
        description="Sites that it is of, as names or patterns (`press-*`; `*`, `?`, `[ab]`; capitals matter); default: all.",
    )
    assets: list[Pattern] | None = Field(
        None,
        min_length=1,
        description="Machines that it is of, as names or patterns; default: all of these sites.",
    )
    note: str | None = Field(None, description="What happened; decides nothing.")

    @model_validator(mode="after")
    def _goes_forward(self) -> StretchConfig:
        if not self.begin < self.to:
            raise ValueError(
                f"to = {self.to:%Y-%m-%d %H:%M:%S} UTC is not after from = {self.begin:%Y-%m-%d %H:%M:%S} UTC"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found = handler(self)
        return {"from": found.pop("begin"), **found}


class LeaveOutConfig(StretchConfig):
    """A stretch of time in which a machine was known not to run as it should. Its readings are left out of all that is learned, and are scored like any others."""


class LookedAtConfig(StretchConfig):
    """A stretch of time that somebody looked at and found ordinary. It is learned from as ever; what stands out of the training for at least half of its time in such
    stretches is counted, but not named again. It changes neither data set nor detector, so that nothing is trained again for it."""


def _several(value: Any, of: ValidationInfo) -> Any:
    if isinstance(value, dict):
        raise ValueError(
            f"one table; write [[dataset.{of.field_name}]] in two pairs of brackets, once for each stretch"
        )
    return value


Stretches = Annotated[list[LeaveOutConfig], BeforeValidator(_several)]
LookedAt = Annotated[list[LookedAtConfig], BeforeValidator(_several)]


def refuse_unknown_sites(dataset: DatasetConfig, sites: Iterable[str]) -> None:
    """Raise ConfigError if a name or pattern of a site in one of the `TABLES` matches none of `sites`."""
    known = sorted(set(sites))
    for table in TABLES:
        stretches: Sequence[StretchConfig] = getattr(dataset, table)
        for number, stretch in enumerate(stretches):
            for pattern in stretch.sites or ():
                if not any(matches(site, (pattern,)) for site in known):
                    raise ConfigError(
                        f"dataset.{table}.{number}.sites: {pattern!r} matches no site (capitals matter); there are {', '.join(known)}"
                    )
