"""Runs to scaled float32 TFRecord shards, one file per site and split, published all at once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.run import count_frames
from pipeline.datasets.snapshot import FORMAT_VERSION, Snapshot
from pipeline.datasets.survey import ReadSite, SiteOutcome, SitePart, site_part, survey

TRAIN, VALIDATION = "train", "validation"


class Scaling(Protocol):
    """What a site's scaling can do."""

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Scale `float64[N, F]` in sensor units; NaN stays NaN."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""


FitScaling = Callable[[NDArray[np.float64]], Scaling]


@dataclass(frozen=True)
class ShardPaths:
    """The two shards of a site and what is in them."""

    train: str
    validation: str
    train_frames: int
    validation_frames: int


@dataclass(frozen=True)
class Dataset:
    """A published snapshot on disk.

    Attributes:
      folder: where `manifest.json` and the shards lie.
      sensors: F names, sorted; the order of every value's columns.
      step_ns: grid spacing in ns.
      shards: by site, those that can train.
      scaling: by site, what `Scaling.to_dict` gave.
      outcomes: every site, also excluded ones.
      reused: it was complete before.
    """

    id: str
    folder: Path
    sensors: tuple[str, ...]
    step_ns: int
    max_gap_ns: int
    steps: int
    shards: Mapping[str, ShardPaths]
    scaling: Mapping[str, dict[str, Any]]
    outcomes: Mapping[str, SiteOutcome]
    reused: bool = False


def build_dataset(root: Path, snapshot: Snapshot, read_site: ReadSite, fit_scaling: FitScaling) -> Dataset:
    """Write the shards of a snapshot below `root/<id>`, or give the complete ones that are there.

    Args:
      root: the folder `<data>/datasets`.
      snapshot: which files and settings.
      read_site: gives the readings tables of a site; called up to twice for each.
      fit_scaling: fits a site's scaling on its training rows, `float64[N, F]`.

    Raises:
      NothingToDo: no site has readings.
      ConfigError: none of the wanted sensors exists, or step and gap contradict.
    """
    folder = root / snapshot.id
    done = load_dataset(folder)
    if done is not None:
        return done
    grid = survey(snapshot, read_site)
    root.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{snapshot.id}.", dir=root))
    try:
        sites: dict[str, Any] = {}
        for site in snapshot.sources:
            part = site_part(site, snapshot, read_site, grid)
            sites[site] = _write_site(work, part, snapshot.settings.steps, fit_scaling)
        manifest = {
            "format_version": FORMAT_VERSION,
            "snapshot": snapshot.to_json(),
            "sensors": list(grid.sensors),
            "step_ns": grid.step_ns,
            "max_gap_ns": grid.max_gap_ns,
            "steps": snapshot.settings.steps,
            "sites": sites,
        }
        _write_durably(work / "manifest.json", json.dumps(manifest, indent=1).encode())
        _publish(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    dataset = load_dataset(folder)
    assert dataset is not None
    return Dataset(**{**dataset.__dict__, "reused": False})


def load_dataset(folder: Path) -> Dataset | None:
    """Give the data set in `folder`; None if it is missing, half-written or of another format."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["format_version"] != FORMAT_VERSION:
            return None
        shards, scaling, outcomes = {}, {}, {}
        for site, entry in manifest["sites"].items():
            for name, size in entry["files"].items():
                if (folder / name).stat().st_size != size:
                    return None
            lists = {
                name: tuple(value) for name, value in entry["outcome"].items() if isinstance(value, list)
            }
            outcomes[site] = SiteOutcome(**{**entry["outcome"], **lists})
            if entry["outcome"]["excluded"] is None:
                train, validation = (
                    str(folder / f"{site}.{split}.tfrecord") for split in (TRAIN, VALIDATION)
                )
                shards[site] = ShardPaths(
                    train, validation, entry["train_frames"], entry["validation_frames"]
                )
                scaling[site] = entry["scaling"]
        return Dataset(
            id=manifest["snapshot"]["id"],
            folder=folder,
            sensors=tuple(manifest["sensors"]),
            step_ns=manifest["step_ns"],
            max_gap_ns=manifest["max_gap_ns"],
            steps=manifest["steps"],
            shards=shards,
            scaling=scaling,
            outcomes=outcomes,
            reused=True,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_site(work: Path, part: SitePart, steps: int, fit_scaling: FitScaling) -> dict[str, Any]:
    outcome = {"outcome": asdict(part.outcome)}
    if part.outcome.excluded is not None:
        return {**outcome, "files": {}}
    scaling = fit_scaling(np.concatenate([run.values for run in part.training]))
    files = {}
    for split, runs in ((TRAIN, part.training), (VALIDATION, part.validation)):
        name = f"{part.outcome.site}.{split}.tfrecord"
        write_shard(work / name, [scaling.apply(run.values) for run in runs])
        files[name] = (work / name).stat().st_size
    frames = [
        count_frames([len(run.values) for run in runs], steps=steps)
        for runs in (part.training, part.validation)
    ]
    return {
        **outcome,
        "files": files,
        "train_frames": frames[0],
        "validation_frames": frames[1],
        "scaling": scaling.to_dict(),
    }


def write_shard(path: Path, runs: Iterable[NDArray[np.float32]]) -> None:
    """Write runs `float32[N, F]`, one record each; infinities become NaN. The file is on disk when it returns."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for values in runs:
            finite = np.where(np.isfinite(values), values, np.nan)
            writer.write(np.ascontiguousarray(finite, dtype="<f4").tobytes())
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _publish(work: Path, folder: Path) -> None:
    if folder.exists():
        # Not complete, or `build_dataset` had returned it: what an interrupted process of older code left.
        shutil.rmtree(folder)
    try:
        work.rename(folder)
    except OSError:
        if load_dataset(folder) is None:
            raise
