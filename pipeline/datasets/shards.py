"""Runs to scaled float32 TFRecord shards, one file per site and split, published all at once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.fleet_scaling import FleetScales
from models.logarithms import floor_of, named_sensors
from models.scaling import SensorScaling, moments
from pipeline.datasets.parts import counters, parts_of_sites
from pipeline.datasets.run import count_frames
from pipeline.datasets.snapshot import FORMAT_VERSION, DatasetSettings, Snapshot
from pipeline.datasets.survey import ReadSite, SiteOutcome, SitePart

TRAIN, VALIDATION = "train", "validation"


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
      max_gap_ns, hold_ns: longest silence within a run, and by sensor how long its last value counts, in ns.
      shards: by site, those that can train.
      scaling: by site, the one its shards are written in, as `SensorScaling.to_dict` gives it.
      own_scaling: by site, the one of its rows alone; the same without `DatasetSettings.share_scale`.
      outcomes: every site, also excluded ones.
      unknown, finer_ns: sensors that no site sends, and sites of which not all readings are looked at (`pipeline.datasets.survey.Grid`).
      reused: it was complete before.
    """

    id: str
    folder: Path
    sensors: tuple[str, ...]
    step_ns: int
    max_gap_ns: int
    hold_ns: tuple[int, ...]
    steps: int
    shards: Mapping[str, ShardPaths]
    scaling: Mapping[str, dict[str, Any]]
    own_scaling: Mapping[str, dict[str, Any]]
    outcomes: Mapping[str, SiteOutcome]
    reused: bool = False
    unknown: tuple[str, ...] = ()
    finer_ns: Mapping[str, int] = field(default_factory=dict)


def build_dataset(root: Path, snapshot: Snapshot, read_site: ReadSite) -> Dataset:
    """Write the shards of a snapshot below `root/<id>`, or give the complete ones that are there.

    Args:
      root: the folder `<data>/datasets`.
      snapshot: which files and settings.
      read_site: gives the readings tables of a site; called two or three times for each, and twice more where sensors count.

    Raises:
      NothingToDo: no site has readings.
      ConfigError: none of the wanted sensors exists, or step and gap contradict.
    """
    folder = root / snapshot.id
    done = load_dataset(folder)
    # Releases that kept counters gave their data sets the same names.
    if done is not None and not counters(done.outcomes.values(), done.sensors, snapshot.settings):
        return done
    grid, parts = parts_of_sites(snapshot, read_site)
    root.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{snapshot.id}.", dir=root))
    try:
        scaling = _scalings(parts, grid.sensors, snapshot.settings)
        sites = {
            site: _write_site(work, part, snapshot.settings.steps, scaling.get(site))
            for site, part in parts.items()
        }
        manifest = {
            "format_version": FORMAT_VERSION,
            "snapshot": snapshot.to_json(),
            "sensors": list(grid.sensors),
            "step_ns": grid.step_ns,
            "max_gap_ns": grid.max_gap_ns,
            "hold_ns": list(grid.hold_ns),
            "steps": snapshot.settings.steps,
            "unknown": list(grid.unknown),
            "finer_ns": dict(grid.finer_ns),
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
        shards, scaling, own, outcomes = {}, {}, {}, {}
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
                own[site] = entry["own_scaling"]
        return Dataset(
            id=manifest["snapshot"]["id"],
            folder=folder,
            sensors=tuple(manifest["sensors"]),
            step_ns=manifest["step_ns"],
            max_gap_ns=manifest["max_gap_ns"],
            hold_ns=tuple(manifest["hold_ns"]),
            steps=manifest["steps"],
            shards=shards,
            scaling=scaling,
            own_scaling=own,
            outcomes=outcomes,
            reused=True,
            # Releases before told neither.
            unknown=tuple(manifest.get("unknown", ())),
            finer_ns=manifest.get("finer_ns", {}),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _scalings(
    parts: Mapping[str, SitePart], sensors: Sequence[str], settings: DatasetSettings
) -> dict[str, tuple[SensorScaling, SensorScaling]]:
    """By site that can train, its scaling and that of its rows alone."""
    # Also of what validation sees: it holds a network back from its own rows, not a site from its latest mean.
    runs = {
        site: [run.values for run in (*part.training, *part.validation)]
        for site, part in parts.items()
        if part.outcome.excluded is None
    }
    named = named_sensors(sensors, settings.logarithms)
    floor = {
        site: floor_of(of_site, named) if settings.logarithms else None for site, of_site in runs.items()
    }
    if settings.share_scale:
        fleet = FleetScales.of(runs, len(sensors), floor)
        return {site: (fleet.beside(site, own), own.scaling()) for site, own in fleet.known.items()}
    alone = {site: moments(of_site, len(sensors), floor[site]).scaling() for site, of_site in runs.items()}
    return {site: (own, own) for site, own in alone.items()}


def _write_site(
    work: Path, part: SitePart, steps: int, scalings: tuple[SensorScaling, SensorScaling] | None
) -> dict[str, Any]:
    told = asdict(part.outcome)
    if not part.outcome.touched:
        # As of releases that left nothing out: their manifests are still those of these settings.
        del told["left_out"], told["fragments"], told["touched"]
    outcome = {"outcome": told}
    if scalings is None:
        return {**outcome, "files": {}}
    scaling, alone = scalings
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
        "own_scaling": alone.to_dict(),
    }


def alone_shards(dataset: Dataset, site: str, folder: Path) -> ShardPaths:
    """The shards of a site as they would be without the other sites: in the scaling of its rows alone, written to `folder` if that differs.

    Exact but for rounding, and for values beyond the clipping of a scale that others made smaller.
    """
    import tensorflow as tf

    now, alone = (SensorScaling.from_dict(of[site]) for of in (dataset.scaling, dataset.own_scaling))
    paths = dataset.shards[site]
    if np.array_equal(now.scale, alone.scale) and np.array_equal(now.mean, alone.mean):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for split, path in ((TRAIN, paths.train), (VALIDATION, paths.validation)):
        records = tf.data.TFRecordDataset(path).as_numpy_iterator()
        runs = (np.frombuffer(record, "<f4").reshape(-1, len(now.scale)) for record in records)
        written[split] = str(folder / f"{site}.{split}.tfrecord")
        # What is scaled back is what was scaled: logarithms already, where they are taken.
        again = replace(alone, floor=None)
        write_shard(Path(written[split]), (again.apply(run * now.scale + now.mean) for run in runs))
    return replace(paths, train=written[TRAIN], validation=written[VALIDATION])


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
