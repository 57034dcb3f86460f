"""A data folder has a name of its own, so that what a group has read into another one is not taken for what is here."""

import os
import secrets
from pathlib import Path

from ingestion.errors import StorageError
from ingestion.syncing import sync_folder

_FILE = "folder-id"


def folder_id(data_dir: Path) -> str:
    """16 hex digits, made and synced the first time; of several processes at once the first one's count. Raises StorageError."""
    path = data_dir / _FILE
    try:
        if not path.exists():
            _make(path)
        found = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: {error}") from error
    if not found.isalnum():
        raise StorageError(f"{path}: damaged; restore it, or remove it and set ingestion.group to a new name")
    return found


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with draft.open("w", encoding="ascii") as file:
            file.write(secrets.token_hex(8) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
