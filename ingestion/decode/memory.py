"""What a decoder must still know after a restart: one small JSON file per partition.

It is written, synced and renamed into place inside `decode`, so before any reading that depends on it can reach a window
file and before the source offset behind it can be committed. Names are those of the configured site and topic.
"""

import os
from pathlib import Path
from typing import Any

import orjson

from ingestion.errors import StorageError
from ingestion.records import RecordBatch
from ingestion.settings import check_name


class Memory:
    """The file `<data>/decoders/<site>/<topic>/p<partition>.json`."""

    def __init__(self, data_dir: Path, batch: RecordBatch, learned_from: Path | None = None) -> None:
        place = Path("decoders", check_name("site", batch.site), check_name("topic", batch.topic))
        self.path = data_dir / place / f"p{batch.partition}.json"
        self._other = learned_from / place / self.path.name if learned_from else None

    def load(self) -> dict[str, Any]:
        """What was saved, else what the other data folder knows, else empty. Raises StorageError if a file is unreadable or damaged."""
        found = _read(self.path)
        if found is None and self._other is not None:
            found = _read(self._other)
        return found or {}

    def save(self, content: dict[str, Any]) -> None:
        """Replace the file durably. Raises StorageError."""
        draft = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(orjson.dumps(content))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StorageError(f"{self.path}: {error}") from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, orjson.JSONDecodeError) as error:
        raise StorageError(f"{path}: {error}; restore it, or remove it to learn births again") from error
    return found if isinstance(found, dict) else {}
