"""One file per payload format behind one batch interface: records in, one columnar table and the rejects out.

A decoder may remember what it has learned of one partition's payloads; it never raises for what a record holds.
"""

from typing import Protocol

from ingestion.decode.flat import FlatJson
from ingestion.errors import InputDataError
from ingestion.records import Decoded, RecordBatch
from ingestion.settings import IngestSettings

__all__ = ["Decoder", "build_decoder"]


class Decoder(Protocol):
    """What every payload format offers."""

    def decode(self, batch: RecordBatch) -> Decoded:
        """Turn a batch into a readings table plus rejects; every record ends in exactly one of the two."""
        ...


def build_decoder(settings: IngestSettings) -> Decoder:
    """The decoder for one partition, by `settings.decode.format`. Raises InputDataError for an unknown format."""
    if settings.decode.format == "flat":
        return FlatJson(settings.decode, settings.event_time, settings.limits)
    raise InputDataError(f"format = {settings.decode.format!r}: expected 'flat'")
