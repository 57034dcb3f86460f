"""What long-running commands show to the outside: the `[monitoring]` table."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.section import Section


class MonitoringConfig(Section):
    """What long-running commands show to the outside (docs/reference/metrics.md)."""

    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port for Prometheus metrics; 0 takes any free one; default: none served.",
    )
    metrics_address: str = Field("127.0.0.1", description="Address they are served on; `0.0.0.0` for all.")
    log_json: bool = Field(
        False, description="JSON lines instead of text and progress bars on standard error."
    )
