"""Runs to scaled float32 TFRecord shards, one file per site and split, published all at once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.datasets.frames import count_frames
from pipeline.datasets.resample import infer_step_ns, resample_site, sensor_names
from pipeline.datasets.run import Run
from pipeline.datasets.snapshot import FORMAT_VERSION, Snapshot
from pipeline.errors import ConfigError, NothingToDo

TRAIN, VALIDATION = "train", "validation"
ReadSite = Callable[[str], Iterable[pa.Table]]


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
class SiteOutcome:
    """What became of a site: `excluded` is None if it can train, else the reason. `constant` sensors never change.

    `end_ns` is the grid time of its last row, ns since 1970 UTC; 0 without rows.
    """

    site: str
    readings: int
    runs: int
    train_rows: int
    validation_rows: int
    excluded: str | None = None
    constant: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    end_ns: int = 0


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


def split_runs(runs: Sequence[Run], validation: float, steps: int) -> tuple[list[Run], list[Run]]:
    """Split in time: rows after the instant that leaves the last `validation` share of all rows are for validation.

    No row is in both. When the last part holds no frame of `steps`, all runs are for training and validation is empty.
    """
    if not runs:
        return [], []
    times = np.sort(np.concatenate([run.times_ns for run in runs]))
    cut = int(times[min(len(times) - 1, int(np.ceil(len(times) * (1 - validation))))])
    before, after = [], []
    for run in runs:
        rows = run.steps_before(cut)
        if rows:
            before.append(Run(run.site, run.asset, run.start_ns, run.step_ns, run.values[:rows]))
        if rows < len(run.values):
            start = run.start_ns + rows * run.step_ns
            after.append(Run(run.site, run.asset, start, run.step_ns, run.values[rows:]))
    if count_frames([len(run.values) for run in after], steps=steps) == 0:
        return list(runs), []
    return before, after


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
    settings = snapshot.settings
    step_ns, sensors = _survey(snapshot, read_site)
    max_gap_ns = settings.max_gap_ns if settings.max_gap_ns is not None else 5 * step_ns
    root.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{snapshot.id}.", dir=root))
    try:
        sites: dict[str, Any] = {}
        for site in snapshot.sources:
            site_runs = resample_site(
                site,
                read_site(site),
                step_ns=step_ns,
                max_gap_ns=max_gap_ns,
                sensors=sensors,
                until_ns=settings.until_ns,
            )
            sites[site] = _write_site(
                work, site, site_runs.runs, site_runs.readings, sensors, snapshot, fit_scaling
            )
        manifest = {
            "format_version": FORMAT_VERSION,
            "snapshot": snapshot.to_json(),
            "sensors": list(sensors),
            "step_ns": step_ns,
            "max_gap_ns": max_gap_ns,
            "steps": settings.steps,
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
            fields = {**entry["outcome"]}
            fields["constant"], fields["silent"] = tuple(fields["constant"]), tuple(fields["silent"])
            outcomes[site] = SiteOutcome(**fields)
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


def _survey(snapshot: Snapshot, read_site: ReadSite) -> tuple[int, tuple[str, ...]]:
    settings = snapshot.settings
    found: set[str] = set()
    steps_ns: list[int] = []
    for site in snapshot.sources:
        sample: list[pa.Table] = []
        rows = 0
        for table in read_site(site):
            found.update(sensor_names(table.column_names))
            if settings.step_ns is None and rows < 50_000:
                sample.append(table.select(["event_time", "asset"]))
                rows += table.num_rows
        inferred = infer_step_ns(sample)
        if inferred is not None:
            steps_ns.append(inferred)
    if not found:
        raise NothingToDo(
            "no site has readings: nothing to train on; check the topics or the folder, then run again"
        )
    wanted = found if settings.sensors is None else set(settings.sensors) & found
    sensors = tuple(sorted(wanted - set(settings.exclude)))
    if not sensors:
        raise ConfigError(
            f"none of the wanted sensors {sorted(settings.sensors or ())} is left; the data has {', '.join(sorted(found))}"
        )
    if settings.step_ns is not None:
        return settings.step_ns, sensors
    if not steps_ns:
        raise NothingToDo(
            "no asset has two readings at different times: nothing to train on; wait for more data"
        )
    return int(np.sort(steps_ns)[len(steps_ns) // 2]), sensors


def _write_site(
    work: Path,
    site: str,
    runs: Sequence[Run],
    readings: int,
    sensors: tuple[str, ...],
    snapshot: Snapshot,
    fit_scaling: FitScaling,
) -> dict[str, Any]:
    steps = snapshot.settings.steps
    before, after = split_runs(runs, snapshot.settings.validation, steps)
    frame_counts = [count_frames([len(run.values) for run in part], steps=steps) for part in (before, after)]
    rows = [sum(len(run.values) for run in part) for part in (before, after)]
    reason = None
    if readings == 0:
        reason = "no data"
    elif frame_counts[0] == 0:
        longest = max((len(run.values) for run in before), default=0)
        reason = f"too short: its longest gap-free stretch has {longest} steps, a frame needs {steps}"
    end_ns = max((run.end_ns for run in runs), default=0)
    outcome = SiteOutcome(site, readings, len(runs), rows[0], rows[1], reason, end_ns=end_ns)
    if reason is not None:
        return {"outcome": asdict(outcome), "files": {}}
    training = np.concatenate([run.values for run in before])
    known = ~np.isnan(training)
    top = np.where(known, training, -np.inf).max(axis=0)
    bottom = np.where(known, training, np.inf).min(axis=0)
    silent = ~known.any(axis=0)
    outcome = SiteOutcome(
        site,
        readings,
        len(runs),
        rows[0],
        rows[1],
        None,
        constant=tuple(name for name, same in zip(sensors, (top == bottom) & ~silent, strict=True) if same),
        silent=tuple(name for name, never in zip(sensors, silent, strict=True) if never),
        end_ns=end_ns,
    )
    scaling = fit_scaling(training)
    files = {}
    for split, part in ((TRAIN, before), (VALIDATION, after)):
        name = f"{site}.{split}.tfrecord"
        write_shard(work / name, [scaling.apply(run.values) for run in part])
        files[name] = (work / name).stat().st_size
    return {
        "outcome": asdict(outcome),
        "files": files,
        "train_frames": frame_counts[0],
        "validation_frames": frame_counts[1],
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
