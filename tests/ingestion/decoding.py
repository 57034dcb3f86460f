"""What the decoder tests share: a batch from bytes, a decoder by its configured name, rows without their empty cells."""

from pathlib import Path
from typing import Any

import numpy as np

from ingestion.decode import Decoder, build_decoder
from ingestion.records import Decoded, RecordBatch
from ingestion.settings import DecodeRules, IngestSettings, Site

NOW_MS = 1_790_000_000_000
WORKING = ("flat", "narrow", "csv", "sparkplug", "opcua", "uns", "edgex")


def batch_of(*values: bytes | tuple[str, bytes] | None, first: int = 0, topic: str = "t") -> RecordBatch:
    """Values, or pairs of key and value, at offsets from `first` on."""
    pairs = [value if isinstance(value, tuple) else (None, value) for value in values]
    size = len(pairs)
    return RecordBatch(
        "plant",
        topic,
        0,
        np.arange(first, first + size),
        np.full(size, NOW_MS),
        [key.encode() if key else None for key, _ in pairs],
        [value for _, value in pairs],
        first + size,
    )


def decoder(name: str, folder: Path, **rules: Any) -> Decoder:
    return build_decoder(
        IngestSettings((Site("plant"),), "none:0", folder, decode=DecodeRules(format=name, **rules))
    )


def rows(decoded: Decoded) -> list[dict[str, Any]]:
    """Rows with time as ns since 1970 and without what is null."""
    found = decoded.readings.to_pylist()
    for row in found:
        row["event_time"] = row["event_time"].value
    return [{name: value for name, value in row.items() if value is not None} for row in found]


def reasons(decoded: Decoded) -> list[tuple[int, str]]:
    return [(reject.index, reject.reason) for reject in decoded.rejects]
