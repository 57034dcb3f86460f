"""What the federation is called and where its files lie: the `[project]` table."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from pipeline.config.names import NAME, NAME_RULE
from pipeline.config.section import Section


class ProjectConfig(Section):
    """What this federation is called and where its files lie."""

    name: str = Field("fleet", description="Name of the detector; a folder name in `<data_dir>/detectors/`.")
    data_dir: Path = Field(
        Path("fedplant-data"),
        description="Folder for windows, data sets, checkpoints, runs and detectors; relative to this file.",
    )
    keep_work: int = Field(
        3,
        ge=1,
        description="So many of the newest runs keep their data set and checkpoints; of older ones only the results stay.",
    )

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.match(value):
            raise ValueError(f"a name is {NAME_RULE}")
        return value
