"""The same configuration with some keys changed, checked as if a file had said so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.config.schema import Config, refusals
from pipeline.errors import ConfigError


def changed(config: Config, changes: Mapping[str, Mapping[str, Any]]) -> Config:
    """Give `config` with `changes`, by section and key; all others stay.

    Only sections that change are checked again: durations elsewhere are numbers by now.

    Raises:
      ConfigError: a key is unknown, or its value is refused; the message names it.
    """
    sections = {}
    for name, values in changes.items():
        old = getattr(config, name)
        unknown = sorted(set(values) - set(type(old).model_fields))
        if unknown:
            raise ConfigError(
                f"{name}.{unknown[0]}: unknown key; allowed here: {', '.join(sorted(type(old).model_fields))}"
            )
        try:
            sections[name] = type(old).model_validate({**old.model_dump(), **values})
        except ValidationError as error:
            raise ConfigError(
                "; ".join(_line(name, each) for each in error.errors(include_url=False))
            ) from None
    found = config.model_copy(update=sections)
    for reason in refusals(found.dataset, found.model, found.training, found.detector):
        raise ConfigError(reason)
    return found


def _line(section: str, problem: Any) -> str:
    key = ".".join([section, *(str(part) for part in problem["loc"][:1])])
    told = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
    return f"{key}{told}: {problem['msg'].removeprefix('Value error, ')}"
