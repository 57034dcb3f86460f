"""From windows to frames: the `[dataset]` table."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.durations import Seconds
from pipeline.config.instants import Instant
from pipeline.config.leaveout import LookedAt, Stretches
from pipeline.config.section import Section


class DatasetConfig(Section):
    """From windows to frames."""

    step: Seconds | Literal["auto"] = Field(
        "auto",
        description="Grid that readings are brought to; `auto` takes the median spacing of the readings of a sensor.",
    )
    max_gap: Seconds | Literal["auto"] = Field(
        "auto",
        description="When a machine says nothing for longer, its run ends. `auto` is 5 steps.",
    )
    hold: Seconds | Literal["auto"] = Field(
        "auto",
        description="The last value of a sensor counts this long, at least `max_gap`, while others of its machine report. `auto`: "
        "each sensor's is five times the spacing that is usual for it, so that slow sensors and those that report changes only are known.",
    )
    train_until: Instant | None = Field(
        None,
        description="Only readings before this instant are learned from (without an offset it is in `ingestion.time_zone`, else UTC); default: all.",
    )
    validation: float = Field(
        0.2, gt=0, le=0.5, description="Last share of each site's time kept for validation."
    )
    sensors: list[str] | None = Field(None, description="Sensors to use; default: all that any site sends.")
    exclude: list[str] = Field(default_factory=list, description="Sensors to leave out.")
    counters: Literal["leave_out", "keep"] = Field(
        "leave_out",
        description="Sensors that only rise or only fall in the training (pieces, operating hours, energy) at more than half of the sites "
        "at which they move. `leave_out`: as if `exclude` named them, unless `sensors` does; `keep`: learned from like any other, though "
        "what they show later was never learned.",
    )
    leave_out: Stretches = Field(
        default_factory=list,
        description="Stretches of time that are not learned from, one `[[dataset.leave_out]]` each; see below.",
    )
    looked_at: LookedAt = Field(
        default_factory=list,
        description="Stretches of time that were looked at and are ordinary, one `[[dataset.looked_at]]` each; see below.",
    )
    share_scale: bool = Field(
        True,
        description="Sites with little history are scaled with help of what the same sensors are like at the others, from one "
        "sum over the sites; sensors in other units or ranges take nothing over. `false`: scales stay with their site.",
    )

    @model_validator(mode="after")
    def _takes_time(self) -> DatasetConfig:
        for name in ("step", "max_gap"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} is 0; give a duration such as '10s', or 'auto'")
        return self
