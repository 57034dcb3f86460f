"""How a historian's export is laid out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """What an export calls its special columns (every other numeric one is a sensor) and how it writes time.

    `time_format` is in the letters of `strptime`, None for ISO 8601 or numbers; `time_zone` is the IANA zone of times that carry
    no offset. `sensor` and `value`, both or neither: a row is one reading of the sensor that it names, and no other column is one.
    `quality`, if any: rows of an OPC quality below `min_quality` hold no values (`ingestion.quality`).
    """

    timestamp: str = "timestamp"
    asset: str = "asset"
    label: str = "label"
    time_format: str | None = None
    time_zone: str = "UTC"
    sensor: str | None = None
    value: str | None = None
    quality: str | None = None
    min_quality: int = 64

    def __post_init__(self) -> None:
        """Refuse half of a pair."""
        if (self.sensor is None) != (self.value is None):
            raise ValueError("the column that names the sensor and the one that holds its value go together")


USUAL = Layout()
