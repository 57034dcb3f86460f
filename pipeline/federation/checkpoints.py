"""Checkpoints of a training: one file a round, checked on reading, without pickle."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Checkpoint:
    """State after `round` (flat arrays), the best weights so far, and JSON-safe `progress`."""

    round: int
    state: Sequence[Any]
    best_weights: Sequence[Any]
    progress: Mapping[str, Any]


class CheckpointStore:
    """Checkpoints of one training in `folder`; `fingerprint` tells trainings apart, another one's files are not read."""

    def __init__(self, folder: Path, fingerprint: str, keep: int) -> None:
        """Use `folder`, which is created when needed; the latest `keep` rounds stay.

        What lies there of later rounds than the one saved last is damaged or another training's, and goes.
        """
        self.folder, self.fingerprint, self.keep = folder, fingerprint, keep

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint atomically and durably, then drop what need not stay."""
        self.folder.mkdir(parents=True, exist_ok=True)
        meta = {
            "round": checkpoint.round,
            "fingerprint": self.fingerprint,
            "state": len(checkpoint.state),
            "progress": checkpoint.progress,
        }
        arrays = {f"a{i}": np.asarray(v) for i, v in enumerate([*checkpoint.state, *checkpoint.best_weights])}
        buffer = io.BytesIO()
        np.savez(buffer, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
        content = buffer.getvalue()
        path = self._path(checkpoint.round)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        kept = {self._path(checkpoint.round - earlier) for earlier in range(self.keep)}
        for other in set(self.folder.glob("round-*.ckpt")) - kept:
            other.unlink(missing_ok=True)

    def latest(self) -> Checkpoint | None:
        """Give the newest whole checkpoint of this training; damaged files are passed over."""
        for path in sorted(self.folder.glob("round-*.ckpt"), reverse=True):
            checkpoint = self._read(path)
            if checkpoint is not None:
                return checkpoint
        return None

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number:06d}.ckpt"

    def _read(self, path: Path) -> Checkpoint | None:
        content = path.read_bytes()
        if len(content) < 32 or hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        with np.load(io.BytesIO(content[32:]), allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes())
            arrays = [file[f"a{i}"] for i in range(len(file.files) - 1)]
        if meta["fingerprint"] != self.fingerprint:
            return None
        size = meta["state"]
        return Checkpoint(meta["round"], arrays[:size], arrays[size:], meta["progress"])
