"""Names that a configuration gives: sites, topics, consumer groups, machines, recipes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from ingestion.settings import GROUP, GROUP_RULE

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\Z")
NAME_RULE = "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 121 characters"


def _usable_group(value: str) -> str:
    if not GROUP.fullmatch(value):
        raise ValueError(f"a consumer group's name is {GROUP_RULE}")
    return value


def _usable_recipe(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", value):
        raise ValueError(
            "a recipe's name is letters, digits, '_' and '-', starting with a letter or digit, at most 61 characters"
        )
    return value


GroupName = Annotated[str, AfterValidator(_usable_group)]
RecipeName = Annotated[str, AfterValidator(_usable_recipe)]
AssetName = Annotated[str, Field(min_length=1, max_length=256)]
