"""Stretches of time that learning does not see: `[[dataset.leave_out]]`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from pipeline.config.instants import Instant
from pipeline.config.section import Section
from pipeline.datasets.leaveout import matches
from pipeline.errors import ConfigError


def _usable_pattern(value: str) -> str:
    if not value.strip():
        raise ValueError(
            "an empty name; give names or patterns such as 'press-*', or leave the key out for all"
        )
    return value


Pattern = Annotated[str, AfterValidator(_usable_pattern)]


class LeaveOutConfig(Section):
    """A stretch of time in which a machine was known not to run as it should. Its readings are left out of all that is learned, and are scored like any others."""

    begin: Instant = Field(
        alias="from",
        description="The first instant that is left out (without an offset it is in `ingestion.time_zone`, else UTC).",
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
    def _goes_forward(self) -> LeaveOutConfig:
        if not self.begin < self.to:
            raise ValueError(
                f"to = {self.to:%Y-%m-%d %H:%M:%S} UTC is not after from = {self.begin:%Y-%m-%d %H:%M:%S} UTC"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found = handler(self)
        return {"from": found.pop("begin"), **found}


def _several(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError(
            "one table; write [[dataset.leave_out]] in two pairs of brackets, once for each stretch"
        )
    return value


Stretches = Annotated[list[LeaveOutConfig], BeforeValidator(_several)]


def refuse_unknown_sites(leave_out: Sequence[LeaveOutConfig], sites: Iterable[str]) -> None:
    """Raise ConfigError if a name or pattern of a site matches none of `sites`."""
    known = sorted(set(sites))
    for number, stretch in enumerate(leave_out):
        for pattern in stretch.sites or ():
            if not any(matches(site, (pattern,)) for site in known):
                raise ConfigError(
                    f"dataset.leave_out.{number}.sites: {pattern!r} matches no site (capitals matter); there are {', '.join(known)}"
                )
