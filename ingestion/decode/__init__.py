"""One file per payload format behind one batch interface: records in, one columnar table and the rejects out.

A decoder may remember what it has learned of one partition's payloads; it never raises for what a record holds.
"""

from importlib import import_module
from typing import Protocol

from ingestion.decode.flat import FlatJson
from ingestion.errors import InputDataError
from ingestion.records import Decoded, RecordBatch
from ingestion.settings import IngestSettings

__all__ = ["FORMATS", "Decoder", "build_decoder"]

_BUILDERS = {
    "narrow": "narrow",
    "csv": "csvlines",
    "sparkplug": "sparkplug",
    "opcua": "opcua",
    "uns": "uns",
    "edgex": "edgex",
    "avro": "avro",
    "auto": "auto",
}
FORMATS = ("flat", *_BUILDERS)


class Decoder(Protocol):
    """What every payload format offers."""

    def decode(self, batch: RecordBatch) -> Decoded:
        """Turn a batch into a readings table plus rejects; every record ends in exactly one of the two."""
        ...


def build_decoder(settings: IngestSettings) -> Decoder:
    """The decoder for one partition, by `settings.decode.format`.

    Raises InputDataError for an unknown format, or a `module:function` that cannot be loaded.
    """
    name = settings.decode.format
    if settings.decode.mapped:
        return import_module("ingestion.decode.mapped").Mapped(settings)  # type: ignore[no-any-return]
    if name == "flat":
        return FlatJson(settings.decode, settings.event_time, settings.limits)
    if ":" in name:
        return import_module("ingestion.decode.custom").build(settings)  # type: ignore[no-any-return]
    if name in _BUILDERS:
        return import_module(f"ingestion.decode.{_BUILDERS[name]}").build(settings)  # type: ignore[no-any-return]
    raise InputDataError(
        f"format = {name!r}: expected one of {', '.join(FORMATS)}, or 'module:function' for your own"
    )
