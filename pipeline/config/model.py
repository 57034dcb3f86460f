"""The network: the `[model]` table."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.section import Section


class ModelConfig(Section):
    """What is learned."""

    architecture: Literal["tcn", "autoencoder"] = Field(
        "tcn",
        description="`tcn`: causal convolutional forecaster; `autoencoder`: dense autoencoder of whole frames.",
    )
    steps: int = Field(64, ge=4, le=4096, description="Length of a frame, in steps of the grid.")
    channels: int = Field(64, ge=2, le=1024, description="Width of the TCN.")
    dilations: list[int] = Field([1, 2, 4, 8], description="Dilations of the TCN's layers.", min_length=1)
    hidden: list[int] = Field(
        [128, 32], description="Widths of the autoencoder's encoder; the decoder mirrors it."
    )

    @model_validator(mode="after")
    def _can_be_built(self) -> ModelConfig:
        if min(self.dilations) < 1:
            raise ValueError(f"dilations {self.dilations}: expected whole numbers from 1 on")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden {self.hidden}: expected one width or more, from 1 on")
        return self

    def too_short(self) -> str | None:
        """Why a network cannot be made for frames of so few steps, if so."""
        context = 1 + 2 * sum(self.dilations)
        if self.architecture != "tcn" or context < self.steps:
            return None
        return f"model.steps {self.steps} must exceed the TCN's receptive field {context} (1 + 2 x sum of dilations)"
