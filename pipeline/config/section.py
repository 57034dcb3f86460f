"""What all sections of the configuration share."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, true and false are no numbers, and values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        told = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, bool)]
        if told and info.field_name is not None:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if kinds & {int, float} and bool not in kinds:
                raise ValueError(f"{str(told[0]).lower()} is not a number; write one")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """Every type that an annotation is made of."""
    return {annotation}.union(*(_kinds(each) for each in get_args(annotation)))
